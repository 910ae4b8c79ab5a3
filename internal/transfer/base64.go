package transfer

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"io"
	"math"
	"slices"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
)

// strictBase64 refuses trailing bits that no encoder writes: they would be lost.
var strictBase64 = base64.StdEncoding.Strict()

// base64Decoder decodes base64 (RFC 2045 section 6.8). Text is damaged unless encoding the result
// again gives the same characters, apart from blanks and line ends.
type base64Decoder struct {
	runs    []Run
	length  int    // of the line being read
	end     []byte // blanks and line end being read
	quantum []byte // up to three characters, which the next chunk completes
	padded  bool   // "=" was seen: no characters may follow
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
// and returns their length in bytes. It is several times as fast as line, and accepts only lines of
// base64 characters without padding. It returns false if it met another character: the caller need
// not try it again for this chunk.
func (t *base64Decoder) equalLines(dst, chunk []byte) ([]byte, int, bool) {
	if len(t.runs) == 0 || t.length > 0 || len(t.end) > 0 || len(t.quantum) > 0 || t.padded {
		return dst, 0, true
	}
	last := &t.runs[len(t.runs)-1]
	if last.Len == 0 || last.Len%4 != 0 {
		return dst, 0, true
	}
	whole, size := last.Len+len(last.End), last.Len/4*3
	dst = slices.Grow(dst, len(chunk)/whole*size+decodeSlack)
	n, pure := 0, true
	for len(chunk)-n >= whole && string(chunk[n+last.Len:n+whole]) == last.End {
		if pure = decodeQuanta(dst[len(dst):cap(dst)], chunk[n:n+last.Len]); !pure {
			break
		}
		dst, n = dst[:len(dst)+size], n+whole
	}
	last.Count += n / whole
	return dst, n, pure
}

// notBase64 marks a pair of characters of which one is not in the alphabet.
const notBase64 = 1 << 15

// pairs maps two base64 characters, read as a little-endian uint16, to their 12 bits. A quantum
// takes two lookups, and the entries that mail needs fit into a core's first cache.
var pairs = func() *[1 << 16]uint16 {
	var value [256]uint16
	for c := range value {
		value[c] = notBase64
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
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
func (t *base64Decoder) line(dst, line []byte) ([]byte, error) {
	text := bytes.TrimRight(line, " \t\r\n")
	if len(text) > 0 {
		if len(t.end) > 0 || t.length > math.MaxInt32 { // blanks within a line, or an endless line
			return dst, ErrDamaged
		}
		t.length += len(text)
		var err error
		if dst, err = t.text(dst, text); err != nil {
			return dst, err
		}
	}
	t.end = append(t.end, line[len(text):]...)
	if len(t.end) > MaxLineEnd {
		return dst, ErrDamaged
	}
	if line[len(line)-1] == '\n' {
		t.endLine()
	}
	if len(t.runs) > MaxRuns {
		return dst, ErrDamaged
	}
	return dst, nil
}

// text decodes characters that have no blanks among them.
func (t *base64Decoder) text(dst, text []byte) ([]byte, error) {
	if t.padded {
		return dst, ErrDamaged
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
			return dst, ErrDamaged
		}
	}
	whole := len(text) &^ 3
	t.quantum = append(t.quantum, text[whole:]...)
	if whole == 0 {
		return dst, nil
	}
	dst, err := t.quanta(dst, text[:whole])
	if err == nil && t.padded && len(t.quantum) > 0 {
		err = ErrDamaged
	}
	return dst, err
}

// quanta decodes whole groups of four characters; the last may be padded.
func (t *base64Decoder) quanta(dst, text []byte) ([]byte, error) {
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
	// The decoder skips a CR in the middle of text, which a layout could not reproduce.
	if err != nil || len(dst)-size != want {
		return dst, ErrDamaged
	}
	return dst, nil
}

func (t *base64Decoder) endLine() {
	if n := len(t.runs); n > 0 && t.runs[n-1].Len == t.length && t.runs[n-1].End == string(t.end) {
		t.runs[n-1].Count++
	} else {
		t.runs = append(t.runs, Run{Len: t.length, End: t.endString(), Count: 1})
	}
	t.length, t.end = 0, t.end[:0]
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
	if len(t.quantum) > 0 {
		return dst, ErrDamaged // QUIRK: either the padding was left out, or a line was cut short
	}
	return dst, nil
}

func (t *base64Decoder) Layout() Layout {
	runs := slices.Clone(t.runs) // without spare room, because layouts are kept
	if t.length > 0 || len(t.end) > 0 {
		runs = append(runs, Run{Len: t.length, End: t.endString(), Count: 1})
	}
	return Layout{Encoding: Base64, Lines: runs, Tail: string(t.quantum)}
}

func (t *base64Decoder) Encoded() io.Reader { return nil }
func (t *base64Decoder) Close() error       { return nil }
