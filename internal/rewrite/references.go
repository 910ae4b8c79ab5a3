package rewrite

import (
	"bytes"
	"encoding/base64"
	"html"
	"io"
	"mime/quotedprintable"
	"net/url"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

const (
	// maxHTML is how much of an HTML text is searched for references. In a
	// longer one everything counts as referred to.
	maxHTML = 4 << 20
	// maxReferences bounds what is read and remembered, the same one again and
	// again included; with more, everything counts as referred to. Newsletters
	// have a hundred.
	maxReferences = 10_000
	// maxContentID is the longest line of a mail (RFC 5322 section 2.1.1).
	maxContentID = 998
)

// References are the Content-IDs that the message's HTML refers to (RFC 2392):
// pictures in the text, not attachments to it.
type references struct {
	ids     map[string]bool
	read    int  // one may stand in the HTML more than once
	any     bool // the HTML could not be read: it may refer to anything
	hasHTML bool
}

// collect notes what an HTML text in the spool refers to.
func (r *references) collect(s *spool.Spool, b body) error {
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
	text := bytes.NewBuffer(make([]byte, 0, b.text.end-b.text.off+bytes.MinRead))
	_, err := text.ReadFrom(src)
	if err != nil || bytes.IndexByte(text.Bytes(), 0) >= 0 {
		r.any = true // damaged, or UTF-16: no reason to refuse a mail
		return nil
	}
	r.ids = map[string]bool{}
	for rest := text.Bytes(); !r.any; {
		i := bytes.IndexByte(rest, ':')
		if i < 0 {
			return nil
		}
		isCID := i >= 3 && strings.EqualFold(string(rest[i-3:i]), "cid")
		rest = rest[i+1:]
		if isCID {
			n := bytes.IndexAny(rest[:min(len(rest), maxContentID)], "\"'<>)\\ \t\r\n\f")
			if n < 0 {
				n = min(len(rest), maxContentID)
			}
			r.add(string(rest[:n]))
		}
	}
	return nil
}

func (r *references) add(id string) {
	id = html.UnescapeString(id)
	r.ids[id] = true
	if id, err := url.PathUnescape(id); err == nil {
		r.ids[id] = true
	}
	r.read++
	r.any = r.read > maxReferences
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
