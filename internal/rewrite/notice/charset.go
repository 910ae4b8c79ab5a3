package notice

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"

	"github.com/nkirchhoffer/detach-mta/internal/charsets"
)

const (
	byteOrderMark = "\uFEFF"
	replacement   = "\uFFFD"
	shifts        = "\x1b\x0e\x0f~+" // begin characters other than ASCII in 7-bit charsets
)

// A codec turns a text's bytes into characters and back.
type codec struct {
	charset coder // nil: the bytes are UTF-8 already
	ascii   bool  // only ASCII may be added
	// opaque: the text may be in another charset than the header names, so it must not be declared
	// to be UTF-8.
	opaque bool
}

// A coder is a charset of package charsets, or UTF-16.
type coder interface {
	NewDecoder() *encoding.Decoder
	Decode(b []byte) (text string, clean bool)
	Encode(text string) (encoded []byte, ok bool)
}

// findCharset returns the codec of the charset, and whether the charset is known. It takes UTF-16's
// byte order from content, and looks there for a charset that the header does not name.
func findCharset(label string, content []byte) (codec, bool) {
	switch name := charsets.Name(label); {
	case strings.TrimSpace(label) == "", name == "us-ascii":
		return undeclared(content)
	case name == "utf-8":
		// Programs that show invalid UTF-8 show it in another charset, and the notice with it.
		broken := !utf8.Valid(content)
		return codec{ascii: broken, opaque: broken}, true
	case strings.HasPrefix(name, "utf-16"):
		order, ok := byteOrder(name, content)
		return codec{charset: utf16{unicode.UTF16(order, unicode.IgnoreBOM)}}, ok
	default:
		c, ok := charsets.Find(name)
		return codec{charset: c}, ok
	}
}

// undeclared returns the codec of a text whose header names no charset, or ASCII (RFC 2045 section
// 5.2). Bytes beyond ASCII are copied; their meaning is known only if they are UTF-8.
//
// QUIRK: senders do not declare charsets for 7-bit mail, and mail programs recognize them by their
// escape sequences as long as the header names no other charset.
func undeclared(content []byte) (codec, bool) {
	seven := charsets.Seven(string(content))
	switch c, ok := charsets.Find(seven); {
	case ok:
		return codec{charset: c, ascii: true, opaque: true}, true
	case seven == "utf-7":
		return codec{ascii: true, opaque: true}, true // what is not shifted is ASCII
	default:
		return codec{ascii: true, opaque: !utf8.Valid(content)}, seven == ""
	}
}

// utf16 is UTF-16 in one of its byte orders.
type utf16 struct{ encoding.Encoding }

func (u utf16) Decode(b []byte) (text string, clean bool) {
	decoded, err := u.NewDecoder().Bytes(b)
	return string(decoded), err == nil && !bytes.Contains(decoded, []byte(replacement))
}

func (u utf16) Encode(text string) (encoded []byte, ok bool) {
	encoded, err := u.NewEncoder().Bytes([]byte(text))
	return encoded, err == nil
}

// byteOrder returns the byte order of a UTF-16 text, and whether it is certain. A text without a
// byte order mark is big-endian (RFC 2781 section 4.3).
//
// QUIRK: programs on Windows leave out the mark and write little-endian. The zero bytes of ASCII
// characters show it.
func byteOrder(name string, content []byte) (unicode.Endianness, bool) {
	switch {
	case len(content)%2 != 0:
		return unicode.BigEndian, false
	case name == "utf-16be", name == "utf-16" && bytes.HasPrefix(content, []byte("\xFE\xFF")):
		return unicode.BigEndian, true
	case name == "utf-16le", bytes.HasPrefix(content, []byte("\xFF\xFE")):
		return unicode.LittleEndian, true
	}
	zeros := [2]int{}
	for i, c := range content {
		if c == 0 {
			zeros[i%2]++
		}
	}
	if zeros[1] > zeros[0] {
		return unicode.LittleEndian, zeros[0] == 0
	}
	return unicode.BigEndian, zeros[1] == 0
}

// decode returns the text, and whether every byte of content is valid in the charset.
func (c codec) decode(content []byte) (text string, clean bool) {
	if c.charset == nil {
		return string(content), utf8.Valid(content)
	}
	return c.charset.Decode(content)
}

// encode encodes text, if the charset has all its characters. said is the text that was encoded:
// with composed letters and a plain apostrophe, if the charset has only these.
func (c codec) encode(text string) (said string, encoded []byte, ok bool) {
	if b, ok := c.exactly(text); ok {
		return text, b, true
	}
	text = strings.ReplaceAll(norm.NFC.String(text), "’", "'")
	b, ok := c.exactly(text)
	return text, b, ok
}

func (c codec) exactly(text string) ([]byte, bool) {
	if c.ascii && (!isASCII([]byte(text)) || c.opaque && strings.ContainsAny(text, shifts)) {
		return nil, false
	}
	if c.charset == nil {
		return []byte(text), true
	}
	return c.charset.Encode(text)
}

// offset returns the offset in content for the offset at in its decoded text. If an ASCII character
// precedes it, the result is immediately after that character: in a charset with shifts (RFC 1468)
// a shift may follow, and an insertion must come before the shift.
func (c codec) offset(content []byte, text string, at int) (int, bool) {
	if c.charset == nil || at == 0 {
		return at, true
	}
	if text[at-1] >= utf8.RuneSelf {
		return c.consumed(content, at)
	}
	off, ok := c.consumed(content, at-1)
	end, whole := c.consumed(content, at)
	for width := 1; ok && whole && width <= 8 && off+width <= end; width++ { // with a shift to ASCII before it
		if got, _ := c.decode(content[:off+width]); len(got) == at {
			return off + width, true
		}
	}
	return 0, false
}

// consumed returns how many bytes of content decode to the first n bytes of its text.
func (c codec) consumed(content []byte, n int) (int, bool) {
	dst := make([]byte, n)
	written, read := 0, 0
	d := c.charset.NewDecoder()
	for written < n {
		w, r, err := d.Transform(dst[written:], content[read:], true)
		written, read = written+w, read+r
		if err != nil && err != transform.ErrShortDst || w == 0 && r == 0 {
			break
		}
	}
	return read, written == n
}

func isASCII(b []byte) bool {
	return !bytes.ContainsFunc(b, func(r rune) bool { return r >= utf8.RuneSelf })
}
