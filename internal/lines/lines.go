// Package lines finds the lines of a mail and their ends. A line ends with LF or with CR LF; a bare
// CR does not end a line.
package lines

import "bytes"

// Index returns the offset of the first line of b that begins with c, or -1. A line begins after a
// LF; the start of b does not count, because it may be within a line.
//
// Index searches for c, and then looks at the byte before it, because a large mail is mostly
// base64, which has a line end every 78 bytes but neither dashes nor dots. Index skips the rest of
// a line that has c elsewhere, so it makes at most two searches for each line.
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

// Ending returns the line end of b's first line, or otherwise if b has no line end.
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
