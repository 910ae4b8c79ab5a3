package rewrite

import (
	"bufio"
	"bytes"
	"fmt"
	"mime"
	"strings"
	"sync"

	"github.com/emersion/go-message/textproto"
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
	fields textproto.Header
	bad    bool // it cannot be parsed, or is over a limit
}

func parseHeader(raw []byte) header {
	h := header{raw: raw}
	if len(raw) > maxHeaderBytes || bytes.Count(raw, []byte("\n")) > maxHeaderLines {
		h.bad = true
		return h
	}
	r := headerReaders.Get().(*bufio.Reader)
	r.Reset(bytes.NewReader(raw[mboxLine(raw):]))
	fields, err := textproto.ReadHeader(r)
	r.Reset(nil)
	headerReaders.Put(r)
	h.fields, h.bad = fields, err != nil
	return h
}

var headerReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4096) }}

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
	values := h.fields.Values(name)
	switch len(values) {
	case 0:
		return "", true
	case 1:
		return strings.TrimSpace(values[0]), true
	}
	return "", false
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
