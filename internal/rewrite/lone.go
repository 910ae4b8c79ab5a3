package rewrite

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite/notice"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// A lonePart is the only part that is left of a multipart/mixed. It takes the multipart's place, as
// if the sender had attached nothing: spam filters distrust a multipart/mixed without a file. If
// two parts are left, and both are plain text, the second is appended to the first: iPhones write
// one text above the files and one below. All offsets are in the spool.
type lonePart struct {
	start int64 // of the multipart's header
	body  int64 // of the multipart's body
	part  span  // the part with its header, without the delimiter line above it
	last  span  // the second text; the same as part if there is none
	end   int64 // of the multipart's body
}

// alone reports whether only one part is left.
func (l lonePart) alone() bool { return l.part == l.last }

// maxRaisedHeader bounds what a part's header adds to the header of the message. Postfix takes what
// is beyond 100 KiB of a header (header_size_limit) for the body.
const maxRaisedHeader = 8 << 10

// loneParts returns the lone parts of the mail, those of inner multiparts first. The multipart
// around has none: the notice is another part of it.
func (w *walk) loneParts(around *entity) (lone []lonePart) {
	w.root.each(func(e *entity) {
		left := e.left()
		n := len(left)
		if e.kind != kindMultipart || e.order != mixedOrder || !e.closed || e.more || e == around || n == len(e.parts) || n > 2 {
			return
		}
		back := slices.ContainsFunc(left, func(p *entity) bool { return p.back })
		if !back && w.memory.Take(maxRaisedHeader) {
			first, last := left[0], left[n-1]
			lone = append(lone, lonePart{start: e.start, body: e.body, part: span{first.start, first.end}, last: span{last.start, last.end}, end: e.end})
		}
	})
	return lone
}

// A raiser reads the lone parts and their multiparts from the spool.
type raiser struct{ spool *spool.Spool }

// raise returns the edits that put each lone part into the place of its multipart, together with
// the given ones, which must be in order. The changes are those of the message's own header.
func (r raiser) raise(lone []lonePart, edits []edit) (all []edit, changes []HeaderChange, err error) {
	for len(lone) > 0 {
		n := 1
		for n < len(lone) && lone[n].part.off == lone[n-1].start && lone[n].alone() {
			n++
		}
		raised, c, err := r.raiseNest(lone[:n], edits)
		if err != nil {
			return nil, nil, err
		}
		all, changes, lone = append(all, raised...), append(changes, c...), lone[n:]
	}
	return outermost(append(all, edits...)), changes, nil
}

// raiseNest raises a lone part through all multiparts of a nest: the multipart of each element is
// the part of the next one. A part that cannot be raised stays in its multipart, which is raised in
// its place.
func (r raiser) raiseNest(nest []lonePart, edits []edit) ([]edit, []HeaderChange, error) {
	inner, top := nest[0].part, nest[len(nest)-1]
	part, err := readHeaderAt(r.spool, inner)
	if err != nil {
		return nil, nil, err
	}
	if !part.raisable() {
		return r.raiseRest(nest, edits)
	}
	body := inner.off + int64(len(part.raw))
	part = parseHeader(edited(part.raw, moved(within(edits, span{inner.off, body}), -inner.off)))
	raised := []edit{{span: span{top.body, body}}, {span: span{nest[0].last.end, top.end}}}
	if !nest[0].alone() {
		between, ok, err := r.appended(&part, span{body, inner.end}, nest[0].last)
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			return r.raiseRest(nest, edits)
		}
		raised = slices.Insert(raised, 1, between)
	}
	for _, l := range nest {
		outer, err := readHeaderAt(r.spool, span{l.start, l.body})
		if err != nil {
			return nil, nil, err
		}
		changes := outer.replaceContent(&part)
		switch fields := outer.edits(changes); {
		case l.start == 0: // the message
			return raised, changes, nil
		case l == top:
			return append(moved(fields, top.start), raised...), nil, nil
		default:
			part = parseHeader(edited(outer.raw, fields))
		}
	}
	return raised, nil, nil
}

// raiseRest is raiseNest without the innermost part.
func (r raiser) raiseRest(nest []lonePart, edits []edit) ([]edit, []HeaderChange, error) {
	if len(nest) == 1 {
		return nil, nil, nil
	}
	return r.raiseNest(nest[1:], edits)
}

// appended returns the edit that appends the text of another part to the one in body, whose header
// is h. ok is false if the other text would then read differently.
func (r raiser) appended(h *header, body, other span) (between edit, ok bool, err error) {
	o, err := readHeaderAt(r.spool, other)
	if err != nil || !o.raisable() || other.end-other.off > notice.MaxText {
		return edit{}, false, err
	}
	text := span{other.off + int64(len(o.raw)), other.end}
	raw, err := io.ReadAll(r.spool.Section(text.off, text.end))
	if err != nil || !sameType(h, &o) || !notice.ReadTheSame(h.textBody(raw), o.textBody(raw)) {
		return edit{}, false, err
	}
	tail := make([]byte, min(3, body.end-body.off))
	if _, err := r.spool.ReadAt(tail, body.end-int64(len(tail))); err != nil && err != io.EOF {
		return edit{}, false, err
	}
	if bytes.HasSuffix(bytes.TrimRight(tail, "\r\n"), []byte("=")) {
		return edit{}, false, nil // a soft line break of quoted-printable would join the texts
	}
	between.span = span{body.end, text.off}
	if line, _ := lines.First(raw); len(bytes.TrimRight(line, "\r\n")) > 0 {
		between.text = []byte(h.eol()) // a blank line
	}
	return between, true, nil
}

// sameType reports whether two headers are those of plain texts that differ at most in charset and
// transfer encoding.
func sameType(a, b *header) bool {
	ca, cb := a.contentType(), b.contentType()
	delete(ca.params, "charset")
	delete(cb.params, "charset")
	return ca.sure && cb.sure && ca.String() == "text/plain" && cb.String() == "text/plain" && maps.Equal(ca.params, cb.params)
}

// readHeaderAt reads the header block at the beginning of a part. The result is bad if the part has
// no such block.
func readHeaderAt(s *spool.Spool, part span) (header, error) {
	r := bufio.NewReader(s.Section(part.off, part.end))
	var raw []byte
	for !endsHeader(raw) && len(raw) <= maxHeaderBytes {
		line, err := r.ReadBytes('\n')
		raw = append(raw, line...)
		if err == io.EOF {
			return header{bad: true}, nil
		}
		if err != nil {
			return header{}, err
		}
	}
	return parseHeader(raw), nil
}

// within returns the edits that begin in a span. The edits must be in order.
func within(edits []edit, s span) []edit {
	from, _ := slices.BinarySearchFunc(edits, s.off, compareOffset)
	to, _ := slices.BinarySearchFunc(edits, s.end, compareOffset)
	return edits[from:to]
}

func compareOffset(e edit, off int64) int { return cmp.Compare(e.off, off) }

// moved returns the edits moved by an offset.
func moved(edits []edit, by int64) []edit {
	edits = slices.Clone(edits)
	for i := range edits {
		edits[i].off += by
		edits[i].end += by
	}
	return edits
}

// edited returns b with the edits applied, which must be in order.
func edited(b []byte, edits []edit) []byte {
	var out []byte
	from := int64(0)
	for _, e := range edits {
		out = append(append(out, b[from:e.off]...), e.text...)
		from = e.end
	}
	return append(out, b[from:]...)
}

// outermost sorts edits, and leaves out those within a span that another one removes.
func outermost(edits []edit) []edit {
	slices.SortStableFunc(edits, func(a, b edit) int {
		if a.off == b.off && (a.end == a.off || b.end == b.off) { // an insertion comes before a removal
			return cmp.Compare(a.end, b.end)
		}
		return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(b.end, a.end))
	})
	end := int64(0)
	return slices.DeleteFunc(edits, func(e edit) bool {
		removed := e.off < end
		end = max(end, e.end)
		return removed
	})
}

// aboutMessage has the Content- fields that describe a message, not its body (RFC 2156; Exchange).
// The language is that of the body, but a part seldom names it.
var aboutMessage = map[string]bool{"content-language": true, "content-identifier": true, "content-return": true, "content-class": true}

// contentName returns the name of a field in lower case, and whether it is a Content- field.
func (f field) contentName() (name string, ok bool) {
	name = strings.ToLower(string(f.name))
	return name, strings.HasPrefix(name, "content-")
}

// raisable reports whether the part with header h can take the place of its multipart. A file stays
// a part, and so does a part about which mail programs may differ.
func (h *header) raisable() bool {
	if kind, _, _ := h.disposition(); h.bad || len(h.raw) > maxRaisedHeader || kind == "attachment" {
		return false
	}
	seen := map[string]bool{}
	for _, f := range h.fields {
		name, ok := f.contentName()
		if ok && seen[name] {
			return false
		}
		seen[name] = true
	}
	return true
}

// replaceContent returns the changes that replace the fields about the body by those of a part. The
// other fields of a part have no meaning (RFC 2045 section 3).
func (h *header) replaceContent(part *header) []HeaderChange {
	replaced := map[string]bool{}
	var added []HeaderChange
	for _, f := range part.fields {
		name, ok := f.contentName()
		if !ok || name == "content-length" { // the length is no longer true
			continue
		}
		replaced[name] = true
		value := bytes.TrimLeft(bytes.TrimSuffix(f.body, lines.End(f.body)), " \t\r\n")
		value = bytes.ReplaceAll(value, []byte("\r\n"), []byte("\n"))
		value = bytes.ReplaceAll(value, []byte("\n"), []byte(h.eol()))
		added = append(added, HeaderChange{Name: string(f.name), Value: string(value)})
	}
	return append(h.removeContent(replaced), added...)
}

// removeContent returns the changes that remove the fields about the body, and those whose names
// are in replaced, in lower case.
func (h *header) removeContent(replaced map[string]bool) (changes []HeaderChange) {
	seen := map[string]int{}
	for _, f := range h.fields {
		name, content := f.contentName()
		seen[name]++
		if replaced[name] || content && !aboutMessage[name] {
			value := bytes.TrimSuffix(f.body, lines.End(f.body))
			changes = append(changes, HeaderChange{string(f.name), seen[name], string(value)})
		}
	}
	return changes
}
