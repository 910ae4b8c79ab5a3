package rewrite

import (
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite/reference"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// references has what the texts of a mail refer to.
type references struct {
	set     reference.Set
	hasHTML bool // a text in HTML was read
	read    int  // how many texts were read
}

// collect notes the references of a text in the spool: in HTML, CSS, SVG or a calendar. It takes
// their memory from account, and without it counts the text as referring to everything.
func (r *references) collect(s *spool.Spool, b body, account *memory.Account) error {
	ct := b.header.contentType()
	r.read++
	r.hasHTML = r.hasHTML || ct.String() == "text/html"
	text := reference.Text{Type: ct.String(), Charset: ct.params["charset"]}
	if encoding := b.header.transferEncoding(); transfer.Known(encoding) {
		text.Content = transfer.NewTextReader(encoding, s.Section(b.text.off, b.text.end))
	}
	return r.set.Read(text, account)
}

// referable reports whether a text can refer to the part: by its Content-ID (RFC 2392) or its
// Content-Location (RFC 2557).
func referable(h *header) bool { return h.has("Content-ID") || h.has("Content-Location") }

// maxNames bounds the fields of one name in a part that are compared. A part with more is kept.
const maxNames = 4

// refersTo reports whether the texts collected so far refer, or may refer, to the part with header h
// and that file name.
func (r *references) refersTo(h *header, name string) bool {
	ids, locations := h.all("Content-ID"), h.all("Content-Location")
	if len(ids) > maxNames || len(locations) > maxNames {
		return true
	}
	if r.set.Empty() {
		return false
	}
	return r.set.RefersTo(reference.Part{IDs: withWordsDecoded(ids), Locations: withWordsDecoded(locations), Name: name})
}

// all returns the values of all fields of that name.
func (h *header) all(name string) (values []string) {
	for _, f := range h.fields {
		if f.is(name) {
			values = append(values, f.value())
		}
	}
	return values
}

// withWordsDecoded returns each value as received, and with encoded words (RFC 2047) decoded.
func withWordsDecoded(values []string) (all []string) {
	for _, value := range values {
		all = append(all, value)
		if decoded := decodeWords(value); decoded != value {
			all = append(all, decoded)
		}
	}
	return all
}
