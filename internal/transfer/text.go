package transfer

import (
	"bytes"
	"encoding/base64"
	"fmt"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
)

// MaxLine is the longest line of base64 and of quoted-printable (RFC 2045 sections 6.7 and 6.8).
const MaxLine = 76

// DecodeText decodes a text to read it. It returns ErrDamaged if the text cannot be decoded.
// certain is false if mail programs may differ about the text; then content is what most of them
// show.
func DecodeText(encoding string, raw []byte) (content []byte, certain bool, err error) {
	switch encoding {
	case "7bit", "8bit", "binary":
		return raw, true, nil
	case "base64":
		stripped := make([]byte, 0, len(raw))
		for _, c := range raw {
			if c != '\r' && c != '\n' && !lines.IsBlank(c) {
				stripped = append(stripped, c)
			}
		}
		if content, err = base64.StdEncoding.AppendDecode(nil, stripped); err != nil {
			return nil, false, ErrDamaged
		}
		return content, true, nil
	case "quoted-printable":
		content, _, certain = decodeQuotedText(raw, -1)
		return content, certain, nil
	}
	return nil, false, ErrDamaged
}

// QuotedOffset returns how many bytes of raw, which is quoted-printable, decode to the first n
// bytes.
func QuotedOffset(raw []byte, n int) int {
	_, off, _ := decodeQuotedText(raw, n)
	return off
}

// decodeQuotedText decodes raw up to limit bytes of text, or all of it if limit is negative, and
// returns how much of raw that was. A "=" that escapes nothing stands for itself, and makes certain
// false.
func decodeQuotedText(raw []byte, limit int) (content []byte, n int, certain bool) {
	certain = true
	for n < len(raw) && len(content) != limit {
		rest := raw[n:]
		switch c := rest[0]; {
		case c == '=':
			b, taken, _ := unescape(rest)
			if lines.Blanks(rest[1:]) == len(rest)-1 {
				taken = len(rest) // a soft break at the very end
			} else if taken == 0 {
				b, taken, certain = rest[:1], 1, false
			}
			content, n = append(content, b...), n+taken
		case lines.IsBlank(c):
			run := rest[:lines.Blanks(rest)]
			if after := rest[len(run):]; len(after) > 0 && !startsLineEnd(after) {
				if limit >= 0 {
					run = run[:min(len(run), limit-len(content))]
				}
				content = append(content, run...)
			} // else the blanks were added in transport
			n += len(run)
		default:
			content, n = append(content, c), n+1
		}
	}
	return content, n, certain
}

func startsLineEnd(b []byte) bool {
	return b[0] == '\n' || bytes.HasPrefix(b, []byte("\r\n"))
}

// EncodeQuoted encodes text in quoted-printable, in lines of at most 76 characters that end with
// eol. A CR or LF of text outside an eol is escaped, so decoding gives it back.
func EncodeQuoted(text []byte, eol string) []byte {
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
		if c < ' ' && c != '\t' || c > '~' || c == '=' || last && lines.IsBlank(c) {
			s = fmt.Sprintf("=%02X", c)
		}
		if room := MaxLine - column; len(s) > room || len(s) == room && !hard { // a soft break needs a column
			b.WriteString("=" + eol)
			column = 0
		}
		b.WriteString(s)
		i, column = i+1, column+len(s)
	}
	return b.Bytes()
}

// EncodeBase64 encodes text in base64, in lines of 76 characters separated by eol.
func EncodeBase64(text []byte, eol string) []byte {
	s := base64.StdEncoding.EncodeToString(text)
	var b bytes.Buffer
	for len(s) > MaxLine {
		b.WriteString(s[:MaxLine] + eol)
		s = s[MaxLine:]
	}
	b.WriteString(s)
	return b.Bytes()
}
