package rewrite

import (
	"iter"
	"slices"
)

// neverDelivered are the fields that Postfix takes out of every mail before it delivers it
// (message_drop_headers). A Bcc field names recipients that the others must not learn of (RFC 5322
// section 3.6.3).
var neverDelivered = []string{"Bcc", "Resent-Bcc", "Return-Path", "Content-Length"}

// without returns the header block in pieces, without the fields that are never delivered and those
// named in more. Names match in any case.
func (h *header) without(more []string) iter.Seq[[]byte] {
	omitted := func(f field) bool {
		return slices.ContainsFunc(neverDelivered, f.is) || slices.ContainsFunc(more, f.is)
	}
	return func(yield func([]byte) bool) {
		pos := int64(0)
		for _, f := range h.fields {
			if !omitted(f) {
				continue
			}
			if f.off > pos && !yield(h.raw[pos:f.off]) {
				return
			}
			pos = f.end
		}
		yield(h.raw[pos:])
	}
}
