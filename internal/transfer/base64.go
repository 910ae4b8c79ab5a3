package transfer

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"io"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
)

// base64Decoder decodes base64 (RFC 2045 section 6.8) as all mail programs do: they skip characters
// outside the alphabet, and take a last group without its padding, with too much of it, or with
// bits that no encoder sets. Programs differ about characters after the padding, about a single
// character at the end, and about equals signs elsewhere in a group: such text is damaged. So is
// text in more runs of lines than a layout has.
type base64Decoder struct {
	runs   []Run
	length int    // of the line being read, in characters of base64
	end    []byte // what follows them
	// quantum has up to three characters, which the next chunk completes. At the end it has the
	// last group, if an encoder writes another one.
	quantum []byte
	padded  bool // the last group is complete
}

// Decode decodes whole lines, and pieces of lines where a chunk ends within one.
func (t *base64Decoder) Decode(dst, chunk []byte) ([]byte, error) {
	before, size, fast := t.state(), len(dst), true
	for len(chunk) > 0 {
		if fast {
			var n int
			dst, n, fast = t.equalLines(dst, chunk)
			if chunk = chunk[n:]; len(chunk) == 0 {
				break
			}
		}
		line, _ := lines.First(chunk)
		chunk = chunk[len(line):]
		var err error
		if dst, err = t.line(dst, line); err != nil {
			t.restore(before)
			return dst[:size], err
		}
	}
	return dst, nil
}

// base64State is a decoder's state between two chunks. The pending bytes are copied into arrays, so
// saving the state for each chunk allocates nothing.
type base64State struct {
	decoder base64Decoder
	count   int // of the last run's lines
	end     [MaxLineEnd]byte
	quantum [4]byte
}

func (t *base64Decoder) state() (s base64State) {
	s.decoder = *t
	copy(s.end[:], t.end)
	copy(s.quantum[:], t.quantum)
	if n := len(t.runs); n > 0 {
		s.count = t.runs[n-1].Count
	}
	return s
}

func (t *base64Decoder) restore(s base64State) {
	*t = s.decoder
	copy(t.end, s.end[:])
	copy(t.quantum, s.quantum[:])
	if n := len(t.runs); n > 0 {
		t.runs[n-1].Count = s.count
	}
}

// equalLines decodes the lines at the start of chunk that are laid out like the line before them,
// and returns their length in bytes. It is several times as fast as line, and accepts only whole
// groups of the alphabet. It leaves a line whose end may not be complete, such as the last of each
// chunk, to line. It returns false if it met another character: then it is not worth trying again
// for this chunk.
func (t *base64Decoder) equalLines(dst, chunk []byte) ([]byte, int, bool) {
	if !inAlphabet[chunk[0]] || t.padded || len(t.quantum) > 0 || !t.endLine() || len(t.runs) == 0 {
		return dst, 0, true
	}
	last := &t.runs[len(t.runs)-1]
	if t.length > 0 || last.Len == 0 || last.Len%4 != 0 {
		return dst, 0, true
	}
	whole, size := last.Len+len(last.End), last.Len/4*3
	dst = slices.Grow(dst, len(chunk)/whole*size+decodeSlack)
	n, pure := 0, true
	for len(chunk)-n > whole && string(chunk[n+last.Len:n+whole]) == last.End && inAlphabet[chunk[n+whole]] {
		if pure = decodeQuanta(dst[len(dst):cap(dst)], chunk[n:n+last.Len]); !pure {
			break
		}
		dst, n = dst[:len(dst)+size], n+whole
	}
	last.Count += n / whole
	return dst, n, pure
}

// inAlphabet has the characters of base64, without the equals sign.
var inAlphabet = func() (in [256]bool) {
	for _, c := range []byte(alphabet) {
		in[c] = true
	}
	return in
}()

// notBase64 marks a pair of characters of which one is not in the alphabet.
const notBase64 = 1 << 15

// pairs maps two base64 characters, read as a little-endian uint16, to their 12 bits. A quantum
// takes two lookups, and the entries that mail needs fit into a core's first cache.
var pairs = func() *[1 << 16]uint16 {
	var value [256]uint16
	for c := range value {
		value[c] = notBase64
	}
	for i, c := range []byte(alphabet) {
		value[c] = uint16(i)
	}
	var pairs [1 << 16]uint16
	for i := range pairs {
		first, second := value[i&0xff], value[i>>8]
		pairs[i] = first<<6 | second | (first|second)&notBase64
	}
	return &pairs
}()

// decodeSlack is how much longer than its result dst must be for decodeQuanta.
const decodeSlack = 2

// decodeQuanta decodes whole groups of four characters of the alphabet, without padding. If it
// returns false, text has other characters and the contents of dst are undefined.
func decodeQuanta(dst, text []byte) bool {
	var seen uint16
	for ; len(text) >= 8; dst, text = dst[6:], text[8:] {
		v := binary.LittleEndian.Uint64(text)
		a, b, c, d := pairs[uint16(v)], pairs[uint16(v>>16)], pairs[uint16(v>>32)], pairs[uint16(v>>48)]
		seen |= a | b | c | d
		binary.BigEndian.PutUint64(dst, uint64(a)<<52|uint64(b)<<40|uint64(c)<<28|uint64(d)<<16)
	}
	if len(text) > 0 {
		v := binary.LittleEndian.Uint32(text)
		a, b := pairs[uint16(v)], pairs[uint16(v>>16)]
		seen |= a | b
		dst[0], dst[1], dst[2] = byte(a>>4), byte(a<<4|b>>8), byte(b)
	}
	return seen&notBase64 == 0
}

// line decodes one line, or a piece of one.
func (t *base64Decoder) line(dst, line []byte) (_ []byte, err error) {
	for len(line) > 0 && err == nil {
		n := 0
		for n < len(line) && inAlphabet[line[n]] {
			n++
		}
		switch {
		case n > 0:
			dst, err = t.text(dst, line[:n])
		case line[0] == '=' && !t.padded && len(t.quantum) > 0:
			n = 1
			dst, err = t.pad(dst)
		default:
			n = 1
			err = t.skip(line[0])
		}
		line = line[n:]
	}
	return dst, err
}

// text decodes characters of the alphabet.
func (t *base64Decoder) text(dst, text []byte) ([]byte, error) {
	if t.padded || bytes.HasSuffix(t.quantum, []byte("=")) || !t.endLine() || t.length > math.MaxInt32 {
		return dst, ErrDamaged
	}
	t.length += len(text)
	if len(t.quantum) > 0 {
		n := min(4-len(t.quantum), len(text))
		t.quantum, text = append(t.quantum, text[:n]...), text[n:]
		if len(t.quantum) < 4 {
			return dst, nil
		}
		dst, t.quantum = appendQuanta(dst, t.quantum), t.quantum[:0]
	}
	whole := len(text) &^ 3
	t.quantum = append(t.quantum, text[whole:]...)
	return appendQuanta(dst, text[:whole]), nil
}

func appendQuanta(dst, text []byte) []byte {
	size := len(dst) + len(text)/4*3
	dst = slices.Grow(dst, size-len(dst)+decodeSlack)
	decodeQuanta(dst[len(dst):cap(dst)], text)
	return dst[:size]
}

// pad takes an equals sign within a group.
func (t *base64Decoder) pad(dst []byte) ([]byte, error) {
	if len(t.quantum) < 2 || !t.endLine() {
		return dst, ErrDamaged
	}
	t.length++
	if t.quantum = append(t.quantum, '='); len(t.quantum) < 4 {
		return dst, nil
	}
	return t.last(dst)
}

// last decodes the last group. If an encoder would write other characters for it, quantum keeps
// them.
func (t *base64Decoder) last(dst []byte) ([]byte, error) {
	size := len(dst)
	dst, err := base64.RawStdEncoding.AppendDecode(dst, bytes.TrimRight(t.quantum, "="))
	if err != nil {
		return dst[:size], ErrDamaged // a single character
	}
	if t.padded = true; base64.StdEncoding.EncodeToString(dst[size:]) == string(t.quantum) {
		t.quantum = t.quantum[:0]
	}
	return dst, nil
}

// skip takes a character that does not count. Each empty line is a line of its own.
func (t *base64Decoder) skip(c byte) error {
	empty := bytes.HasSuffix(t.end, []byte("\n")) && (c == '\r' || c == '\n' || bytes.Count(t.end, []byte("\n")) > 1)
	if empty && !t.endLine() || c >= utf8.RuneSelf || len(t.end) == MaxLineEnd {
		return ErrDamaged
	}
	t.end = append(t.end, c)
	return nil
}

// endLine ends the line being read, if its end has begun. It returns false if there are too many
// runs.
func (t *base64Decoder) endLine() bool {
	if len(t.end) > 0 {
		t.runs = t.withLine(t.runs)
		t.length, t.end = 0, t.end[:0]
	}
	return len(t.runs) <= MaxRuns
}

// withLine returns runs with the line being read.
func (t *base64Decoder) withLine(runs []Run) []Run {
	if n := len(runs); n > 0 && runs[n-1].Len == t.length && runs[n-1].End == string(t.end) {
		runs[n-1].Count++
		return runs
	}
	return append(runs, Run{Len: t.length, End: t.endString(), Count: 1})
}

// endString returns the line end. Runs with the same line end share one string.
func (t *base64Decoder) endString() string {
	for _, r := range t.runs {
		if r.End == string(t.end) {
			return r.End
		}
	}
	return string(t.end)
}

func (t *base64Decoder) Finish(dst []byte, _ bool) ([]byte, error) {
	if t.padded || len(t.quantum) == 0 {
		return dst, nil
	}
	return t.last(dst)
}

func (t *base64Decoder) Layout() Layout {
	runs := slices.Clone(t.runs) // without spare room, because layouts are kept
	if t.length > 0 || len(t.end) > 0 {
		runs = t.withLine(runs)
	}
	return Layout{Encoding: Base64, Lines: runs, Tail: string(t.quantum)}
}

func (t *base64Decoder) Encoded() io.Reader { return nil }
func (t *base64Decoder) Close() error       { return nil }
