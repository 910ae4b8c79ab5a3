package rewrite

import (
	"bytes"
	"maps"
	"mime"
	"regexp"
	"slices"
	"strings"
	"unsafe"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

const (
	// maxHeaderBytes is two and a half times what Postfix keeps of a header.
	maxHeaderBytes = 256 << 10
	// maxHeaderLines bounds the cost of a header of a million empty fields.
	maxHeaderLines = 8192
)

// A header is the header block of the message or of one part.
type header struct {
	raw    []byte // with the blank line that ends it, if there is one
	fields []field
	bad    bool  // programs read it in different ways, or it is over a limit
	memory int64 // taken for it
}

// A field is one field of a header as received: its name, and its body, which is everything after
// the first colon, with folded lines and line ends.
type field struct {
	name, body []byte
	span       // in the header's raw
}

// fieldSize is the memory of a field, besides raw.
const fieldSize = int64(unsafe.Sizeof(field{}))

// parseHeader returns the header in raw, without taking memory for it.
func parseHeader(raw []byte) header {
	h := header{raw: raw, bad: true}
	h.parse(memory.NewAccount(nil, 0))
	return h
}

// add appends a line to raw, and reports whether the header is below its limits and there is memory
// for it.
func (h *header) add(line []byte, account *memory.Account) bool {
	size := len(h.raw) + len(line)
	if size > maxHeaderBytes {
		return false
	}
	if size > cap(h.raw) {
		size = max(size, 2*cap(h.raw), 1<<10)
		if !h.take(int64(size-cap(h.raw)), account) {
			return false
		}
		h.raw = append(make([]byte, 0, size), h.raw...)
	}
	h.raw = append(h.raw, line...)
	return true
}

// parse finds the fields in raw.
func (h *header) parse(account *memory.Account) {
	n := bytes.Count(h.raw, []byte("\n"))
	if len(h.raw) > maxHeaderBytes || n > maxHeaderLines || !h.take(int64(n)*fieldSize, account) {
		return
	}
	fields, ok := splitFields(h.raw)
	h.fields, h.bad = fields, !ok
}

func (h *header) take(n int64, account *memory.Account) bool {
	if !account.Take(n) {
		return false
	}
	h.memory += n
	return true
}

// splitFields splits a header block into fields, up to the blank line that ends it (RFC 5322
// section 2.2); ok reports whether all of it could be parsed. It accepts what go-message's
// textproto accepts (FuzzHeader), without copying.
func splitFields(raw []byte) (fields []field, ok bool) {
	fields = make([]field, 0, min(bytes.Count(raw, []byte("\n")), maxHeaderLines))
	for pos := mboxLine(raw); pos < len(raw); {
		line, _ := lines.First(raw[pos:])
		if s := string(line); s == "\n" || s == "\r\n" {
			break
		}
		if lines.IsBlank(line[0]) {
			return fields, false // a folded line without a field before it
		}
		end := pos + len(line)
		for end < len(raw) && lines.IsBlank(raw[end]) {
			line, _ = lines.First(raw[end:])
			end += len(line)
		}
		name, body, found := bytes.Cut(raw[pos:end], []byte(":"))
		// QUIRK: blanks before the colon are obsolete, but programs must accept them (RFC 5322
		// section 4.5). Python does not.
		name = bytes.Trim(name, " \t")
		if !found || bytes.ContainsFunc(name, func(r rune) bool { return r < '!' || r > '~' }) {
			return fields, false
		}
		fields = append(fields, field{name, body, span{int64(pos), int64(end)}})
		pos = end
	}
	return fields, true
}

// doubtful reports whether programs may find other fields about the body: for Python, a field with
// blanks before its colon ends the header. Of a message, only Content- fields count, so that a
// mail with "Bcc :", which RFC 5322 section 4.5 allows, is like others.
func (h *header) doubtful(part bool) bool {
	return slices.ContainsFunc(h.fields, func(f field) bool {
		_, content := f.contentName()
		return (part || content) && h.raw[f.off+int64(len(f.name))] != ':'
	})
}

// value returns the field's body unfolded, on one line.
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

// mboxLine returns the length of the line that an mbox file has before a message, or 0.
//
// QUIRK: mail that was exported and sent again may still have this line; mail programs skip it.
func mboxLine(raw []byte) int {
	line, _ := lines.First(raw)
	if bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From ")) {
		return len(line)
	}
	return 0
}

// endsHeader reports whether the last line of b is blank, so that b completes a header block.
func endsHeader(b []byte) bool {
	b, ok := bytes.CutSuffix(b, []byte("\n"))
	b = bytes.TrimSuffix(b, []byte("\r"))
	return ok && (len(b) == 0 || b[len(b)-1] == '\n')
}

// one returns the value of a field that must not be repeated, or "" if it is absent. unique is
// false if the field is repeated with another value: mail programs differ about which they use.
func (h *header) one(name string) (value string, unique bool) {
	found := false
	for _, f := range h.fields {
		if !f.is(name) {
			continue
		}
		v := strings.TrimSpace(f.value())
		if found && !sameValue(v, value) {
			return "", false
		}
		if !found {
			value, found = v, true
		}
	}
	return value, true
}

// sameValue reports whether two values mean the same. The word before the parameters may be in any
// case, and a line may be folded at any semicolon.
func sameValue(a, b string) bool {
	word, params := cutToken(a)
	word2, params2 := cutToken(b)
	same := strings.EqualFold(word, word2)
	for same && params != params2 {
		word, params = cutToken(params)
		word2, params2 = cutToken(params2)
		same = strings.TrimSpace(word) == strings.TrimSpace(word2)
	}
	return same
}

func (f field) is(name string) bool {
	return len(f.name) == len(name) && strings.EqualFold(string(f.name), name)
}

func (h *header) has(name string) bool {
	return slices.ContainsFunc(h.fields, func(f field) bool { return f.is(name) })
}

// find returns the first field of that name. If there is no such field, the span of the result is
// the place for one.
func (h *header) find(name string) field {
	for _, f := range h.fields {
		if f.is(name) {
			return f
		}
	}
	return field{span: h.end()}
}

// end returns the empty span before the blank line: the place for another field.
func (h *header) end() span {
	b := bytes.TrimSuffix(bytes.TrimSuffix(h.raw, []byte("\n")), []byte("\r"))
	n := int64(len(h.raw))
	if len(b) == 0 || b[len(b)-1] == '\n' {
		n = int64(len(b))
	}
	return span{n, n}
}

// eol returns the line end that the header uses.
func (h *header) eol() string { return lines.Ending(h.raw, "\r\n") }

// A contentType is the Content-Type of an entity, or the default of RFC 2045 section 5.2.
type contentType struct {
	main, sub string
	params    map[string]string
	sure      bool   // all programs read the type and its parameters in the same way
	boundary  string // of a multipart; empty if programs read different ones
	value     string
}

func (c contentType) String() string { return c.main + "/" + c.sub }

func (h *header) contentType() contentType {
	value, unique := h.one("Content-Type")
	if value == "" {
		return contentType{main: "text", sub: "plain", sure: unique}
	}
	c := contentType{value: value, sure: unique}
	exact := c.parseType()
	var alike bool
	c.params, alike = typeParams(value)
	c.sure = unique && exact && alike
	if c.main == "multipart" && exact && unique {
		c.boundary = alikeBoundary(value, h.find("Content-Type").body)
	}
	return c
}

// parseType finds the type before the first semicolon. exact is false if programs may read another
// type.
//
// QUIRK: unquoted names with blanks, stray words and comments are common. The type before them is
// certain even so.
func (c *contentType) parseType() (exact bool) {
	t, _, _ := strings.Cut(c.value, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	main, sub, ok := strings.Cut(t, "/")
	main, sub = firstToken(main), firstToken(sub)
	switch {
	case ok && main != "" && sub != "":
		c.main, c.sub = main, sub
	case strings.Contains(t, "multipart"): // some programs find parts in it
		c.main, c.sub = "multipart", "mixed"
	default:
		c.main, c.sub = "text", "plain"
	}
	return c.String() == t
}

// firstToken returns the token (RFC 2045 section 5.1) that s begins with, after blanks.
func firstToken(s string) string {
	s = strings.TrimLeft(s, " \t")
	end := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`()<>@,;:\"/[]?=`, r) })
	if end < 0 {
		return s
	}
	return s[:end]
}

// typeParams returns the parameters of a Content-Type; alike reports whether all programs read the
// same ones.
func typeParams(value string) (params map[string]string, alike bool) {
	if strings.Count(value, ";") > maxParams {
		return nil, false
	}
	if _, params, err := mime.ParseMediaType(value); err == nil {
		return params, true
	}
	list, rest := alikeParams(value)
	params, alike = alikeMap(list)
	return params, alike && rest == ""
}

// transferEncoding returns the Content-Transfer-Encoding in lower case. It is 7bit by default (RFC
// 2045 section 6.1), 8bit if all programs read the body as it is, and an unknown encoding if two
// fields contradict each other.
func (h *header) transferEncoding() string {
	value, unique := h.one("Content-Transfer-Encoding")
	value = strings.ToLower(value)
	switch {
	case !unique:
		return "duplicate"
	case value == "":
		return "7bit"
	case !transfer.Known(value) && !someEncoding.MatchString(value):
		return "8bit"
	}
	return value
}

// someEncoding matches the names of encodings that only some programs decode, and misspelled names
// of encodings. All other names, such as "7-bit" and "utf-8", encode nothing.
var someEncoding = regexp.MustCompile(`^x-|^[bq]$|base|64|quot|print|qp|uu|hex|yenc|zip|encode`)

// disposition returns the type of Content-Disposition in lower case, its value with parameters (RFC
// 2183), and whether the field occurs at most once.
func (h *header) disposition() (kind, value string, unique bool) {
	value, unique = h.one("Content-Disposition")
	kind, _, _ = strings.Cut(value, ";")
	return strings.ToLower(strings.TrimSpace(kind)), value, unique
}

var charsetParam = regexp.MustCompile(`(?i)(;\s*charset\s*=\s*)("[^"]*"|[^\s;"]+)`)

// typeWithCharset returns the Content-Type with another charset. It keeps the rest as received, if
// the result parses to the same type and other parameters.
func (h *header) typeWithCharset(charset string) string {
	ct := h.contentType()
	_, had := ct.params["charset"]
	params := map[string]string{}
	maps.Copy(params, ct.params)
	params["charset"] = charset
	if f := h.find("Content-Type"); f.body != nil {
		written := strings.TrimSpace(charsetParam.ReplaceAllString(string(bytes.TrimRight(f.body, "\r\n")), "${1}"+charset))
		if !had {
			written = strings.TrimRight(written, "; \t") + "; charset=" + charset
		}
		unfolded := strings.NewReplacer("\r", "", "\n", "").Replace(written)
		if t, got, err := mime.ParseMediaType(unfolded); err == nil && t == ct.String() && maps.Equal(got, params) {
			return written
		}
	}
	return mime.FormatMediaType(ct.String(), params)
}
