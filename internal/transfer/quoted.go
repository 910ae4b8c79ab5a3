package transfer

import (
	"bytes"
	"errors"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

const (
	// maxSample bounds the encoded text from which a rule is learned, in bytes: some 400 lines.
	maxSample = 32 << 10
	// MaxEncoded bounds the encoded text of an attachment that no rule writes again, in bytes. A
	// longer one counts as damaged.
	MaxEncoded = 8 << 20
	// maxBlanks bounds the blanks that are held until the next chunk. A longer run of blanks is
	// damage, even if it is complete in one chunk.
	maxBlanks = 1024
)

// quotedDecoder decodes quoted-printable (RFC 2045 section 6.7). Encoders differ in every choice
// that the RFC leaves them. The decoder keeps the beginning of the text until it has learned the
// encoder's rule from it. It compares everything that follows with what the rule writes, and keeps
// nothing of it. Only if there is no rule, it keeps the whole text.
type quotedDecoder struct {
	most   int // bytes of sample
	space  *spool.Space
	text   quotedText
	coded  coded        // decoded and not compared yet
	sample []byte       // the text so far, while the rule is being learned
	match  *match       // compares text and rule; nil: no rule is learned yet
	raw    *spool.Spool // the text so far, if no rule writes it; nil: one may
	layout *Layout      // of the text so far, once it was asked for
}

func (t *quotedDecoder) Decode(dst, chunk []byte) ([]byte, error) {
	before, out := *t, dst
	// The sample has the same bytes, however the text is cut into chunks.
	if n := t.most - len(t.sample); t.match == nil && t.raw == nil && n < len(chunk) {
		var err error
		if out, err = t.decode(out, chunk[:n]); err != nil {
			return dst, err
		}
		chunk = chunk[n:]
	}
	out, err := t.decode(out, chunk)
	if err != nil && before.raw == nil && t.raw != nil {
		err = errors.Join(err, t.raw.Close())
	}
	if err != nil {
		*t = before
		return dst, err
	}
	return out, nil
}

func (t *quotedDecoder) decode(dst, chunk []byte) ([]byte, error) {
	text, c := t.text, t.coded
	if !text.decode(&c, chunk) {
		return dst, ErrDamaged
	}
	out := append(dst, c.data[len(t.coded.data):]...) // now, because record moves c
	if err := t.record(c, chunk, text.odd); err != nil {
		return dst, err
	}
	t.text, t.layout = text, nil
	return out, nil
}

// record takes c, which chunk was decoded to.
func (t *quotedDecoder) record(c coded, chunk []byte, odd bool) error {
	switch {
	case t.raw != nil:
		return t.keep(chunk)
	case t.match != nil:
		m := t.match.clone()
		n, ok := m.compare(c, false)
		if !ok || odd {
			return ErrDamaged // the rule broke, but what is stored already was encoded by it
		}
		t.match, t.coded = m, c.from(n)
		return nil
	}
	t.sample, t.coded = append(t.sample, chunk...), c
	if !odd && len(t.sample) < t.most {
		return nil
	}
	m := learn(c)
	if n, ok := m.compare(c, false); ok && !odd {
		m.prune()
		rest := coded{bytes.Clone(c.data[n:]), bytes.Clone(c.how[n:])} // Decode may go back to c
		t.match, t.sample, t.coded = m, nil, rest
		return nil
	}
	t.raw = spool.New(t.space)
	return t.keep(t.sample)
}

// keep appends text to raw. If there is too much of it, raw has all but this text.
func (t *quotedDecoder) keep(text []byte) error {
	if t.raw.Size()+int64(len(text)) > MaxEncoded {
		return ErrDamaged
	}
	t.sample, t.coded = nil, coded{}
	_, err := t.raw.Write(text)
	return err
}

func (t *quotedDecoder) Finish(dst []byte, atDelimiter bool) ([]byte, error) {
	text, c := t.text, t.coded
	if text.cut != "" && text.cut != "=" {
		return dst, ErrDamaged
	}
	if !atDelimiter {
		text.flush(&c)
	}
	if t.raw == nil && t.match != nil && !t.end(c).fits() {
		return dst, ErrDamaged
	}
	dst = append(dst, c.data[len(t.coded.data):]...)
	t.text, t.coded, t.layout = text, c, nil
	return dst, nil
}

// end returns the comparison of text and rule for a text that ends with c.
func (t *quotedDecoder) end(c coded) *match {
	if t.match == nil {
		m := learn(c)
		m.compare(c, true)
		return m
	}
	m := t.match.clone()
	m.closed = true // what was stored is encoded by one of them, whatever it takes
	m.compare(c, true)
	return m
}

func (t *quotedDecoder) Layout() Layout {
	if t.layout == nil {
		l := Layout{Encoding: Encoded, Tail: t.text.tail()}
		if t.raw == nil {
			if m := t.end(t.coded); m.fits() || t.match != nil {
				l = m.layout(t.text)
			}
		}
		t.layout = &l
	}
	return *t.layout
}

func (t *quotedDecoder) Encoded() io.Reader {
	tail := int64(len(t.text.tail()))
	if t.raw == nil {
		return bytes.NewReader(t.sample[:int64(len(t.sample))-tail])
	}
	return t.raw.Section(0, t.raw.Size()-tail)
}

func (t *quotedDecoder) Close() error {
	t.sample, t.match, t.coded = nil, nil, coded{}
	if t.raw == nil {
		return nil
	}
	return t.raw.Close()
}

// How a byte of decoded text was encoded, as bits.
const (
	softBefore = 1 << iota // a soft line break stands before it
	escaped
)

// coded is decoded text. how has one byte for each byte of data. The second byte of a CR LF that
// stands as it is has none of the bits.
type coded struct{ data, how []byte }

// from returns a copy of c from byte n on. It reuses the memory of c.
func (c coded) from(n int) coded {
	return coded{append(c.data[:0], c.data[n:]...), append(c.how[:0], c.how[n:]...)}
}

// add adds bytes that are encoded as how says. Only the first may have a soft line break before it.
func (c *coded) add(data []byte, soft bool, how byte) {
	first := len(c.how)
	c.data = append(c.data, data...)
	for range data {
		c.how = append(c.how, how)
	}
	if soft {
		c.how[first] |= softBefore
	}
}

// quotedText decodes quoted-printable text. Its strings are the text that follows the last decoded
// byte.
type quotedText struct {
	soft string // soft line breaks
	held string // a line end that may be the last
	cut  string // the unfinished end of the last chunk: "=", "=4", "\r", blanks

	softEnd string // line end of the first soft break
	upper   bool   // a digit A to F was seen
	lower   bool   // a digit a to f was seen
	odd     bool   // no rule writes this text
}

func (q *quotedText) tail() string { return q.soft + q.held + q.cut }

// decode appends what chunk decodes to. It returns false if mail programs differ about the text: it
// has a "=" that escapes nothing, characters that had to be escaped, or blanks at the end of a
// line.
func (q *quotedText) decode(c *coded, chunk []byte) bool {
	text := chunk
	if q.cut != "" {
		text = append([]byte(q.cut), chunk...)
	}
	q.cut = ""
	for len(text) > 0 {
		n, ok := q.step(c, text)
		if !ok {
			return false
		}
		if n == 0 {
			q.cut = string(text)
			break
		}
		text = text[n:]
	}
	return true
}

// step takes one run of literal text, escape, soft break or line end. It returns 0 and true if text
// ends before the element does.
func (q *quotedText) step(c *coded, text []byte) (int, bool) {
	switch b := text[0]; b {
	case '=':
		return q.escape(c, text)
	case '\r', '\n':
		n, ok := lineBreak(text)
		if n > 0 {
			q.flush(c)
			q.held = known(text[:n])
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
		q.literal(c, text[:n])
		return n, true
	default:
		n := 0
		for n < len(text) && text[n] > ' ' && text[n] < 0x7f && text[n] != '=' {
			n++
		}
		if n == 0 {
			return 0, false
		}
		q.literal(c, text[:n])
		return n, true
	}
}

// flush appends the held line end.
func (q *quotedText) flush(c *coded) {
	if q.held != "" {
		c.add([]byte(q.held), q.soft != "", 0)
		q.soft, q.held = "", ""
	}
}

func (q *quotedText) literal(c *coded, text []byte) {
	q.flush(c)
	c.add(text, q.soft != "", 0)
	q.soft = ""
}

// escape takes an escaped byte, or a soft line break. The line end of a soft break may belong to
// the delimiter that follows, so the line end before it is content.
func (q *quotedText) escape(c *coded, text []byte) (int, bool) {
	if lines.Blanks(text[1:]) >= maxBlanks {
		return 0, false
	}
	content, n, ok := unescape(text)
	if n == 0 {
		return 0, ok
	}
	q.flush(c)
	if len(content) == 0 {
		return n, q.softBreak(known(text[:n]))
	}
	for _, digit := range text[1:3] {
		q.upper = q.upper || 'A' <= digit && digit <= 'F'
		q.lower = q.lower || 'a' <= digit && digit <= 'f'
	}
	q.odd = q.odd || q.upper && q.lower
	c.add(content, q.soft != "", escaped)
	q.soft = ""
	return n, true
}

// known returns s as a string. It allocates none for what most texts have in each line.
func known(s []byte) string {
	for _, k := range []string{"\r\n", "=\r\n", "\n", "=\n"} {
		if string(s) == k {
			return k
		}
	}
	return string(s)
}

func (q *quotedText) softBreak(s string) bool {
	if q.softEnd == "" {
		q.softEnd = s[1:]
	}
	if q.soft != "" || s[1:] != q.softEnd || lines.IsBlank(s[1]) {
		q.odd = true
	}
	q.soft += s
	return len(q.soft) <= 2*maxBlanks // also bounds what is held
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

// NewUnquoter returns a writer of quoted-printable text that writes to w what the text decodes to.
// It returns ErrDamaged for text that NewExact's decoder refuses, and Close for a text that ends
// within an escape or a line end.
func NewUnquoter(w io.Writer) io.WriteCloser { return &unquoter{w: w} }

type unquoter struct {
	w    io.Writer
	text quotedText
	c    coded
}

func (u *unquoter) Write(p []byte) (int, error) {
	u.c = coded{u.c.data[:0], u.c.how[:0]}
	if !u.text.decode(&u.c, p) {
		return 0, ErrDamaged
	}
	if _, err := u.w.Write(u.c.data); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (u *unquoter) Close() error {
	if u.text.cut != "" {
		return ErrDamaged
	}
	_, err := io.WriteString(u.w, u.text.held)
	return err
}
