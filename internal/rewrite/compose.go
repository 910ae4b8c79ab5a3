package rewrite

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/lines"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite/notice"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// An edit replaces a span of the spool by text. With an empty span it inserts the text.
type edit struct {
	span
	text    []byte
	spooled span // text, if it is in the spool
}

// writeEdited writes a span of the spool with the edits applied. The edits must be in order and
// must not overlap.
func writeEdited(w io.Writer, s *spool.Spool, whole span, edits []edit) (int64, error) {
	total, from := int64(0), whole.off
	write := func(n int64, err error) error {
		total += n
		return err
	}
	for _, e := range append(edits[:len(edits):len(edits)], edit{span: span{whole.end, whole.end}}) {
		if err := write(s.WriteSection(w, from, e.off)); err != nil {
			return total, err
		}
		n, err := w.Write(e.text)
		if err := write(int64(n), err); err != nil {
			return total, err
		}
		if err := write(s.WriteSection(w, e.spooled.off, e.spooled.end)); err != nil {
			return total, err
		}
		from = e.end
	}
	return total, nil
}

// compose finds the changes and edits that turn the spool into the rewritten message. The notice
// goes to the spot.
func (m *Message) compose(ctx context.Context, s spot) error {
	n, err := m.describe(ctx)
	if err != nil {
		return err
	}
	texts, err := m.walk.readTexts(s.texts)
	if err != nil {
		return err
	}
	language, _ := m.header.one("Content-Language")
	n.Language = notice.ChooseLanguage(m.walk.policy.Language, language, notice.Beginning(texts))
	if m.walk.policy.Restore {
		c, err := m.storeSkeleton(ctx)
		if err != nil {
			return fmt.Errorf("save the original: %w", err)
		}
		m.changes = append(m.changes, c)
	}
	if m.walk.root.kind == kindGone {
		m.becomeNotice(n)
		return nil
	}
	return m.placeNotice(n, s, texts)
}

// describe stores the mail's file list, and returns the notice without its language.
func (m *Message) describe(ctx context.Context) (*notice.Notice, error) {
	n := &notice.Notice{Operator: m.walk.policy.Operator, Expires: m.walk.detacher.Expires()}
	if n.Operator == "" {
		n.Operator = m.walk.cuts.list[0].link.Host()
	}
	for _, c := range m.walk.cuts.list {
		n.Files = append(n.Files, notice.File{Name: c.name, Type: c.mediaType, Size: c.size, Link: c.link.URL()})
	}
	list, err := m.walk.cuts.fileList()
	if err != nil || list == nil {
		return n, err
	}
	l, err := m.walk.detacher.Detach(ctx, filelist.Name, filelist.Type, bytes.NewReader(list))
	if err != nil {
		return nil, fmt.Errorf("store file list: %w", err)
	}
	l.All = true
	n.All = l.URL()
	return n, nil
}

// storeSkeleton stores the skeleton and returns the field that links to it.
func (m *Message) storeSkeleton(ctx context.Context) (HeaderChange, error) {
	object := m.walk.cuts.skeleton(m.walk.spool, m.walk.end, m.walk.scan.total)
	l, err := m.walk.detacher.Detach(ctx, skeleton.Name, skeleton.Type, object)
	if err != nil {
		return HeaderChange{}, fmt.Errorf("store skeleton: %w", err)
	}
	return HeaderChange{Name: skeleton.Field, Value: l.URL()}, nil
}

// readTexts reads and decodes texts. A text that cannot take a notice is nil.
func (w *walk) readTexts(from []*entity) ([]*notice.Text, error) {
	texts := make([]*notice.Text, len(from))
	for i, e := range from {
		b := e.text
		if b.text.size() > notice.MaxText || !b.header.contentType().sure {
			continue
		}
		raw, err := io.ReadAll(w.spool.Section(b.text.off, b.text.end))
		if err != nil {
			return nil, err
		}
		texts[i], _ = notice.Read(b.header.textBody(raw))
	}
	return texts, nil
}

// textBody returns a text whose header is h.
func (h *header) textBody(raw []byte) notice.Body {
	ct := h.contentType()
	return notice.Body{
		Raw: raw, Encoding: h.transferEncoding(), Charset: ct.params["charset"],
		HTML: ct.sub == "html", Flowed: strings.EqualFold(ct.params["format"], "flowed"), EOL: h.eol(),
	}
}

// placeNotice puts the notice into the texts of its spot, and removes the detached parts. If one of
// the texts cannot take it, the notice becomes a part of its own.
func (m *Message) placeNotice(n *notice.Notice, s spot, texts []*notice.Text) error {
	edits := m.walk.cuts.returned
	position := notice.Place(texts, m.walk.policy.Notice)
	for i, t := range texts {
		if s.apart {
			break
		}
		change, ok := t.Insert(n, position)
		if !ok {
			s.apart, s.beside, edits = true, s.texts[i], m.walk.cuts.returned
			break
		}
		edits = append(edits[:len(edits):len(edits)], s.texts[i].edits(change)...)
	}
	var around *entity
	if s.apart {
		var own []edit
		var err error
		if around, own, err = m.noticePart(n, s.beside); err != nil {
			return err
		}
		edits = append(edits[:len(edits):len(edits)], own...) // before the removals at the same offset
	}
	edits = append(edits[:len(edits):len(edits)], m.walk.root.removed()...)
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.off, b.off) })
	edits, changes, err := raiser{m.walk.spool}.raise(m.walk.loneParts(around), edits)
	m.edits, m.changes = edits, append(m.changes, changes...)
	return err
}

// edits returns the edits that change a text and its header.
func (e *entity) edits(c notice.Change) []edit {
	b := e.text
	edits := []edit{{span: span{b.text.off + int64(c.Off), b.text.off + int64(c.End)}, text: c.Piece}}
	set := func(name, value string) {
		f := b.header.find(name)
		edits = append(edits, edit{span: span{e.start + f.off, e.start + f.end}, text: []byte(name + ": " + value + b.header.eol())})
		for _, again := range b.header.fields {
			if again.is(name) && again.off != f.off { // a second field would contradict the new value
				edits = append(edits, edit{span: span{e.start + again.off, e.start + again.end}})
			}
		}
	}
	if c.Encoding != "" {
		set("Content-Transfer-Encoding", c.Encoding)
	}
	if c.Charset != "" {
		set("Content-Type", b.header.typeWithCharset(c.Charset))
	}
	return edits
}

// noticePart returns the edits that make the notice a part of its own, and the multipart in which
// it then stands. It stands below the text beside, or above all parts if beside is nil. If no
// multipart around that text shows all its parts, the message becomes a multipart/mixed of its
// former body and the notice; then around is nil.
func (m *Message) noticePart(n *notice.Notice, beside *entity) (around *entity, edits []edit, err error) {
	part, above := beside, m.walk.policy.Notice == Top
	if beside == nil {
		above = true
		if len(m.walk.root.parts) > 0 {
			part = m.walk.root.parts[0]
		}
	}
	for part != nil && !part.parent.whole() {
		part = part.parent
	}
	if part == nil || part.parent == nil {
		return nil, m.wrap(n, above), nil
	}
	head := make([]byte, min(maxDelimiterLine, m.walk.end-part.from))
	if _, err := m.walk.spool.ReadAt(head, part.from); err != nil {
		return nil, nil, err
	}
	delimiter, _ := lines.First(head)
	eol := lines.Ending(delimiter, "\r\n")
	at := part.end
	if above || !part.ended {
		at = part.from
	}
	return part.parent, []edit{{span: span{at, at}, text: slices.Concat(delimiter, noticeEntity(n, eol))}}, nil
}

// noticeEntity returns the notice as an entity with a header.
func noticeEntity(n *notice.Notice, eol string) []byte {
	content, encoding := n.Entity(eol)
	return append([]byte("Content-Type: "+notice.ContentType+eol+"Content-Transfer-Encoding: "+encoding+eol+eol), content...)
}

// wrap puts the body of the message into a multipart/mixed, beside the notice.
func (m *Message) wrap(n *notice.Notice, above bool) []edit {
	eol, delimiter := m.header.eol(), "--"+m.boundary()
	notice := append([]byte(delimiter+eol), noticeEntity(n, eol)...)
	head := []byte(delimiter + eol)
	for _, f := range m.header.fields {
		if name, ok := f.contentName(); ok && !aboutMessage[name] && name != "content-length" {
			head = append(head, m.header.raw[f.off:f.end]...)
		}
	}
	head = append(head, eol...)
	tail := []byte(eol)
	if above {
		head = append(notice, head...)
	} else {
		tail = append(tail, notice...)
	}
	tail = append(tail, delimiter+"--"+eol...)
	fields := []HeaderChange{{Name: "Content-Type", Value: "multipart/mixed; boundary=\"" + m.boundary() + "\""}}
	if encoding := m.header.transferEncoding(); encoding == "8bit" || encoding == "binary" {
		// RFC 2045 section 6.4: a multipart must say what its parts need.
		fields = append(fields, HeaderChange{Name: "Content-Transfer-Encoding", Value: encoding})
	}
	m.replaceContent(fields...)
	begin, end := int64(len(m.header.raw)), m.walk.end
	return []edit{{span: span{begin, begin}, text: head}, {span: span{end, end}, text: tail}}
}

// boundary returns a boundary that no sender can foresee: it depends on a CID, which depends on a
// random key.
func (m *Message) boundary() string {
	sum := sha256.Sum256(m.walk.cuts.list[0].link.CID.Bytes())
	return fmt.Sprintf("detach-%x", sum[:12])
}

// replaceContent replaces the fields about the message's body.
func (m *Message) replaceContent(by ...HeaderChange) {
	m.changes = append(m.changes, m.header.removeContent(nil)...)
	if !m.header.has("MIME-Version") {
		m.changes = append(m.changes, HeaderChange{Name: "MIME-Version", Value: "1.0"})
	}
	m.changes = append(m.changes, by...)
}

// becomeNotice turns a message of which nothing is left into a text message. Its body is the
// notice.
func (m *Message) becomeNotice(n *notice.Notice) {
	content, encoding := n.Entity(m.header.eol())
	m.replaceContent(
		HeaderChange{Name: "Content-Type", Value: notice.ContentType},
		HeaderChange{Name: "Content-Transfer-Encoding", Value: encoding})
	m.edits = []edit{{span: span{int64(len(m.header.raw)), m.walk.end}, text: content}}
}

// edits returns the changes as edits of the header, in order.
func (h *header) edits(changes []HeaderChange) (edits []edit) {
	received := map[string][]span{}
	for _, f := range h.fields {
		name := strings.ToLower(string(f.name))
		received[name] = append(received[name], f.span)
	}
	for _, c := range changes {
		e := edit{span: h.end(), text: []byte(c.Name + ": " + c.Value + h.eol())}
		if c.Occurrence > 0 {
			e = edit{span: received[strings.ToLower(c.Name)][c.Occurrence-1]}
		}
		edits = append(edits, e)
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.off, b.off) })
	return edits
}
