package skeleton

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"slices"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/link"
)

const (
	// finderBuffer is the unit in which a mail is searched.
	finderBuffer = 64 << 10
	// maxFields bounds the fields that a Finder reads. Each may take some milliseconds.
	maxFields = 100
	// finderDepth is how many layers of base64 are searched: a forwarded mail, and one in that.
	finderDepth = 2
)

// A Finder finds Detach-Restore fields anywhere in a mail that is written to it: those of mails
// that it forwards, attached or quoted in its text, plain, in quoted-printable, base64 or HTML. It
// takes linear time and bounded memory.
type Finder struct {
	links  []link.Link
	fields int
	buf    []byte
	inner  *Finder // searches what base64 decodes to
}

// NewFinder returns a Finder for one mail.
func NewFinder() *Finder { return newFinder(finderDepth) }

func newFinder(depth int) *Finder {
	f := new(Finder)
	if depth > 0 {
		f.inner = newFinder(depth - 1)
	}
	return f
}

// Write takes the next bytes of the mail. It returns no error.
func (f *Finder) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), finderBuffer-len(f.buf))
		f.buf, rest = append(f.buf, rest[:n]...), rest[n:]
		if len(f.buf) == finderBuffer {
			f.search(false)
		}
	}
	return len(p), nil
}

// Links ends the mail, and returns the links of its fields in their order, each once.
func (f *Finder) Links() []link.Link {
	f.search(true)
	return f.links
}

// search searches what is buffered, and keeps the end of it for the next search: a field may begin
// there.
func (f *Finder) search(end bool) {
	text, done := f.buf, len(f.buf)
	if !end {
		done = bytes.LastIndexByte(text[:len(text)-maxValue], '\n') + 1
		if done == 0 {
			done = len(text) - maxValue // a very long line
		}
	}
	lower := asciiLower(text)
	name := []byte(strings.ToLower(Field))
	for at := 0; ; {
		i := bytes.Index(lower[at:], name)
		if i < 0 || at+i >= done || f.fields == maxFields {
			break
		}
		f.fields++
		at += i + len(name)
		f.found(text[at:min(at+maxValue, len(text))])
	}
	if f.inner != nil {
		f.decode(text[:done], end)
	}
	f.buf = append(f.buf[:0], text[done:]...)
}

func asciiLower(text []byte) []byte {
	lower := slices.Clone(text)
	for i, b := range lower {
		if 'A' <= b && b <= 'Z' {
			lower[i] = b + 'a' - 'A'
		}
	}
	return lower
}

// nextField matches a field of a header that may be quoted in a text.
var nextField = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*:(?:[ \t]|$)`)

// found takes the text after the name of a field, up to a blank line or the next field.
func (f *Finder) found(text []byte) {
	var value strings.Builder
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimRight(line, "\r")
		bare := strings.TrimLeft(line, "> \t")
		if i > 0 && (bare == "" || nextField.MatchString(bare)) {
			break
		}
		value.WriteString(line + "\n")
	}
	if l, err := parseValue(value.String()); err == nil {
		f.keep(l)
	}
}

func (f *Finder) keep(l link.Link) {
	if !slices.Contains(f.links, l) {
		f.links = append(f.links, l)
	}
}

// decode searches the base64 in whole lines.
func (f *Finder) decode(lines []byte, end bool) {
	decoded := make([]byte, 0, len(lines))
	for line := range bytes.Lines(lines) {
		line = bytes.TrimRight(line, "\r\n")
		if n := len(line); n < 4 || n%4 != 0 {
			continue
		}
		if b, err := base64.StdEncoding.AppendDecode(decoded, line); err == nil {
			decoded = b
		}
	}
	_, _ = f.inner.Write(decoded)
	if end {
		f.inner.search(true)
	}
	for _, l := range f.inner.links {
		f.keep(l)
	}
}
