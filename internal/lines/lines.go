// Package lines finds the lines of a mail that matter without looking at each of the others.
package lines

import "bytes"

// Index returns where the first line of b begins with c, or -1. What b begins with may be the rest of a line, so it does not
// count: a line begins after a LF.
//
// It is c that is looked for, and what stands before it looked at: base64, which most of a large mail is, has a line end every
// 78 bytes, and no dash or dot at all. A line that holds c elsewhere is passed over as a whole, so that no text costs more
// than two searches a line.
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
