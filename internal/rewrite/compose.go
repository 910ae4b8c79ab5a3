package rewrite

import (
	"bytes"
	"cmp"
	"context"
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
	text []byte
}

// writeEdited writes a span of the spool with the edits applied. The edits must be in order and
// must not overlap. If there are spooled texts, they stand for those of the edits.
func writeEdited(w io.Writer, s *spool.Spool, whole span, edits []edit, spooled []span) (int64, error) {
	total, from := int64(0), whole.off
	for i, e := range append(edits[:len(edits):len(edits)], edit{span: span{whole.end, whole.end}}) {
		n, err := s.WriteSection(w, from, e.off)
		total += n
		if err != nil {
			return total, err
		}
		if i < len(spooled) {
			n, err = s.WriteSection(w, spooled[i].off, spooled[i].end)
		} else {
			var k int
			k, err = w.Write(e.text)
			n = int64(k)
		}
		total += n
		if err != nil {
			return total, err
		}
		from = e.end
	}
	return total, nil
}

// compose finds the changes and edits that turn the spool into the rewritten message.
func (m *Message) compose(ctx context.Context) error {
	n, err := m.describe(ctx)
	if err != nil {
		return err
	}
	bodies := ownTexts(m.walk.bodies)
	texts, err := readTexts(bodies, m.walk.spool)
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
	if len(m.walk.removed) == 0 {
		m.becomeNotice(n)
		return nil
	}
	return m.placeNotice(n, bodies, texts)
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
	object, err := m.walk.cuts.skeleton(m.walk.spool, m.walk.scan.total)
	if err != nil {
		return HeaderChange{}, err
	}
	l, err := m.walk.detacher.Detach(ctx, skeleton.Name, skeleton.Type, object)
	if err != nil {
		return HeaderChange{}, fmt.Errorf("store skeleton: %w", err)
	}
	return HeaderChange{Name: skeleton.Field, Value: l.URL()}, nil
}

// ownTexts returns the texts that take the notice: the message's own text and its alternative. Mail
// programs show later texts, like a mailing list's footer, below them, so a notice there would be a
// repetition.
func ownTexts(bodies []body) []body {
	if !slices.ContainsFunc(bodies, func(b body) bool { return b.leading }) {
		return bodies
	}
	return slices.DeleteFunc(slices.Clone(bodies), func(b body) bool { return !b.leading })
}

// readTexts reads and decodes texts from the spool. A text that cannot take a notice is nil.
func readTexts(bodies []body, s *spool.Spool) ([]*notice.Text, error) {
	texts := make([]*notice.Text, len(bodies))
	for i, b := range bodies {
		if b.text.end-b.text.off > notice.MaxText || !b.header.contentType().sure {
			continue
		}
		raw, err := io.ReadAll(s.Section(b.text.off, b.text.end))
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

// placeNotice removes the detached parts and puts the notice into every text of the message. If one
// of the texts cannot take it, the notice becomes a part of its own.
func (m *Message) placeNotice(n *notice.Notice, bodies []body, texts []*notice.Text) error {
	var edits []edit
	everywhere := len(texts) > 0
	for i, t := range texts {
		change, ok := t.Insert(n, m.walk.policy.Notice)
		if everywhere = ok; !ok {
			break
		}
		edits = append(edits, bodies[i].edits(change)...)
	}
	if !everywhere {
		edits = nil
	}
	for _, s := range m.walk.removed {
		edits = append(edits, edit{span: s})
	}
	lone := m.walk.lone
	if !everywhere {
		e, err := m.noticePart(n)
		if err != nil {
			return err
		}
		edits = append(slices.DeleteFunc(edits, func(r edit) bool { return r.span == e.span }), e)
		lone = slices.DeleteFunc(slices.Clone(lone), func(l lonePart) bool { return l.has(e.span) })
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.off, b.off) })
	edits, changes, err := m.walk.raise(lone, edits)
	m.edits, m.changes = edits, append(m.changes, changes...)
	return err
}

// edits returns the edits that change a text and its header.
func (b body) edits(c notice.Change) []edit {
	edits := []edit{{span{b.text.off + int64(c.Off), b.text.off + int64(c.End)}, c.Piece}}
	set := func(name, value string) {
		f := b.header.find(name)
		edits = append(edits, edit{span{b.start + f.off, b.start + f.end}, []byte(name + ": " + value + b.header.eol())})
	}
	if c.Encoding != "" {
		set("Content-Transfer-Encoding", c.Encoding)
	}
	if c.Charset != "" {
		set("Content-Type", b.header.typeWithCharset(c.Charset))
	}
	return edits
}

// noticePart returns the edit that makes the notice a part of its own. Without a multipart/mixed,
// it takes the place of the first removed part.
func (m *Message) noticePart(n *notice.Notice) (edit, error) {
	place := m.walk.insert
	if place == nil {
		first := m.walk.removed[0]
		place = &noticePlace{first, first.off}
	}
	head := make([]byte, min(maxDelimiterLine, m.walk.spool.Size()-place.delimiter))
	if _, err := m.walk.spool.ReadAt(head, place.delimiter); err != nil {
		return edit{}, err
	}
	delimiter, _ := lines.First(head)
	eol := lines.Ending(delimiter, "\r\n")
	content, encoding := n.Entity(eol)
	fields := "Content-Type: " + notice.ContentType + eol + "Content-Transfer-Encoding: " + encoding + eol + eol
	return edit{place.span, slices.Concat(delimiter, []byte(fields), content)}, nil
}

// becomeNotice turns a message of which nothing is left into a text message. Its body is the
// notice.
func (m *Message) becomeNotice(n *notice.Notice) {
	content, encoding := n.Entity(m.header.eol())
	m.changes = append(m.changes, m.header.removeContent(nil)...)
	if !m.header.has("MIME-Version") {
		m.changes = append(m.changes, HeaderChange{Name: "MIME-Version", Value: "1.0"})
	}
	m.changes = append(m.changes,
		HeaderChange{Name: "Content-Type", Value: notice.ContentType},
		HeaderChange{Name: "Content-Transfer-Encoding", Value: encoding})
	m.edits = []edit{{span{int64(len(m.header.raw)), m.walk.spool.Size()}, content}}
}

// edits returns the changes as edits of the header, in order.
func (h *header) edits(changes []HeaderChange) (edits []edit) {
	received := map[string][]span{}
	for _, f := range h.fields {
		name := strings.ToLower(string(f.name))
		received[name] = append(received[name], f.span)
	}
	for _, c := range changes {
		e := edit{h.end(), []byte(c.Name + ": " + c.Value + h.eol())}
		if c.Occurrence > 0 {
			e = edit{span: received[strings.ToLower(c.Name)][c.Occurrence-1]}
		}
		edits = append(edits, e)
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.off, b.off) })
	return edits
}
