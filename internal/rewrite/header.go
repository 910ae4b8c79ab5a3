package rewrite

import (
	"bytes"
	"fmt"
	"mime"
	"slices"
	"strings"
)

const (
	// maxHeaderBytes is twice and a half what Postfix keeps of a header.
	maxHeaderBytes = 256 << 10
	// maxHeaderLines bounds what a header of a million empty fields costs.
	maxHeaderLines = 8192
)

// A header is the header block of the message or of one part.
type header struct {
	raw    []byte // with the blank line that ends it, if there is one
	fields []field
	bad    bool // it cannot be parsed, or is over a limit
}

// A field is one of a header's, as it stands there: what is before its first colon, and what is behind with the lines that continue it.
type field struct{ name, body []byte }

func parseHeader(raw []byte) header {
	h := header{raw: raw}
	if len(raw) > maxHeaderBytes || bytes.Count(raw, []byte("\n")) > maxHeaderLines {
		h.bad = true
		return h
	}
	fields, ok := splitFields(raw[mboxLine(raw):])
	h.fields, h.bad = fields, !ok
	return h
}

// splitFields reads fields up to a blank line (RFC 5322 section 2.2), and whether all is well with them. What is a field, and what it
// says, go-message's textproto would say as well, and copy each of them.
func splitFields(b []byte) (fields []field, ok bool) {
	fields = make([]field, 0, 16)
	for len(b) > 0 {
		line, _ := firstLine(b)
		if s := string(line); s == "\n" || s == "\r\n" {
			break
		}
		if isBlank(b[0]) {
			return fields, false // it continues nothing
		}
		n := len(line)
		for n < len(b) && isBlank(b[n]) {
			line, _ = firstLine(b[n:])
			n += len(line)
		}
		name, body, found := bytes.Cut(b[:n], []byte(":"))
		// QUIRK: blanks before the colon are forbidden, and met.
		name = bytes.Trim(name, " \t")
		if !found || bytes.ContainsFunc(name, func(r rune) bool { return r < '!' || r > '~' }) {
			return fields, false
		}
		fields = append(fields, field{name, body})
		b = b[n:]
	}
	return fields, true
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// value is the field's body on one line.
func (f field) value() string {
	var b strings.Builder
	for line := range bytes.Lines(f.body) {
		if cut, ended := bytes.CutSuffix(line, []byte("\n")); ended {
			line = bytes.TrimSuffix(cut, []byte("\r"))
		}
		line = bytes.Trim(line, " \t")
		if b.Len() > 0 && len(line) > 0 {
			b.WriteByte(' ')
		}
		b.Write(line)
	}
	return b.String()
}

// mboxLine is the length of the line that an mbox file puts before a message.
//
// QUIRK: it stays in front of mail that was exported and sent again, and mail
// programs pass over it.
func mboxLine(raw []byte) int {
	line, _ := firstLine(raw)
	if bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From ")) {
		return len(line)
	}
	return 0
}

// endsHeader reports whether a header block that ends with b is complete: whether its last line is blank.
func endsHeader(b []byte) bool {
	b, ok := bytes.CutSuffix(b, []byte("\n"))
	b = bytes.TrimSuffix(b, []byte("\r"))
	return ok && (len(b) == 0 || b[len(b)-1] == '\n')
}

// one returns the value of a field that may stand only once, and whether it does
// not stand twice: programs differ about which of two they believe.
func (h *header) one(name string) (value string, unique bool) {
	var found field
	for _, f := range h.fields {
		if !f.is(name) {
			continue
		}
		if found.is(name) {
			return "", false
		}
		found = f
	}
	return strings.TrimSpace(found.value()), true
}

func (f field) is(name string) bool {
	return len(f.name) == len(name) && strings.EqualFold(string(f.name), name)
}

func (h *header) has(name string) bool {
	return slices.ContainsFunc(h.fields, func(f field) bool { return f.is(name) })
}

// span is where the field stands in raw, all its lines; ok is false if it is not there.
func (h *header) span(name string) (off, end int, ok bool) {
	for pos := 0; pos < len(h.raw); {
		line, _ := firstLine(h.raw[pos:])
		next := pos + len(line)
		key, _, _ := bytes.Cut(line, []byte(":"))
		if ok && line[0] != ' ' && line[0] != '\t' {
			return off, pos, true
		}
		if !ok && strings.EqualFold(string(bytes.TrimRight(key, " \t")), name) {
			off, ok = pos, true
		}
		pos = next
	}
	return off, len(h.raw), ok
}

// bodyless is the length of raw without the blank line that ends it: where a
// further field is to stand.
func (h *header) bodyless() int {
	if h.raw == nil {
		return 0
	}
	b := bytes.TrimSuffix(bytes.TrimSuffix(h.raw, []byte("\n")), []byte("\r"))
	if len(b) == 0 || b[len(b)-1] == '\n' {
		return len(b)
	}
	return len(h.raw)
}

// A contentType is the Content-Type of an entity, or the default of RFC 2045
// section 5.2.
type contentType struct {
	main, sub string
	params    map[string]string
	sure      bool // parsed without any doubt
	value     string
}

func (c contentType) String() string { return c.main + "/" + c.sub }

func (h *header) contentType() contentType {
	value, unique := h.one("Content-Type")
	if value == "" {
		return contentType{main: "text", sub: "plain", sure: unique}
	}
	t, params, err := parseMediaType(value)
	if err != nil {
		// QUIRK: unquoted names with blanks, stray words and comments are common;
		// the type before the first semicolon is not in doubt.
		t, _, _ = strings.Cut(value, ";")
		t, _, _ = strings.Cut(t, "(")
		t = strings.ToLower(strings.TrimSpace(t))
		params = nil
	}
	main, sub, ok := strings.Cut(t, "/")
	c := contentType{main: main, sub: sub, params: params, sure: unique && ok && err == nil, value: value}
	if !ok || main == "" || sub == "" {
		c.main, c.sub = "text", "plain"
	}
	return c
}

var errManyParams = fmt.Errorf("more than %d parameters", maxParams)

func parseMediaType(value string) (string, map[string]string, error) {
	if strings.Count(value, ";") > maxParams {
		return "", nil, errManyParams
	}
	return mime.ParseMediaType(value)
}

// transferEncoding is the Content-Transfer-Encoding in lower case; 7bit if none
// (RFC 2045 section 6.1).
func (h *header) transferEncoding() string {
	value, unique := h.one("Content-Transfer-Encoding")
	if !unique {
		return "duplicate"
	}
	if value == "" {
		return "7bit"
	}
	return strings.ToLower(value)
}

// disposition is the type of Content-Disposition in lower case and its value
// with parameters (RFC 2183).
func (h *header) disposition() (kind, value string, unique bool) {
	value, unique = h.one("Content-Disposition")
	kind, _, _ = strings.Cut(value, ";")
	return strings.ToLower(strings.TrimSpace(kind)), value, unique
}
