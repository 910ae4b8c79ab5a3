package rewrite

import (
	"encoding/base64"
	"html"
	"io"
	"mime/quotedprintable"
	"net/url"
	"regexp"
	"strings"
)

// maxHTML is how much of an HTML text is searched for references. In a longer
// one everything counts as referred to.
const maxHTML = 4 << 20

// References are the Content-IDs that the message's HTML refers to (RFC 2392):
// pictures in the text, not attachments to it.
type references struct {
	ids     map[string]bool
	any     bool // the HTML could not be read: it may refer to anything
	hasHTML bool
}

var cidURL = regexp.MustCompile(`(?i)cid:([^"'<>\s)\\]+)`)

// collect notes what an HTML text in the spool refers to.
func (r *references) collect(s *Spool, b body) error {
	r.hasHTML = true
	if b.text.end-b.text.off > maxHTML {
		r.any = true
		return nil
	}
	var src io.Reader = s.Section(b.text.off, b.text.end)
	switch b.header.transferEncoding() {
	case "base64":
		src = base64.NewDecoder(base64.StdEncoding, src)
	case "quoted-printable":
		src = quotedprintable.NewReader(src)
	}
	text, err := io.ReadAll(src)
	if err != nil {
		r.any = true // what cannot be decoded is no reason to refuse a mail
		return nil
	}
	if r.ids == nil {
		r.ids = map[string]bool{}
	}
	for _, m := range cidURL.FindAllSubmatch(text, -1) {
		id := html.UnescapeString(string(m[1]))
		r.ids[id] = true
		if id, err := url.PathUnescape(id); err == nil {
			r.ids[id] = true
		}
	}
	return nil
}

// refersTo reports whether the HTML refers, or may refer, to the part.
func (r *references) refersTo(h *header, p place) bool {
	value, _ := h.one("Content-ID")
	if value == "" {
		return duplicated(h, "Content-ID")
	}
	if r.any || !r.hasHTML && p.parent == "related" {
		return true
	}
	id := strings.TrimSuffix(strings.TrimPrefix(value, "<"), ">")
	return r.ids[id]
}
