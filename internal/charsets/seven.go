package charsets

import (
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf16"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// decodeUTF7 decodes UTF-7 (RFC 2152). clean is false if a shifted sequence is not one.
func decodeUTF7(s string) (text string, clean bool) {
	var b strings.Builder
	clean = isASCII(s)
	for {
		direct, shifted, found := strings.Cut(s, "+")
		b.WriteString(strings.ToValidUTF8(direct, replacement))
		if !found {
			return b.String(), clean
		}
		n := strings.IndexFunc(shifted, func(r rune) bool { return !isBase64(r) })
		if n < 0 {
			n = len(shifted)
		}
		units, ok := utf16Units(shifted[:n])
		switch {
		case n == 0 && strings.HasPrefix(shifted, "-"):
			b.WriteByte('+')
		case !ok:
			b.WriteString("+" + shifted[:n])
			clean = false
		default:
			b.WriteString(units)
		}
		s = shifted[n:]
		if ok || n == 0 {
			s = strings.TrimPrefix(s, "-")
		}
	}
}

func isBase64(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '+' || r == '/'
}

// utf16Units decodes the base64 of UTF-16 without padding; the bits that are left must be zero.
func utf16Units(s string) (text string, ok bool) {
	b, err := base64.RawStdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 || len(b)%2 != 0 {
		return "", false
	}
	var units []uint16
	for i := 0; i+1 < len(b); i += 2 {
		units = append(units, uint16(b[i])<<8|uint16(b[i+1]))
	}
	text = string(utf16.Decode(units))
	return text, !strings.Contains(text, replacement)
}

// decodeShifted decodes ISO-2022-KR (RFC 1557) and the GB 2312 of ISO-2022-CN (RFC 1922): pairs of
// bytes between SO and SI.
func decodeShifted(s string) (text string, clean bool) {
	label := "euc-kr"
	var b strings.Builder
	double := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case strings.HasPrefix(s[i:], "\x1b$)C"), strings.HasPrefix(s[i:], "\x1b$)A"):
			if s[i+3] == 'A' {
				label = "gb2312"
			}
			i += 3
		case c == 0x0E, c == 0x0F:
			double = c == 0x0E
		case double && c > ' ':
			b.WriteByte(c | 0x80)
		default:
			b.WriteByte(c)
		}
	}
	text, _, clean = Decode(label, b.String())
	return text, clean
}

// Seven returns the name of the charset of bytes that look like ASCII and are not: "iso-2022-jp"
// (RFC 1468), "iso-2022-kr" (RFC 1557), "iso-2022-cn" (RFC 1922), "hz-gb-2312" (RFC 1843), "utf-7"
// (RFC 2152), or "iso-2022" for another one that switches between character sets. It returns "" for
// ASCII, and for bytes beyond it.
func Seven(s string) string {
	switch {
	case !isASCII(s):
		return ""
	case strings.Contains(s, "\x1b$)C"):
		return "iso-2022-kr"
	case strings.Contains(s, "\x1b$)A"):
		return "iso-2022-cn"
	case switchesSets(s):
		if c, ok := Find("iso-2022-jp"); ok && !strings.ContainsAny(s, "\x0e\x0f") {
			if _, clean := c.Decode([]byte(s)); clean {
				return "iso-2022-jp"
			}
		}
		return "iso-2022"
	case isHZ(s):
		return "hz-gb-2312"
	case isUTF7(s):
		return "utf-7"
	}
	return ""
}

// switchesSets reports whether s has an escape sequence that designates a character set (ISO 2022),
// or a shift to one. Terminals' sequences, such as those for colors, begin in another way.
func switchesSets(s string) bool {
	for i := strings.IndexByte(s, 0x1B); i >= 0 && i+2 < len(s); {
		if strings.IndexByte("$()*+-./%&", s[i+1]) >= 0 {
			return true
		}
		next := strings.IndexByte(s[i+1:], 0x1B)
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return strings.ContainsRune(s, 0x0E)
}

// isHZ reports whether s has "~{", and all of s is valid HZ. Programs and texts have "~{" too.
func isHZ(s string) bool {
	if !strings.Contains(s, "~{") {
		return false
	}
	decoded, err := simplifiedchinese.HZGB2312.NewDecoder().String(s)
	return err == nil && !strings.Contains(decoded, replacement) && !isASCII(decoded)
}

// isUTF7 reports whether each "+" in s begins a sequence of UTF-7, and one of them has characters
// beyond ASCII. In other texts a "+" stands before a blank or a number.
func isUTF7(s string) bool {
	if !strings.Contains(s, "+") {
		return false
	}
	text, clean := decodeUTF7(s)
	return clean && strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII })
}
