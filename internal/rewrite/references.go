package rewrite

import (
	"bytes"
	"errors"
	"hash/maphash"
	"html"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/readahead"
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
	// htmlWindow is how much of an HTML text is in memory at a time.
	htmlWindow = 32 << 10
)

// references has the Content-IDs that the message's HTML refers to (RFC 2392), which are pictures
// in the text, not attachments. It keeps hashes with a random seed. Two Content-IDs with one hash
// would only keep a file in the mail, and a sender cannot choose them without the seed.
type references struct {
	seed    maphash.Seed
	ids     []uint64 // hashes
	sorted  bool
	read    int  // repeats included
	any     bool // the HTML may refer to anything: it is over a limit, or could not be read
	hasHTML bool
}

// collect notes the references of an HTML text in the spool. It takes their memory from account,
// and without it counts the text as referring to everything.
func (r *references) collect(s *spool.Spool, b body, account *memory.Account) error {
	r.hasHTML = true
	if b.text.end-b.text.off > maxHTML {
		r.any = true
	}
	if r.any {
		return nil
	}
	if r.ids == nil {
		r.seed = maphash.MakeSeed()
	}
	r.sorted = false
	content := transfer.NewTextReader(b.header.transferEncoding(), s.Section(b.text.off, b.text.end))
	text := make([]byte, 0, htmlWindow)
	for ended := false; !ended && !r.any; {
		n, err := readahead.Fill(content, text[len(text):cap(text)])
		text = text[:len(text)+n]
		switch {
		case errors.Is(err, transfer.ErrDamaged):
			r.any = true
		case err == io.EOF:
			ended = true
		case err != nil:
			return err
		}
		rest := r.scan(text, ended, account)
		text = text[:copy(text[:cap(text)], rest)]
	}
	return nil
}

// scan notes the references in text, and returns the rest that the following text decides about.
// ended says that no text follows.
func (r *references) scan(text []byte, ended bool, account *memory.Account) (rest []byte) {
	r.any = r.any || bytes.IndexByte(text, 0) >= 0 // UTF-16
	for !r.any {
		i := bytes.IndexByte(text, ':')
		if i < 0 {
			return text[max(0, len(text)-len("cid")):]
		}
		id := text[i+1:]
		if i < len("cid") || !strings.EqualFold(string(text[i-len("cid"):i]), "cid") {
			text = id
			continue
		}
		n := bytes.IndexAny(id[:min(len(id), maxContentID)], "\"'<>)\\ \t\r\n\f")
		if n < 0 && len(id) < maxContentID && !ended {
			return text[i-len("cid"):]
		}
		if n < 0 {
			n = min(len(id), maxContentID)
		}
		r.add(string(id[:n]), account)
		text = id
	}
	return nil
}

// add notes an id as written in HTML, which may be escaped for HTML, and for a URL too.
func (r *references) add(id string, account *memory.Account) {
	id = html.UnescapeString(id)
	r.note(id, account)
	if path, err := url.PathUnescape(id); err == nil && path != id {
		r.note(path, account)
	}
	r.read++
	r.any = r.any || r.read > maxReferences
}

func (r *references) note(id string, account *memory.Account) {
	if len(r.ids) == cap(r.ids) {
		more := max(64, cap(r.ids))
		// While the slice grows, both its old and its new array are in memory.
		if r.any = r.any || !account.Take(int64(2*more*8)); r.any {
			return
		}
		r.ids = slices.Grow(r.ids, more)
	}
	r.ids = append(r.ids, maphash.String(r.seed, id))
}

func (r *references) has(id string) bool {
	if len(r.ids) == 0 {
		return false
	}
	if !r.sorted {
		slices.Sort(r.ids)
		r.sorted = true
	}
	_, found := slices.BinarySearch(r.ids, maphash.String(r.seed, id))
	return found
}

// referable reports whether a text can refer to the part: by its Content-ID (RFC 2392) or its
// Content-Location (RFC 2557).
func referable(h *header) bool { return h.has("Content-ID") || h.has("Content-Location") }

// refersTo reports whether the texts collected so far refer, or may refer, to the part.
func (r *references) refersTo(h *header) bool {
	value, unique := h.one("Content-ID")
	if value == "" {
		return !unique
	}
	id := strings.TrimSuffix(strings.TrimPrefix(value, "<"), ">")
	return r.any || r.has(id)
}
