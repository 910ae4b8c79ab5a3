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
}

// collect notes the references of a text in the spool: in HTML, CSS, SVG or a calendar. It takes
// their memory from account, and without it counts the text as referring to everything.
func (r *references) collect(s *spool.Spool, b body, account *memory.Account) error {
	ct := b.header.contentType()
	r.hasHTML = r.hasHTML || ct.String() == "text/html"
	content := transfer.NewTextReader(b.header.transferEncoding(), s.Section(b.text.off, b.text.end))
	return r.set.Read(reference.Text{Type: ct.String(), Charset: ct.params["charset"], Content: content}, account)
}

// referable reports whether a text can refer to the part: by its Content-ID (RFC 2392) or its
// Content-Location (RFC 2557).
func referable(h *header) bool { return h.has("Content-ID") || h.has("Content-Location") }

// refersTo reports whether the texts collected so far refer, or may refer, to the part.
func (r *references) refersTo(h *header) bool {
	_, disposition, _ := h.disposition()
	return r.set.RefersTo(reference.Part{
		IDs: h.decoded("Content-ID"), Locations: h.decoded("Content-Location"),
		Name: fileName(disposition, h.contentType().value),
	})
}

// decoded returns the values of all fields of that name, each as received and with encoded words
// (RFC 2047) decoded.
func (h *header) decoded(name string) (values []string) {
	for _, f := range h.fields {
		if f.is(name) {
			value := f.value()
			values = append(values, value, decodeWords(value))
		}
	}
	return values
}
