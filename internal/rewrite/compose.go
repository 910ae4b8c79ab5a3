package rewrite

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// RestoreField names the header field with the link to what restoring needs.
const RestoreField = skeleton.Field

// compose returns the edits that turn the spool into the rewritten message.
func (w *walk) compose(h *header) ([]edit, error) {
	if len(w.cuts) == 0 {
		return nil, nil
	}
	n := &notice{files: w.cuts, expires: w.detacher.Expires()}
	var err error
	if n.all, err = w.storeManifest(); err != nil {
		return nil, err
	}
	texts, err := w.texts()
	if err != nil {
		return nil, err
	}
	n.words = chooseLanguage(w.policy.Language, h, beginning(texts))
	var edits []edit
	if len(w.removed) == 0 {
		edits = n.asMessage(h)
	} else if edits, err = w.placeNotice(n, texts); err != nil {
		return nil, err
	}
	if w.policy.Restore {
		e, err := w.restoreField(h)
		if err != nil {
			return nil, fmt.Errorf("store what restoring needs: %w", err)
		}
		edits = append([]edit{e}, edits...) // before a body that begins at the same place
	}
	sortEdits(edits)
	return edits, nil
}

// texts reads the texts that the notice belongs in: the message's own and its
// alternative. One that comes after them, such as a mailing list's footer, is
// shown with them, and would say it twice. A text that cannot be read is nil.
func (w *walk) texts() ([]*inserter, error) {
	leading := slices.ContainsFunc(w.bodies, func(b body) bool { return b.leading })
	var texts []*inserter
	for _, b := range w.bodies {
		if leading && !b.leading {
			continue
		}
		in, err := b.read(w.spool)
		if err != nil {
			return nil, err
		}
		texts = append(texts, in)
	}
	return texts, nil
}

// beginning is some of what the sender wrote, to tell its language by.
func beginning(texts []*inserter) string {
	for _, in := range texts {
		switch {
		case in == nil:
		case in.body.html:
			return htmlText(in.text, maxDetect)
		case strings.TrimSpace(in.text) != "":
			return in.text
		}
	}
	return ""
}

// placeNotice takes the detached parts out and puts the notice into every text
// of the message, or where the first part was if a text cannot take it.
func (w *walk) placeNotice(n *notice, texts []*inserter) ([]edit, error) {
	var edits []edit
	everywhere := len(texts) > 0
	for _, in := range texts {
		if in == nil {
			everywhere = false
			break
		}
		inserted, ok := in.insert(n, w.policy.Notice)
		everywhere = everywhere && ok
		edits = append(edits, inserted...)
	}
	if !everywhere {
		edits = nil
	}
	for i, s := range w.removed {
		e := edit{span: s}
		if i == 0 && !everywhere {
			part, err := n.asPart(w.spool, s)
			if err != nil {
				return nil, err
			}
			e.text = part
		}
		edits = append(edits, e)
	}
	return edits, nil
}

// asPart is the notice as a part of its own in place of the one at s, whose
// delimiter line it keeps.
func (n *notice) asPart(s *spool.Spool, gone span) ([]byte, error) {
	head := make([]byte, min(maxDelimiterLine, gone.end-gone.off))
	if _, err := s.ReadAt(head, gone.off); err != nil {
		return nil, err
	}
	line, _ := firstLine(head)
	eol := eolOf(line)
	part := append([]byte(nil), line...)
	return append(part, n.entity(eol)...), nil
}

// entity is the notice as an entity: its header, and it as text.
func (n *notice) entity(eol string) []byte {
	content, encoding := []byte(strings.ReplaceAll(n.text(false)+"\n", "\n", eol)), "7bit"
	if !isASCII(content) {
		content, encoding = encodeQuoted(content, eol), "quoted-printable"
	}
	head := "Content-Type: text/plain; charset=utf-8" + eol + "Content-Transfer-Encoding: " + encoding + eol + eol
	return append([]byte(head), content...)
}

// asMessage makes a message that was nothing but an attachment into a text
// message: other Content- fields, and the notice for its body.
func (n *notice) asMessage(h *header) []edit {
	eol := eolOf(h.raw)
	var edits []edit
	for pos, drop := 0, false; pos < h.bodyless(); {
		line, _ := firstLine(h.raw[pos:])
		if line[0] != ' ' && line[0] != '\t' {
			name := strings.ToLower(string(line))
			drop = strings.HasPrefix(name, "content-") && !strings.HasPrefix(name, "content-language")
		}
		if drop {
			edits = append(edits, edit{span: span{int64(pos), int64(pos + len(line))}})
		}
		pos += len(line)
	}
	entity := n.entity(eol)
	if !h.has("MIME-Version") {
		entity = append([]byte("MIME-Version: 1.0"+eol), entity...)
	}
	// The entity brings its own blank line, in place of the message's.
	return append(edits, edit{span{int64(h.bodyless()), int64(len(h.raw))}, entity})
}
