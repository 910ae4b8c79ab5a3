// Package lines finds the lines of a mail, and where they end. A line ends with LF or with CR LF; a
// bare CR ends nothing.
package lines

import "bytes"

// Index returns where the first line of b that begins with c starts, or -1. The start of b may be
// within a line, so it does not count: a line begins after a LF.
//
// Index looks for c, and then at what stands before it: base64, which most of a large mail is, has
// a line end every 78 bytes, and no dash or dot at all. A line that holds c elsewhere is skipped as
// a whole, so no text costs more than two searches a line.
func Index(b []byte, c byte) int {
	for n := 0; ; {
		i := bytes.IndexByte(b[n:], c)
		if i < 0 {
			return -1
		}
		n += i
		if n > 0 && b[n-1] == '\n' {
			return n
		}
		if i = bytes.IndexByte(b[n:], '\n'); i < 0 {
			return -1
		}
		n += i + 1
	}
}

// First returns the first line of b with its line end; whole reports whether it has one.
func First(b []byte) (line []byte, whole bool) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1], true
	}
	return b, false
}

// End returns the line end that b ends with, or a final CR, which may be the first half of one.
func End(b []byte) []byte {
	rest := bytes.TrimSuffix(b, []byte("\n"))
	return b[len(bytes.TrimSuffix(rest, []byte("\r"))):]
}

// Ending returns the line end that b uses, which is that of its first line; otherwise if b has
// none.
func Ending(b []byte, otherwise string) string {
	line, whole := First(b)
	switch {
	case !whole:
		return otherwise
	case bytes.HasSuffix(line, []byte("\r\n")):
		return "\r\n"
	}
	return "\n"
}

// IsBlank reports whether c is a space or a tab.
func IsBlank(c byte) bool { return c == ' ' || c == '\t' }

// Blanks returns how many spaces and tabs b begins with.
func Blanks(b []byte) int {
	n := 0
	for n < len(b) && IsBlank(b[n]) {
		n++
	}
	return n
}
