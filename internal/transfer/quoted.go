package transfer

import (
	"bytes"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// quotedDecoder decodes quoted-printable (RFC 2045 section 6.7). Encoders differ in every choice
// that the RFC leaves them, so the layout is the encoded text itself.
type quotedDecoder struct {
	raw  *spool.Spool
	held []byte // a line end that may be the last
	cut  []byte // the unfinished end of the last chunk: "=", "=4", "\r", blanks
}

// maxBlanks bounds the blanks that are held until the next chunk. A longer run of blanks is damage,
// even if it is complete in one chunk.
const maxBlanks = 1024

func (t *quotedDecoder) Decode(dst, chunk []byte) ([]byte, error) {
	text := chunk
	if len(t.cut) > 0 {
		text = append(t.cut[:len(t.cut):len(t.cut)], chunk...)
	}
	q := quotedText{dst: dst, held: t.held}
	n, ok := q.decode(text)
	if !ok {
		return dst, ErrDamaged
	}
	if _, err := t.raw.Write(chunk); err != nil {
		return dst, err
	}
	t.held = q.held
	t.cut = append([]byte(nil), text[n:]...)
	return q.dst, nil
}

func (t *quotedDecoder) Finish(dst []byte, atDelimiter bool) ([]byte, error) {
	switch {
	case len(t.cut) > 0 && string(t.cut) != "=":
		return dst, ErrDamaged
	case !atDelimiter:
		dst = append(dst, t.held...)
	}
	return dst, nil
}

func (t *quotedDecoder) Layout() Layout { return Layout{Raw: t.raw} }

func (t *quotedDecoder) Close() error { return t.raw.Close() }

// quotedText decodes a piece of quoted-printable text.
type quotedText struct {
	dst  []byte
	held []byte
}

// decode returns how much of text it took; the rest is unfinished. It returns false if mail
// programs differ about the text: it has a "=" that escapes nothing, characters that had to be
// escaped, or blanks at the end of a line.
func (q *quotedText) decode(text []byte) (int, bool) {
	for i := 0; i < len(text); {
		n, ok := q.step(text[i:])
		if !ok || n == 0 {
			return i, ok
		}
		i += n
	}
	return len(text), true
}

// step takes one run of literal text, escape, soft break or line end. It returns 0 and true if text
// ends before the element does.
func (q *quotedText) step(text []byte) (int, bool) {
	switch c := text[0]; c {
	case '=':
		if lines.Blanks(text[1:]) >= maxBlanks {
			return 0, false
		}
		content, n, ok := unescape(text)
		if n > 0 { // the last soft break belongs to the delimiter, so the line end before it is content
			q.literal(content)
		}
		return n, ok
	case '\r', '\n':
		n, ok := lineBreak(text)
		if n > 0 {
			q.literal(nil)
			q.held = append([]byte(nil), text[:n]...)
		}
		return n, ok
	case ' ', '\t':
		n := lines.Blanks(text)
		if n > maxBlanks || n < len(text) && (text[n] == '\r' || text[n] == '\n') {
			return 0, false
		}
		if n == len(text) {
			return 0, true
		}
		q.literal(text[:n])
		return n, true
	default:
		n := 0
		for n < len(text) && text[n] > ' ' && text[n] < 0x7f && text[n] != '=' {
			n++
		}
		if n == 0 {
			return 0, false
		}
		q.literal(text[:n])
		return n, true
	}
}

// literal appends the held line end, and then text.
func (q *quotedText) literal(text []byte) {
	q.dst = append(append(q.dst, q.held...), text...)
	q.held = nil
}

// unescape decodes "=XX" at the start of text, or a soft line break with the blanks that transports
// may have added to it. n is its length; n is 0 with ok true if text ends before it is complete,
// and 0 with ok false if text starts with neither.
func unescape(text []byte) (content []byte, n int, ok bool) {
	if len(text) == 1 {
		return nil, 0, true
	}
	if hi, ok := unhex(text[1]); ok {
		if len(text) == 2 {
			return nil, 0, true
		}
		if lo, ok := unhex(text[2]); ok {
			return []byte{hi<<4 | lo}, 3, true
		}
		return nil, 0, false
	}
	n = 1 + lines.Blanks(text[1:])
	if n == len(text) {
		return nil, 0, true
	}
	end, ok := lineBreak(text[n:])
	if end == 0 {
		return nil, 0, ok
	}
	return nil, n + end, true
}

// lineBreak returns the length of the line end at the start of text: 0 and true if text is the
// first half of a line end, 0 and false if text starts with anything else.
func lineBreak(text []byte) (int, bool) {
	switch {
	case text[0] == '\n':
		return 1, true
	case bytes.HasPrefix(text, []byte("\r\n")):
		return 2, true
	case len(text) == 1 && text[0] == '\r':
		return 0, true
	}
	return 0, false
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
