package transfer

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

const (
	// MaxRuns bounds the runs of one layout, and therefore its memory. Real encoders need two;
	// content that needs more than MaxRuns is damaged.
	MaxRuns = 64
	// MaxLineEnd bounds the bytes of one line end, including the characters around it that do not
	// count.
	MaxLineEnd = 64
	// lineBuffer gathers lines on their way out.
	lineBuffer = 32 << 10
)

// The encodings of a layout.
const (
	Base64   = "base64"
	Identity = "identity"
	Quoted   = "quoted-printable"
	// Encoded means that no rule writes the encoded bytes again: they are kept beside the decoded
	// ones.
	Encoded = "encoded"
)

// ErrLayout means that the layout was not recorded from this content, or not by this package.
var ErrLayout = errors.New("the layout does not fit its attachment")

// A Layout says how decoded bytes were encoded in the mail.
type Layout struct {
	Encoding string `json:"encoding"`
	Lines    []Run  `json:"lines,omitempty"` // base64: the lengths of the lines, and their line ends
	Rule     *Rule  `json:"rule,omitempty"`  // quoted-printable
	// Exceptions to Rule, in the order of the bytes.
	Exceptions []Exception `json:"exceptions,omitempty"`
	// For base64, Tail is the last group of characters, if an encoder writes others for its bytes.
	// For the other encodings, it is the text between the content and the delimiter: a last soft
	// line break, and the line end.
	Tail string `json:"tail,omitempty"`
}

// Size returns how many runs and exceptions l has.
func (l Layout) Size() int { return len(l.Lines) + len(l.Exceptions) }

// A Run is a number of lines of the same length with the same end.
type Run struct {
	Len   int    `json:"len"`   // characters of base64
	End   string `json:"end"`   // what follows them: blanks, line end, characters that do not count
	Count int    `json:"count"` // lines
}

// Encode writes to w the encoded form of r. If Encoding is Encoded, r must be the encoded bytes. It
// returns ErrLayout if it finds that the layout was not recorded from r.
func (l Layout) Encode(w io.Writer, r io.Reader) error {
	switch {
	case l.Encoding == Identity || l.Encoding == Encoded:
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
		_, err := io.WriteString(w, l.Tail)
		return err
	case l.Encoding == Base64:
		return l.encodeBase64(w, r)
	case l.Encoding == Quoted && l.Rule != nil:
		return l.encodeQuoted(w, r)
	}
	return fmt.Errorf("%w: unknown encoding", ErrLayout)
}

// Check returns an error for a layout that no Decoder records. Callers must check every layout read
// from outside: with an invalid layout Encode may write without end.
func (l Layout) Check() error {
	if l.Encoding != Base64 && len(l.Lines) > 0 || l.Encoding != Quoted && (l.Rule != nil || len(l.Exceptions) > 0) {
		return errors.New("layout with members of another encoding")
	}
	switch l.Encoding {
	case Identity:
		if l.Tail != "" && l.Tail != "\n" && l.Tail != "\r\n" {
			return errors.New("identity layout: a tail other than a line end")
		}
		return nil
	case Base64:
		return l.checkBase64()
	case Quoted:
		return l.checkQuoted()
	case Encoded:
		return checkTail(l.Tail)
	}
	return errors.New("layout of an unknown encoding")
}

func (l Layout) checkBase64() error {
	if len(l.Tail) > 4 || strings.Trim(l.Tail, alphabet+"=") != "" {
		return errors.New("base64 layout: malformed tail")
	}
	if len(l.Lines) > MaxRuns+1 { // one more for a last line without line end
		return errors.New("base64 layout: too many runs of lines")
	}
	for _, r := range l.Lines {
		if err := r.check(); err != nil {
			return err
		}
	}
	return nil
}

func (l Layout) checkQuoted() error {
	if l.Rule == nil || len(l.Exceptions) > MaxExceptions {
		return errors.New("quoted-printable layout: no rule, or too many exceptions")
	}
	last := int64(-1)
	for _, e := range l.Exceptions {
		if e.At <= last || e.Soft && l.Rule.Soft == "" {
			return errors.New("quoted-printable layout: malformed exception")
		}
		last = e.At
	}
	return errors.Join(l.Rule.check(), checkTail(l.Tail))
}

// checkTail checks what follows the last byte of quoted-printable. The soft line breaks of an
// encoded text may have blanks.
func checkTail(tail string) error {
	if len(tail) > 2*maxBlanks+4 || strings.Trim(tail, "= \t\r\n") != "" {
		return errors.New("quoted-printable layout: malformed tail")
	}
	return nil
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

func (r Run) check() error {
	switch {
	case r.Len < 0 || r.Count < 1 || r.Len > math.MaxInt32+1<<20:
		return errors.New("run of lines: a number is out of range")
	case r.Len == 0 && r.End == "": // Encode would loop Count times and write nothing
		return errors.New("run of lines: empty lines without a line end")
	case len(r.End) > MaxLineEnd || strings.ContainsFunc(r.End, func(c rune) bool { return c >= utf8.RuneSelf || inAlphabet[c] }):
		return errors.New("run of lines: malformed line end")
	}
	return nil
}

// encodeBase64 writes r in base64, in the recorded lines. Tail stands for the last group: the bytes
// that do not fill a group of three.
func (l Layout) encodeBase64(w io.Writer, r io.Reader) error {
	lines := &lineWriter{w: bufio.NewWriterSize(w, lineBuffer), runs: l.Lines}
	enc := base64.NewEncoder(base64.StdEncoding, lines)
	n, err := io.Copy(enc, r)
	if err != nil {
		return err
	}
	if over := int(n % 3); l.Tail == "" {
		err = enc.Close()
	} else if over > 0 && over != len(strings.TrimRight(l.Tail, "="))-1 {
		err = ErrLayout
	} else {
		_, err = io.WriteString(lines, l.Tail)
	}
	if err != nil {
		return err
	}
	return lines.close()
}

// A lineWriter breaks the characters written to it into the lines of a layout.
type lineWriter struct {
	w    *bufio.Writer
	runs []Run
	line int // in runs[0]
	pos  int // in the line
}

func (l *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if err := l.endLines(); err != nil {
			return 0, err
		}
		if len(l.runs) == 0 {
			return 0, ErrLayout // more characters than the layout has
		}
		k := min(l.runs[0].Len-l.pos, len(p))
		if _, err := l.w.Write(p[:k]); err != nil {
			return 0, err
		}
		l.pos += k
		p = p[k:]
	}
	return n, l.endLines()
}

// endLines writes the ends of lines that are full.
func (l *lineWriter) endLines() error {
	for len(l.runs) > 0 && l.pos == l.runs[0].Len {
		if _, err := l.w.WriteString(l.runs[0].End); err != nil {
			return err
		}
		l.pos = 0
		if l.line++; l.line == l.runs[0].Count {
			l.runs, l.line = l.runs[1:], 0
		}
	}
	return nil
}

func (l *lineWriter) close() error {
	if err := l.endLines(); err != nil {
		return err
	}
	if len(l.runs) > 0 {
		return ErrLayout // fewer characters than the layout has
	}
	return l.w.Flush()
}
