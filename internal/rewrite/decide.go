package rewrite

import (
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

type action int

const (
	actionKeep    action = iota // unchanged, with everything inside
	actionText                  // kept, and the notice may stand in it
	actionDescend               // into a multipart
	actionDetach
)

// A verdict is what is done with one entity.
type verdict struct {
	action   action
	boundary string // actionDescend
	subtype  string // actionDescend
	html     bool   // actionText
	name     string // actionDetach
	mimeType string // actionDetach
	encoding string // actionDetach
}

// keptTypes are never detached. Signatures and what they sign lose their meaning when a byte
// changes; the others are read by the mail program itself.
var keptTypes = map[string]bool{
	"text/calendar":                 true,
	"application/pkcs7-mime":        true,
	"application/x-pkcs7-mime":      true,
	"application/pkcs7-signature":   true,
	"application/x-pkcs7-signature": true,
	"application/ms-tnef":           true,
	"application/vnd.ms-tnef":       true,
}

// closedMultiparts are not walked: signed and encrypted ones must not change, the others are one
// thing made of parts.
var closedMultiparts = map[string]bool{
	"signed":      true,
	"encrypted":   true,
	"report":      true,
	"appledouble": true,
	"digest":      true,
}

// decide is the table of what is detached. bodies are the message's texts so far, and refs what its
// HTML refers to. Whether a part is large enough shows only while it is decoded.
func decide(h *header, p place, bodies []body, refs *references) verdict {
	if h.bad {
		return verdict{}
	}
	ct := h.contentType()
	kind, dispositionValue, unique := h.disposition()
	switch {
	case ct.main == "multipart":
		return decideMultipart(ct)
	case !ct.sure && duplicated(h, "Content-Type"), !unique:
		return verdict{}
	case ct.main == "message", keptTypes[ct.String()], ct.main == "application" && strings.HasPrefix(ct.sub, "pgp-"):
		return verdict{}
	}
	name := fileName(dispositionValue, ct.value)
	attached := kind == "attachment" || name != ""
	if ct.String() == "text/plain" || ct.String() == "text/html" {
		if html := ct.sub == "html"; isBody(bodies, html, p, attached) {
			return verdict{action: actionText, html: html}
		}
	}
	encoding := h.transferEncoding()
	switch {
	case p.parent == "alternative", ct.main == "text" && !attached:
		return verdict{}
	case !transfer.Known(encoding), refs.refersTo(h, p):
		return verdict{}
	}
	return verdict{action: actionDetach, name: displayName(name, ct.String()), mimeType: ct.String(), encoding: encoding}
}

func decideMultipart(ct contentType) verdict {
	boundary := ct.params["boundary"]
	// Some programs know only one of boundary and boundary*, others take either (RFC 2231 section
	// 3), so they find different parts.
	extended := strings.Contains(strings.ToLower(ct.value), "boundary*")
	if closedMultiparts[ct.sub] || !ct.sure || boundary == "" || extended {
		return verdict{}
	}
	return verdict{action: actionDescend, boundary: boundary, subtype: ct.sub}
}

func duplicated(h *header, name string) bool {
	_, unique := h.one(name)
	return !unique
}

// isBody reports whether a text is the message's own: the first of its type where the text of a
// message stands, or anywhere if it is not marked as a file.
func isBody(bodies []body, html bool, p place, attached bool) bool {
	for _, b := range bodies {
		if b.html == html {
			return false
		}
	}
	return p.leading || !attached
}

// passes reports whether the header alone shows that nothing can be detached.
func passes(h *header) bool {
	if h.has(skeleton.Field) {
		return true // rewritten once already
	}
	a := decide(h, place{leading: true}, nil, &references{}).action
	return a != actionDescend && a != actionDetach
}
