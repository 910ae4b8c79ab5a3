package rewrite

import (
	"bytes"
	"encoding/base64"
	"io"
	"math"
)

const (
	// maxRuns bounds the memory a layout takes. Real encoders need a handful;
	// mail with more has no layout worth keeping.
	maxRuns = 4096
	// maxLineEnd bounds the blanks kept as one line's end.
	maxLineEnd = 256
)

// strictBase64 refuses trailing bits that no encoder writes: they would be lost.
var strictBase64 = base64.StdEncoding.Strict()

// base64Transfer decodes base64 (RFC 2045 section 6.8) whose characters,
// without blanks and line ends, are just what encoding the result again gives.
type base64Transfer struct {
	runs    []run
	length  int    // of the line being read
	end     []byte // blanks and line end being read
	quantum []byte // characters still short of four
	padded  bool   // "=" was seen: nothing may follow
}

// decode works on lines, and on pieces of lines where a chunk ends within one.
func (t *base64Transfer) decode(dst, chunk []byte) ([]byte, error) {
	before := t.save()
	size := len(dst)
	for len(chunk) > 0 {
		line, _ := firstLine(chunk)
		chunk = chunk[len(line):]
		var err error
		if dst, err = t.line(dst, line); err != nil {
			before.restore(t)
			return dst[:size], err
		}
	}
	return dst, nil
}

func (t *base64Transfer) line(dst, line []byte) ([]byte, error) {
	text := bytes.TrimRight(line, " \t\r\n")
	if len(text) > 0 {
		if len(t.end) > 0 {
			return dst, errDamaged // blanks within a line
		}
		if t.length > math.MaxInt32 {
			return dst, errDamaged
		}
		t.length += len(text)
		var err error
		if dst, err = t.text(dst, text); err != nil {
			return dst, err
		}
	}
	t.end = append(t.end, line[len(text):]...)
	if len(t.end) > maxLineEnd {
		return dst, errDamaged
	}
	if line[len(line)-1] == '\n' {
		t.endLine()
	}
	if len(t.runs) > maxRuns {
		return dst, errDamaged
	}
	return dst, nil
}

// text decodes characters without any blanks.
func (t *base64Transfer) text(dst, text []byte) ([]byte, error) {
	if t.padded {
		return dst, errDamaged
	}
	if len(t.quantum) > 0 {
		n := min(4-len(t.quantum), len(text))
		t.quantum = append(t.quantum, text[:n]...)
		text = text[n:]
		if len(t.quantum) < 4 {
			return dst, nil
		}
		var err error
		if dst, err = t.quanta(dst, t.quantum); err != nil {
			return dst, err
		}
		t.quantum = t.quantum[:0]
		if t.padded && len(text) > 0 {
			return dst, errDamaged
		}
	}
	whole := len(text) &^ 3
	t.quantum = append(t.quantum, text[whole:]...)
	if whole == 0 {
		return dst, nil
	}
	dst, err := t.quanta(dst, text[:whole])
	if err == nil && t.padded && len(t.quantum) > 0 {
		err = errDamaged
	}
	return dst, err
}

// quanta decodes whole groups of four characters.
func (t *base64Transfer) quanta(dst, text []byte) ([]byte, error) {
	want := len(text) / 4 * 3
	if text[len(text)-1] == '=' {
		t.padded = true
		want--
		if text[len(text)-2] == '=' {
			want--
		}
	}
	size := len(dst)
	dst, err := strictBase64.AppendDecode(dst, text)
	// The decoder skips a CR in the middle, which a layout could not give back.
	if err != nil || len(dst)-size != want {
		return dst, errDamaged
	}
	return dst, nil
}

func (t *base64Transfer) endLine() {
	if n := len(t.runs); n > 0 && t.runs[n-1].Len == t.length && t.runs[n-1].End == string(t.end) {
		t.runs[n-1].Count++
	} else {
		t.runs = append(t.runs, run{Len: t.length, End: string(t.end), Count: 1})
	}
	t.length, t.end = 0, t.end[:0]
}

func (t *base64Transfer) finish(dst []byte, _ bool) ([]byte, error) {
	if len(t.quantum) > 0 {
		return dst, errDamaged // QUIRK: padding left out, or a line cut short: who knows
	}
	return dst, nil
}

func (t *base64Transfer) layout() Layout {
	lines := t.runs
	if t.length > 0 || len(t.end) > 0 {
		lines = append(lines[:len(lines):len(lines)], run{Len: t.length, End: string(t.end), Count: 1})
	}
	return Layout{Encoding: "base64", Lines: lines, Tail: string(t.quantum)}
}

func (t *base64Transfer) Close() error { return nil }

// A base64State is what decode goes back to when a chunk turns out damaged.
type base64State struct {
	runs    int
	count   int // of the last run
	length  int
	end     string
	quantum string
	padded  bool
}

func (t *base64Transfer) save() base64State {
	s := base64State{runs: len(t.runs), length: t.length, end: string(t.end), quantum: string(t.quantum), padded: t.padded}
	if s.runs > 0 {
		s.count = t.runs[s.runs-1].Count
	}
	return s
}

func (s base64State) restore(t *base64Transfer) {
	t.runs = t.runs[:s.runs]
	if s.runs > 0 {
		t.runs[s.runs-1].Count = s.count
	}
	t.length, t.padded = s.length, s.padded
	t.end, t.quantum = append(t.end[:0], s.end...), append(t.quantum[:0], s.quantum...)
}

// encodeBase64 writes r in base64, in the lines that were recorded.
func (l Layout) encodeBase64(w io.Writer, r io.Reader) error {
	lines := &lineWriter{w: w, runs: l.Lines}
	enc := base64.NewEncoder(base64.StdEncoding, lines)
	if _, err := io.Copy(enc, r); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	if _, err := io.WriteString(lines, l.Tail); err != nil {
		return err
	}
	return lines.close()
}

// A lineWriter cuts what is written into the lines of a layout.
type lineWriter struct {
	w    io.Writer
	runs []run
	line int // in runs[0]
	pos  int // in the line
	out  []byte
}

func (l *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		l.endLines()
		if len(l.runs) == 0 {
			return 0, errDamaged // more characters than the layout has room for
		}
		k := min(l.runs[0].Len-l.pos, len(p))
		l.out = append(l.out, p[:k]...)
		l.pos += k
		p = p[k:]
	}
	l.endLines()
	_, err := l.w.Write(l.out)
	l.out = l.out[:0]
	return n, err
}

// endLines ends the lines that are full.
func (l *lineWriter) endLines() {
	for len(l.runs) > 0 && l.pos == l.runs[0].Len {
		l.out = append(l.out, l.runs[0].End...)
		l.pos = 0
		if l.line++; l.line == l.runs[0].Count {
			l.runs, l.line = l.runs[1:], 0
		}
	}
}

func (l *lineWriter) close() error {
	l.endLines()
	if len(l.runs) > 0 {
		return errDamaged // fewer characters than the layout has
	}
	_, err := l.w.Write(l.out)
	return err
}
