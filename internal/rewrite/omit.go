package rewrite

import "slices"

// neverDelivered are the fields that Postfix takes out of every mail before it delivers it
// (message_drop_headers). A Bcc field names recipients that the others must not learn of (RFC 5322
// section 3.6.3).
var neverDelivered = []string{"Bcc", "Resent-Bcc", "Return-Path", "Content-Length"}

// without returns the header block without the fields that are never delivered and those named in
// more. Names match in any case. The result is h.raw itself if there is no such field.
func (h *header) without(more []string) []byte {
	omitted := func(f field) bool {
		is := func(name string) bool { return f.is(name) }
		return slices.ContainsFunc(neverDelivered, is) || slices.ContainsFunc(more, is)
	}
	var kept []byte
	pos := int64(0)
	for _, f := range h.fields {
		if omitted(f) {
			kept = append(kept, h.raw[pos:f.off]...)
			pos = f.end
		}
	}
	if pos == 0 {
		return h.raw
	}
	return append(kept, h.raw[pos:]...)
}
