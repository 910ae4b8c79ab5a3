package notice

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
)

const (
	byteOrderMark = "\uFEFF"
	replacement   = "\uFFFD"
)

// A codec turns a text's bytes into characters and back.
type codec struct {
	encoding encoding.Encoding // nil: the bytes are UTF-8 already
	ascii    bool              // only ASCII may be added
}

// findCharset returns the codec of the charset, and whether the charset is known. It takes UTF-16's
// byte order from content.
func findCharset(name string, content []byte) (codec, bool) {
	switch name = strings.ToLower(strings.TrimSpace(name)); name {
	case "utf-8", "utf8":
		return codec{}, true
	case "", "us-ascii", "ascii", "ansi_x3.4-1968", "iso646-us":
		// RFC 2045 section 5.2. Bytes beyond ASCII are copied; their meaning is known only if they
		// are UTF-8.
		return codec{ascii: true}, true
	case "utf-16", "utf-16be", "utf-16le":
		order, ok := byteOrder(name, content)
		return codec{encoding: unicode.UTF16(order, unicode.IgnoreBOM)}, ok
	case "gb2312", "gbk", "x-gbk":
		name = "gb18030" // a superset
	case "ks_c_5601-1987", "ks_c_5601", "cp949":
		name = "euc-kr"
	}
	if e, err := ianaindex.MIME.Encoding(name); err == nil && e != nil {
		return codec{encoding: e}, true
	}
	e, err := htmlindex.Get(name)
	if err != nil || e == encoding.Replacement {
		return codec{}, false
	}
	canonical, err := htmlindex.Name(e)
	return codec{encoding: e}, err == nil && canonical != "x-user-defined"
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
	if c.encoding == nil {
		return string(content), utf8.Valid(content)
	}
	b, err := c.encoding.NewDecoder().Bytes(content)
	return string(b), err == nil && !bytes.Contains(b, []byte(replacement))
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
	if c.encoding == nil {
		return []byte(text), !c.ascii || isASCII([]byte(text))
	}
	b, err := c.encoding.NewEncoder().Bytes([]byte(text))
	return b, err == nil
}

// offset returns the offset in content for the offset at in its decoded text. If an ASCII character
// precedes it, the result is immediately after that character: in a charset with shifts (RFC 1468)
// a shift may follow, and an insertion must come before the shift.
func (c codec) offset(content []byte, text string, at int) (int, bool) {
	if c.encoding == nil || at == 0 {
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
	d := c.encoding.NewDecoder()
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
