package reference

import (
	"bytes"
	"html"
	"io"
	"strings"
	"sync"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/unicode"

	"github.com/nkirchhoffer/detach-mta/internal/charsets"
	"github.com/nkirchhoffer/detach-mta/internal/lines"
	"github.com/nkirchhoffer/detach-mta/internal/readahead"
)

const (
	// windowSize is how much of a text is in memory at a time, with character references decoded.
	windowSize = 32 << 10
	// pieceSize is how much of a text is decoded at a time.
	pieceSize = 8 << 10
	// maxEntity is the length of the longest character reference that is decoded. The longest name
	// has 33 characters; numbers may begin with zeros.
	maxEntity = 64
	// headSize is how much of a text shows that it is UTF-16.
	headSize = 512
)

// Characters that HTML has as character references, so that they delimit nothing in HTML, stand in
// the window as control characters: in CSS within an attribute they do delimit.
const (
	entityDouble = '\x01' // "
	entitySingle = '\x02' // '
	entityLess   = '\x03' // <
	entityMore   = '\x04' // >
	entityBlank  = '\x05' // blank, tab, line end
)

// entityBytes has the bytes that character references decode to, as they stand in the window.
var entityBytes = func() (table [256]byte) {
	for c := range table {
		table[c] = byte(c)
	}
	table['"'], table['\''], table['<'], table['>'] = entityDouble, entitySingle, entityLess, entityMore
	table[' '], table['\t'], table['\n'], table['\f'], table['\r'] = entityBlank, entityBlank, entityBlank, entityBlank, entityBlank
	return table
}()

// A textReader reads a text as UTF-8 with character references decoded, and without the control
// characters that programs ignore.
type textReader struct {
	src      io.Reader
	calendar bool   // lines are folded as in RFC 5545 section 3.1
	raw      []byte // read, and not decoded yet
	read     int64  // bytes since the last take
}

// buffers are the memory for one text. A mail may have thousands of texts.
type buffers struct {
	window [windowSize]byte
	raw    [pieceSize]byte
}

var bufferPool = sync.Pool{New: func() any { return new(buffers) }}

func newTextReader(t Text, raw []byte) (*textReader, error) {
	r := &textReader{src: t.Content, calendar: t.Type == "text/calendar", raw: raw[:0]}
	n, err := readahead.Fill(t.Content, r.raw[:headSize])
	if err != nil && err != io.EOF {
		return nil, err
	}
	head := r.raw[:n]
	if e := charset(t.Charset, head); e != nil {
		r.src = e.NewDecoder().Reader(io.MultiReader(bytes.NewReader(bytes.Clone(head)), t.Content))
	} else {
		r.raw, r.read = head, int64(n)
	}
	return r, nil
}

// take returns how many bytes were read since its last call.
func (r *textReader) take() int64 {
	n := r.read
	r.read = 0
	return n
}

// charset returns the encoding of a text that begins with head, or nil if the text may be read as
// it is: it is UTF-8, or uses the bytes of ASCII for nothing else where it matters.
//
// QUIRK: texts declared as UTF-16 that are ASCII occur, and UTF-16 that is declared as something
// else, so only the bytes show UTF-16.
func charset(name string, head []byte) decoding {
	if order, ok := utf16Order(head); ok {
		return unicode.UTF16(order, unicode.IgnoreBOM)
	}
	c, ok := charsets.Find(name)
	switch charsets.Name(name) {
	case "iso-2022-jp", "hz-gb-2312":
		return nil
	}
	if !ok {
		return nil
	}
	return c
}

// A decoding is a charset.
type decoding interface{ NewDecoder() *encoding.Decoder }

// utf16Order returns the byte order of a text, if it is UTF-16: it has a byte order mark, or zeros
// in many of its characters, and always in the same half.
func utf16Order(head []byte) (unicode.Endianness, bool) {
	zeros := [2]int{}
	for i, c := range head {
		if c == 0 {
			zeros[i%2]++
		}
	}
	switch many := max(1, len(head)/8); {
	case bytes.HasPrefix(head, []byte("\xFF\xFE")), zeros[0] == 0 && zeros[1] >= many:
		return unicode.LittleEndian, true
	case bytes.HasPrefix(head, []byte("\xFE\xFF")), zeros[1] == 0 && zeros[0] >= many:
		return unicode.BigEndian, true
	}
	return unicode.BigEndian, false
}

// isUTF7 reports whether a charset is one of UTF-7's, in which even quotes are encoded.
func isUTF7(charset string) bool { return strings.Contains(strings.ToLower(charset), "utf-7") }

// fill appends text to window up to its capacity, and reports whether the text has ended.
func (r *textReader) fill(window *[]byte) (ended bool, err error) {
	// Some character references of 5 bytes stand for 6.
	for !ended && cap(*window)-len(*window) >= 2*pieceSize {
		n, err := readahead.Fill(r.src, r.raw[len(r.raw):cap(r.raw)])
		if err != nil && err != io.EOF {
			return false, err
		}
		ended = err == io.EOF
		r.raw, r.read = r.raw[:len(r.raw)+n], r.read+int64(n)
		var rest []byte
		*window, rest = r.decode(*window, r.raw, ended)
		r.raw = r.raw[:copy(r.raw[:cap(r.raw)], rest)]
	}
	return ended, nil
}

// special are the bytes that decode does not copy.
var special = func() (table [256]bool) {
	for c := range byte(' ') {
		table[c] = c != '\t' && c != '\n' && c != '\f' && c != '\r'
	}
	table['&'], table['\r'], table['\n'] = true, true, true
	return table
}()

// decode appends the characters of raw to window. It returns the rest of raw, whose meaning depends
// on the text that follows.
func (r *textReader) decode(window, raw []byte, ended bool) (_, rest []byte) {
	for len(raw) > 0 {
		n := 0
		for n < len(raw) && !special[raw[n]] {
			n++
		}
		window, raw = append(window, raw[:n]...), raw[n:]
		if len(raw) == 0 {
			break
		}
		n = 1
		switch c := raw[0]; {
		case !ended && (c == '&' && len(raw) < maxEntity || c == '\n' && r.calendar && len(raw) < 2):
			return window, raw
		case c == '&':
			n = entity(raw)
			window = appendEntity(window, raw[:n], byteAt(raw, n))
		case c == '\n' && r.calendar && len(raw) > 1 && lines.IsBlank(raw[1]):
			n = 2 // a folded line
		case c == '\n', c == '\r' && !r.calendar:
			window = append(window, c)
		}
		raw = raw[n:]
	}
	return window, nil
}

func appendEntity(window, entity []byte, next byte) []byte {
	decoded := unescape(string(entity), next)
	if decoded == string(entity) {
		return append(window, entity...)
	}
	for _, c := range []byte(decoded) {
		window = append(window, entityBytes[c])
	}
	return window
}

// unescape returns what a character reference in an attribute stands for, if next follows it. A
// name without a semicolon must end before a character that is no letter, digit or equals sign
// (HTML section 13.2.5.73): "?a=1&copy=2" has none.
func unescape(entity string, next byte) string {
	if len(entity) < len("&lt") {
		return entity
	}
	decoded, last := html.UnescapeString(entity), len(entity)-1
	if entity[1] == '#' || entity[last] == ';' {
		return decoded
	}
	if next == '=' || decoded == html.UnescapeString(entity[:last])+entity[last:] {
		return entity
	}
	return decoded
}

// unescapeAll decodes the character references of s, as those of a text are decoded.
func unescapeAll(s string) string {
	window, _ := new(textReader).decode(nil, []byte(s), true)
	return string(window)
}

// entity returns the length of what may be a character reference at the start of b, from & on.
func entity(b []byte) int {
	b = b[:min(len(b), maxEntity)]
	for i, c := range b[1:] {
		switch {
		case c == ';':
			return i + 2
		case c == '#' && i == 0, '0' <= c && c <= '9', 'a' <= c|0x20 && c|0x20 <= 'z':
		default:
			return i + 1
		}
	}
	return len(b)
}

// byteAt returns b[i], or 0 behind the end.
func byteAt(b []byte, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return 0
}
