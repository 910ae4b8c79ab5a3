package rewrite

import (
	"strings"
)

type action int

const (
	keep    action = iota // as it is, and everything inside
	text                  // as it is; the notice may stand in it
	descend               // into a multipart
	detach
)

// A verdict is what is done with one entity.
type verdict struct {
	action   action
	boundary string // descend
	subtype  string // descend
	html     bool   // text
	name     string // detach
	mimeType string // detach
	encoding string // detach
}

// keptTypes are never detached. Signatures and what they sign lose their
// meaning when a byte changes; the others are read by the mail program itself.
var keptTypes = map[string]bool{
	"text/calendar":                 true,
	"application/pkcs7-mime":        true,
	"application/x-pkcs7-mime":      true,
	"application/pkcs7-signature":   true,
	"application/x-pkcs7-signature": true,
	"application/ms-tnef":           true,
	"application/vnd.ms-tnef":       true,
}

// closedMultiparts are not walked: signed and encrypted ones must not change,
// the others are one thing made of parts.
var closedMultiparts = map[string]bool{
	"signed":      true,
	"encrypted":   true,
	"report":      true,
	"appledouble": true,
	"digest":      true,
}

// decide is the table of what is detached: by structure first, then by policy.
// Whether a part is large enough shows only while it is decoded.
func decide(h *header, p place, w *walk) verdict {
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
		if html := ct.sub == "html"; w.isBody(html, p, attached) {
			return verdict{action: text, html: html}
		}
	}
	encoding := h.transferEncoding()
	switch {
	case p.parent == "alternative", ct.main == "text" && !attached:
		return verdict{}
	case !knownEncoding(encoding), w.cids.refersTo(h, p):
		return verdict{}
	}
	return verdict{action: detach, name: displayName(name, ct.String()), mimeType: ct.String(), encoding: encoding}
}

func decideMultipart(ct contentType) verdict {
	boundary := ct.params["boundary"]
	// Of boundary and boundary*, some programs know only one, others take either
	// (RFC 2231 section 3): what one of them finds, another does not.
	extended := strings.Contains(strings.ToLower(ct.value), "boundary*")
	if closedMultiparts[ct.sub] || !ct.sure || boundary == "" || extended {
		return verdict{}
	}
	return verdict{action: descend, boundary: boundary, subtype: ct.sub}
}

func duplicated(h *header, name string) bool {
	_, unique := h.one(name)
	return !unique
}

// isBody reports whether a text is the message's own: the first of its type
// where the text of a message stands, or anywhere if nothing says that it is a file.
func (w *walk) isBody(html bool, p place, attached bool) bool {
	for _, b := range w.bodies {
		if b.html == html {
			return false
		}
	}
	return p.leading || !attached
}

func knownEncoding(encoding string) bool {
	switch encoding {
	case "base64", "quoted-printable", "7bit", "8bit", "binary":
		return true
	}
	return false
}

// passes reports whether the header alone shows that nothing can be detached.
func passes(h *header, w *walk) bool {
	if h.has(RestoreField) {
		return true // rewritten once already
	}
	switch decide(h, place{leading: true}, w).action {
	case descend, detach:
		return false
	}
	return true
}
