package rewrite

import (
	"bytes"
	"html"
	"io"
	"net/url"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

const (
	// maxHTML bounds the HTML text that is searched. A longer one counts as referring to
	// everything.
	maxHTML = 4 << 20
	// maxReferences bounds the references counted, repeats included. HTML with more counts as
	// referring to everything; newsletters have a hundred.
	maxReferences = 10_000
	// maxContentID is the length of the longest line of a mail (RFC 5322 section 2.1.1).
	maxContentID = 998
)

// references has the Content-IDs that the message's HTML refers to (RFC 2392). They are pictures in
// the text, not attachments.
type references struct {
	ids     map[string]bool
	read    int  // repeats included
	any     bool // the HTML may refer to anything: it is over a limit, or could not be read
	hasHTML bool
}

// collect notes the references of an HTML text in the spool.
func (r *references) collect(s *spool.Spool, b body) error {
	r.hasHTML = true
	if b.text.end-b.text.off > maxHTML {
		r.any = true
		return nil
	}
	text := make([]byte, b.text.end-b.text.off)
	if _, err := s.ReadAt(text, b.text.off); err != nil && err != io.EOF {
		return err
	}
	if encoding := b.header.transferEncoding(); transfer.Known(encoding) {
		var err error
		text, _, err = transfer.DecodeText(encoding, text)
		r.any = err != nil
	}
	r.any = r.any || bytes.IndexByte(text, 0) >= 0 // UTF-16
	r.ids = map[string]bool{}
	for !r.any {
		i := bytes.IndexByte(text, ':')
		if i < 0 {
			break
		}
		isCID := i >= 3 && strings.EqualFold(string(text[i-3:i]), "cid")
		text = text[i+1:]
		if isCID {
			n := bytes.IndexAny(text[:min(len(text), maxContentID)], "\"'<>)\\ \t\r\n\f")
			if n < 0 {
				n = min(len(text), maxContentID)
			}
			r.add(string(text[:n]))
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
	value, unique := h.one("Content-ID")
	if value == "" {
		return !unique
	}
	if r.any || !r.hasHTML && p.parent == "related" {
		return true
	}
	id := strings.TrimSuffix(strings.TrimPrefix(value, "<"), ">")
	return r.ids[id]
}
