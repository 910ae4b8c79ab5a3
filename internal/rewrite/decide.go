package rewrite

import (
	"slices"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/filename"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

type action int

const (
	actionKeep    action = iota // keep the entity unchanged, with everything in it
	actionText                  // keep the text, which may take the notice
	actionDescend               // walk the parts of a multipart
	actionDetach
)

// A verdict says what to do with one entity.
type verdict struct {
	action   action
	boundary string // actionDescend
	subtype  string // actionDescend
	html     bool   // actionText
	name     string // actionDetach
	mimeType string // actionDetach
	encoding string // actionDetach
}

// keptTypes are never detached. Signatures and signed content become invalid when a byte changes;
// mail programs read the other types themselves.
var keptTypes = map[string]bool{
	"text/calendar": true, "application/ms-tnef": true, "application/vnd.ms-tnef": true,
	"application/pkcs7-mime": true, "application/x-pkcs7-mime": true,
	"application/pkcs7-signature": true, "application/x-pkcs7-signature": true,
}

// closedMultiparts are not walked: signed and encrypted ones must not change, and the parts of the
// others belong together.
var closedMultiparts = map[string]bool{"signed": true, "encrypted": true, "report": true, "appledouble": true, "digest": true}

// decide is the table of what is detached. bodies are the message's texts so far, and refs are the
// references in its HTML. The size of a part is known only once it is decoded, so it does not count
// here.
func decide(h *header, p place, bodies []body, refs *references) verdict {
	if h.bad {
		return verdict{}
	}
	ct := h.contentType()
	_, uniqueType := h.one("Content-Type")
	kind, dispositionValue, unique := h.disposition()
	switch {
	case ct.main == "multipart":
		return decideMultipart(ct)
	case !uniqueType, !unique:
		return verdict{}
	case ct.main == "message", keptTypes[ct.String()], ct.main == "application" && strings.HasPrefix(ct.sub, "pgp-"):
		return verdict{}
	}
	name := fileName(dispositionValue, ct.value, func() []string { return charsetsOf(bodies) })
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
	case !transfer.Known(encoding), refs.refersTo(h):
		return verdict{}
	case p.parent == "related" && !refs.hasHTML && h.has("Content-ID"): // the HTML may follow
		return verdict{}
	}
	return verdict{
		action: actionDetach, encoding: encoding, // the copies do not keep the header in memory
		name: strings.Clone(displayName(name, ct.String())), mimeType: strings.Clone(filename.Clip(ct.String())),
	}
}

func decideMultipart(ct contentType) verdict {
	boundary := ct.params["boundary"]
	// Programs differ about boundary and boundary* (RFC 2231 section 3): some know only one of
	// them, others take either, so they find different parts.
	extended := strings.Contains(strings.ToLower(ct.value), "boundary*")
	if closedMultiparts[ct.sub] || !ct.sure || boundary == "" || extended {
		return verdict{}
	}
	// The copies do not keep the header in memory.
	return verdict{action: actionDescend, boundary: strings.Clone(boundary), subtype: strings.Clone(ct.sub)}
}

// isBody reports whether a text is the message's own: the first of its type, in the place of a
// message's text or not marked as a file.
func isBody(bodies []body, html bool, p place, attached bool) bool {
	return (p.leading || !attached) && !slices.ContainsFunc(bodies, func(b body) bool { return b.html == html })
}

// charsetsOf returns the charsets of the first texts.
func charsetsOf(bodies []body) (charsets []string) {
	for _, b := range bodies[:min(len(bodies), 8)] {
		if c := b.header.contentType().params["charset"]; c != "" {
			charsets = append(charsets, c)
		}
	}
	return charsets
}

// passes reports whether the header alone shows that nothing can be detached.
func passes(h *header) bool {
	if h.has(skeleton.Field) {
		return true // it was rewritten before
	}
	a := decide(h, place{leading: true}, nil, &references{}).action
	return a != actionDescend && a != actionDetach
}
