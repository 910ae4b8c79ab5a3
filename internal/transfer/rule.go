package transfer

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
)

const (
	// MaxExceptions bounds the bytes of an attachment that were encoded in another way than its
	// rule says.
	MaxExceptions = 64
	// lookahead is how many bytes of the data a rule sees, beginning with the one to encode.
	lookahead = 256
	// maxTrail is the longest run of blanks that counts as the end of a line.
	maxTrail = 16
	// maxUnit is how many columns must be free at most for one character.
	maxUnit = 12
	// maxLimit bounds the limit of a rule. It is far below lookahead, so that a word is seen whole.
	maxLimit = 200
)

// The ways to break lines.
const (
	// breakFill breaks before a character that would make the line longer than the limit.
	breakFill = "fill"
	// breakColumn breaks before any character once the line has reached the limit.
	breakColumn = "column"
	// breakWord breaks after a space if the next word, with the space after it, would make the line
	// longer than the limit. It fills lines with words that are longer themselves.
	breakWord = "word"
)

// The units that breakFill keeps on one line.
const (
	// unitUTF8 keeps the escaped bytes of one character in UTF-8 together.
	unitUTF8 = "utf-8"
	// unitPHP does what quoted_printable_encode of PHP does. It means to keep a character together,
	// but takes the later bytes of a character for the first of one with two bytes.
	unitPHP = "php"
)

// A Rule says how an encoder makes the choices that quoted-printable leaves it (RFC 2045 section
// 6.7). All encoders escape "=", control characters other than tab, bytes from 7F on, and the last
// blank of a line.
type Rule struct {
	Lower  bool   `json:"lower,omitempty"`  // hexadecimal digits are a to f
	CRLF   bool   `json:"crlf,omitempty"`   // a CR LF of the data stands as it is
	LF     bool   `json:"lf,omitempty"`     // an LF of the data, without a CR, stands as it is
	Escape string `json:"escape,omitempty"` // further characters that are escaped
	// Start has the characters that are escaped at the start of a line instead of those in Escape.
	// F is escaped there only in "From ".
	Start string `json:"start,omitempty"`
	Trail bool   `json:"trail,omitempty"` // all blanks at the end of a line are escaped
	Soft  string `json:"soft,omitempty"`  // line end of a soft line break
	Break Break  `json:"break"`
}

// Break says where an encoder puts soft line breaks. Columns count from 0; a limit does not count
// the "=" of the soft break.
type Break struct {
	Kind  string `json:"kind,omitempty"`
	Limit int    `json:"limit,omitempty"`
	Unit  string `json:"unit,omitempty"`
	// Last and LastEscape are how much longer a line may be if it ends with this character, or
	// with this escaped character, and a line end of the data.
	Last       int  `json:"last,omitempty"`
	LastEscape int  `json:"last_escape,omitempty"`
	Late       bool `json:"late,omitempty"`     // the last blank of a line is escaped after lines were broken
	Eager      bool `json:"eager,omitempty"`    // also before a line end of the data
	AfterLF    bool `json:"after_lf,omitempty"` // also after an escaped LF
}

// An Exception is a byte of the data that was encoded in another way than the rule says.
type Exception struct {
	At      int64 `json:"at"`                // offset in the data
	Soft    bool  `json:"soft,omitempty"`    // a soft line break stands before it
	Escaped bool  `json:"escaped,omitempty"` // it is escaped
}

func (r Rule) check() error {
	b := r.Break
	switch {
	case r.Soft != "" && r.Soft != "\n" && r.Soft != "\r\n":
		return errors.New("quoted-printable rule: malformed soft line break")
	case !printable(r.Escape) || !printable(r.Start):
		return errors.New("quoted-printable rule: malformed set of characters")
	case b.Kind != "" && b.Kind != breakFill && b.Kind != breakColumn && b.Kind != breakWord,
		b.Unit != "" && b.Unit != unitUTF8 && b.Unit != unitPHP:
		return errors.New("quoted-printable rule: unknown way to break lines")
	case (b.Kind == "") != (b.Limit == 0), b.Limit < 0, b.Limit > maxLimit, b.Last < 0, b.Last > 1, b.LastEscape < 0, b.LastEscape > 1:
		return errors.New("quoted-printable rule: a number is out of range")
	case b.Kind != "" && r.Soft == "":
		return errors.New("quoted-printable rule: soft line breaks without a line end")
	}
	return nil
}

// printable reports whether s has only tabs and printable characters, in ascending order.
func printable(s string) bool {
	last := byte(0)
	for i := range len(s) {
		c := s[i]
		if c <= last || !optional(c) {
			return false
		}
		last = c
	}
	return true
}

// A habit is a choice that an encoder always makes in the same way.
type habit byte

const (
	unknown habit = iota
	yes
	no
)

// is returns the choice. If it is unknown, it becomes what the encoder does now.
func (h *habit) is(now bool) bool {
	if *h == unknown {
		*h = no
		if now {
			*h = yes
		}
	}
	return *h == yes
}

// habits is a Rule without Break, as it is applied. While text is decoded, each habit is unknown
// until the rule first depends on it. It never changes afterwards, so the rule would have written
// all text before too.
type habits struct {
	middle, start  [128]habit // escaped, for each character
	crlf, lf       habit      // stands as it is
	trail, afterLF habit
}

func (r Rule) habits() *habits {
	choice := func(b bool) habit {
		if b {
			return yes
		}
		return no
	}
	h := &habits{crlf: choice(r.CRLF), lf: choice(r.LF), trail: choice(r.Trail), afterLF: choice(r.Break.AfterLF)}
	for c := range 128 {
		h.middle[c] = choice(strings.IndexByte(r.Escape, byte(c)) >= 0)
		h.start[c] = choice(strings.IndexByte(r.Start, byte(c)) >= 0)
	}
	return h
}

// characters returns the characters that are escaped.
func characters(set *[128]habit) string {
	var s strings.Builder
	for c, h := range set {
		if h == yes {
			s.WriteByte(byte(c))
		}
	}
	return s.String()
}

// A spot is a place in the data where the next byte is encoded.
type spot struct {
	next []byte // what comes there: at most lookahead bytes
	how  []byte // how next was encoded; nil while it is being encoded
	end  bool   // the data ends with next

	escaped bool // see look
	last    bool

	column     int
	afterBlank bool // the last byte was a space that is not escaped
	afterLF    bool // the last byte was an escaped LF
}

// look finds out, for all ways to break lines, whether the next byte is escaped if no soft line
// break stands before it, and whether a line ends after it.
func (s *spot) look(h *habits) { s.escaped, s.last = h.escapes(s, 0, s.column), h.ends(s, 1) }

// done reports how byte i of next was encoded.
func (s *spot) done(i int, bit byte) bool { return s.how != nil && s.how[i]&bit != 0 }

// lineEnd returns the length of the line end at the start of next that stands as it is, or 0.
func (h *habits) lineEnd(next []byte) int {
	switch {
	case len(next) == 0:
	case next[0] == '\n' && h.lf == yes:
		return 1
	case next[0] == '\r' && len(next) > 1 && next[1] == '\n' && h.crlf == yes:
		return 2
	}
	return 0
}

// ends reports whether a line ends before byte n of next.
func (h *habits) ends(s *spot, n int) bool {
	if n == len(s.next) {
		return s.end
	}
	return h.lineEnd(s.next[n:]) > 0
}

// escapes reports whether byte i of next is escaped, if it stands in this column.
func (h *habits) escapes(s *spot, i, column int) bool {
	c := s.next[i]
	now := s.done(i, escaped)
	switch {
	case h.lineEnd(s.next[i:]) > 0:
		return false
	case !optional(c):
		return true
	case lines.IsBlank(c):
		if n := lines.Blanks(s.next[i:min(len(s.next), i+maxTrail)]); h.ends(s, i+n) && (n == 1 || h.trail.is(now)) {
			return true
		}
	case c == 'F' && column == 0 && !bytes.HasPrefix(s.next[i:], []byte("From ")):
		return h.middle[c].is(now)
	}
	if column == 0 {
		return h.start[c].is(now)
	}
	if (c == '.' || c == 'F') && s.done(i, softBefore) {
		now = false // what is escaped at the start of a line says nothing of its middle
	}
	return h.middle[c].is(now)
}

// before reports whether a soft line break stands before next, at which s has looked.
func (b *Break) before(h *habits, s *spot) bool {
	switch {
	case b.Kind == "" || s.column == 0:
		return false
	case h.lineEnd(s.next) > 0:
		return b.Eager && s.column >= b.Limit
	case s.afterLF && h.afterLF.is(s.done(0, softBefore)):
		return true
	case b.Kind == breakColumn:
		return s.column >= b.Limit
	case b.Kind == breakWord && s.afterBlank && s.next[0] != ' ':
		if width, last := h.word(s, b.Limit); width <= b.Limit {
			if last {
				width -= b.Last
			}
			return s.column+width > b.Limit
		}
	}
	return b.fills(s)
}

// fills reports whether the next character makes the line longer than the limit.
func (b *Break) fills(s *spot) bool {
	limit, width := b.Limit, 1
	switch {
	case s.escaped && !(b.Late && s.last && lines.IsBlank(s.next[0])):
		width = unitWidth(b.Unit, s.next[0])
		if s.last {
			limit += b.LastEscape
		}
	case s.last:
		limit += b.Last
	}
	return s.column+width > limit
}

// unitWidth returns how many columns must be free for the escaped byte c.
func unitWidth(unit string, c byte) int {
	switch {
	case unit == "" || c < 0x80:
		return 3
	case unit == unitUTF8 && c < 0xc0, unit == unitPHP && c > 0xf4:
		return 0
	case c < 0xe0:
		return 6
	case c < 0xf0:
		return 9
	}
	return maxUnit
}

// word returns the columns that the next word takes, with the space that follows it, and whether
// a line end follows it instead. It counts no further than above the limit.
func (h *habits) word(s *spot, limit int) (width int, last bool) {
	for i := 0; width <= limit; i++ {
		if h.ends(s, i) {
			return width, true
		}
		if i == len(s.next) {
			break
		}
		if h.escapes(s, i, 1) {
			width += 3
		} else {
			width++
		}
		if s.next[i] == ' ' {
			break
		}
	}
	return width, false
}

// plain reports whether c stands as it is in the middle of a line, whatever comes before and after.
func (h *habits) plain(c byte) bool { return c > ' ' && optional(c) && h.middle[c] == no }

// run returns how many bytes of data are plain characters that no rule with this limit breaks
// before.
func (h *habits) run(s *spot, data []byte, limit int) int {
	if s.column == 0 || s.afterBlank || s.afterLF {
		return 0
	}
	n := 0
	for n < len(data) && s.column+n < limit && h.plain(data[n]) {
		n++
	}
	return n
}

// pass moves s behind a byte, or a line end of two, and returns its length.
func (s *spot) pass(soft, esc bool) int {
	c := s.next[0]
	if soft {
		s.column = 0
	}
	n := 1
	switch {
	case esc:
		s.column += 3
	case c == '\n':
		s.column = 0
	case c == '\r' && len(s.next) > 1 && s.next[1] == '\n':
		n, s.column = 2, 0
	default:
		s.column++
	}
	s.afterBlank = !esc && c == ' '
	s.afterLF = esc && c == '\n'
	return n
}

// encodeQuoted writes r in quoted-printable, by the rule.
func (l Layout) encodeQuoted(w io.Writer, r io.Reader) error {
	e := quotedEncoder{w: bufio.NewWriterSize(w, lineBuffer), rule: *l.Rule, habits: l.Rule.habits(), exceptions: l.Exceptions}
	buf := make([]byte, 0, lineBuffer)
	for end := false; !end; {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		if end = err == io.EOF || err == io.ErrUnexpectedEOF; err != nil && !end {
			return err
		}
		buf = buf[:len(buf)+n]
		if n, err = e.encode(buf, end); err != nil {
			return err
		}
		buf = append(buf[:0], buf[n:]...)
	}
	if len(e.exceptions) > 0 {
		return ErrLayout // of bytes that the data does not have
	}
	if _, err := e.w.WriteString(l.Tail); err != nil {
		return err
	}
	return e.w.Flush()
}

type quotedEncoder struct {
	w          *bufio.Writer
	rule       Rule
	habits     *habits
	exceptions []Exception
	spot       spot
	offset     int64
}

// encode encodes data up to where the rule does not see enough of what follows. It returns how much
// that was.
func (e *quotedEncoder) encode(data []byte, end bool) (int, error) {
	i, s := 0, &e.spot
	for i < len(data) && (end || len(data)-i > lookahead) {
		if n := e.habits.run(s, data[i:e.until(i, data, end)], e.quick()); n > 0 {
			if _, err := e.w.Write(data[i : i+n]); err != nil {
				return i, err
			}
			i, e.offset, s.column = i+n, e.offset+int64(n), s.column+n
			continue
		}
		s.next = data[i:min(len(data), i+lookahead)]
		s.end = i+len(s.next) == len(data) && end
		s.look(e.habits)
		soft, esc := e.rule.Break.before(e.habits, s), s.escaped
		if soft {
			esc = e.habits.escapes(s, 0, 0)
		}
		if len(e.exceptions) > 0 && e.exceptions[0].At == e.offset {
			soft, esc = e.exceptions[0].Soft, e.exceptions[0].Escaped
			e.exceptions = e.exceptions[1:]
		}
		n := s.pass(soft, esc)
		if err := e.write(data[i:i+n], soft, esc); err != nil {
			return i, err
		}
		i, e.offset = i+n, e.offset+int64(n)
	}
	return i, nil
}

// until returns the end of the piece of data, from byte i on, that needs neither an exception nor
// bytes that are not there yet.
func (e *quotedEncoder) until(i int, data []byte, end bool) int {
	n := len(data)
	if !end {
		n -= lookahead
	}
	if len(e.exceptions) > 0 {
		n = int(min(int64(n), int64(i)+max(0, e.exceptions[0].At-e.offset)))
	}
	return n
}

// quick is the column before which no line is broken.
func (e *quotedEncoder) quick() int { return cmp.Or(e.rule.Break.Limit, maxLimit) }

func (e *quotedEncoder) write(b []byte, soft, esc bool) error {
	if soft {
		e.w.WriteString("=" + e.rule.Soft) // the writer keeps its error
	}
	if !esc {
		_, err := e.w.Write(b)
		return err
	}
	digits := "0123456789ABCDEF"
	if e.rule.Lower {
		digits = "0123456789abcdef"
	}
	_, err := e.w.Write([]byte{'=', digits[b[0]>>4], digits[b[0]&15]})
	return err
}
