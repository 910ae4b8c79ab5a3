package rewrite

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
)

// maxQuotedLine is the longest line of quoted-printable (RFC 2045 section 6.7).
const maxQuotedLine = 76

// decodeTransfer undoes a transfer encoding. It is not ok if programs may differ
// about what the text is; a quoted-printable one is still returned, as most
// programs show it.
func decodeTransfer(encoding string, raw []byte) (content []byte, ok bool) {
	switch encoding {
	case "7bit", "8bit", "binary":
		return raw, true
	case "base64":
		strip := strings.NewReplacer("\r", "", "\n", "", " ", "", "\t", "")
		b, err := base64.StdEncoding.DecodeString(strip.Replace(string(raw)))
		return b, err == nil
	case "quoted-printable":
		content, _, ok := decodeQuoted(raw, -1)
		return content, ok
	}
	return nil, false
}

// decodeQuoted decodes raw up to limit bytes of text, all if it is negative, and
// returns how much of raw that was. It is not ok if there is an "=" that
// escapes nothing, which stands for itself.
func decodeQuoted(raw []byte, limit int) (content []byte, n int, ok bool) {
	ok = true
	for n < len(raw) && len(content) != limit {
		rest := raw[n:]
		switch c := rest[0]; {
		case c == '=':
			var b []byte
			var taken int
			if b, taken = unescape(rest); taken == 0 {
				b, taken, ok = rest[:1], 1, false
			}
			content, n = append(content, b...), n+taken
		case c == ' ' || c == '\t':
			run := rest[:blanks(rest)]
			if after := rest[len(run):]; len(after) > 0 && after[0] != '\n' && !bytes.HasPrefix(after, []byte("\r\n")) {
				if limit >= 0 {
					run = run[:min(len(run), limit-len(content))]
				}
				content = append(content, run...)
			} // else they were added in transport
			n += len(run)
		default:
			content, n = append(content, c), n+1
		}
	}
	return content, n, ok
}

// unescape takes "=XX" or a soft line break off rest.
func unescape(rest []byte) (content []byte, n int) {
	if len(rest) >= 3 {
		hi, ok1 := unhex(rest[1])
		lo, ok2 := unhex(rest[2])
		if ok1 && ok2 {
			return []byte{hi<<4 | lo}, 3
		}
	}
	n = 1 + blanks(rest[1:])
	switch {
	case n == len(rest):
		return nil, n
	case rest[n] == '\n':
		return nil, n + 1
	case bytes.HasPrefix(rest[n:], []byte("\r\n")):
		return nil, n + 2
	}
	return nil, 0
}

// encodeQuoted encodes text in quoted-printable. What ends its lines is eol;
// any other CR and LF is escaped, and so comes back as it was.
func encodeQuoted(text []byte, eol string) []byte {
	var b bytes.Buffer
	column := 0
	for i := 0; i < len(text); {
		if bytes.HasPrefix(text[i:], []byte(eol)) {
			b.WriteString(eol)
			i, column = i+len(eol), 0
			continue
		}
		c, next := text[i], text[i+1:]
		hard := bytes.HasPrefix(next, []byte(eol))
		last := len(next) == 0 || hard
		s := string(c)
		if c < ' ' && c != '\t' || c > '~' || c == '=' || last && (c == ' ' || c == '\t') {
			s = fmt.Sprintf("=%02X", c)
		}
		if room := maxQuotedLine - column; len(s) > room || len(s) == room && !hard { // there is room for a soft break
			b.WriteString("=" + eol)
			column = 0
		}
		b.WriteString(s)
		i, column = i+1, column+len(s)
	}
	return b.Bytes()
}

// wrapBase64 encodes text in base64, in lines of 76 (RFC 2045 section 6.8),
// without a line end after the last.
func wrapBase64(text []byte, eol string) []byte {
	const width = 76
	s := base64.StdEncoding.EncodeToString(text)
	var b bytes.Buffer
	for len(s) > width {
		b.WriteString(s[:width] + eol)
		s = s[width:]
	}
	b.WriteString(s)
	return b.Bytes()
}
