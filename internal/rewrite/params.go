package rewrite

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nkirchhoffer/detach-mta/internal/charsets"
)

const (
	// maxParams bounds the parameters read of one field.
	maxParams = 256
	// maxUnescaped bounds the distance between the first quotation mark in a quoted string and the
	// one that ends the string. File names are shorter.
	maxUnescaped = 1 << 10
	// maxAttribute is the length of the longest parameter name that is recognized.
	maxAttribute = 64
)

// splitParams reads the parameters after the first semicolon, by their names in lower case. It
// skips other text. If a name stands several times, the first value that is not empty counts.
//
// QUIRK: senders write Content-Disposition: filename=a.pdf, with nothing before the parameters.
func splitParams(header string) map[string]string {
	first, rest, ok := strings.Cut(header, ";")
	switch {
	case strings.Contains(first, "="):
		rest = header
	case !ok:
		return nil
	}
	params := map[string]string{}
	for n := 0; rest != "" && n < maxParams; n++ {
		var attribute, value string
		attribute, value, rest = cutParam(rest)
		if attribute != "" && params[attribute] == "" {
			params[attribute] = value
		}
	}
	return params
}

// cutParam cuts off the first parameter. The attribute is empty if no parameter stands before the
// next semicolon.
func cutParam(s string) (attribute, value, rest string) {
	n := strings.IndexAny(s, "=;\"")
	if n < 0 {
		return "", "", ""
	}
	if s[n] != '=' {
		_, rest = cutToken(s)
		return "", "", rest
	}
	attribute = strings.ToLower(strings.NewReplacer(" ", "", "\t", "").Replace(s[:n]))
	s = strings.TrimLeft(s[n+1:], " \t")
	if strings.HasPrefix(s, `"`) {
		value, rest = cutQuoted(s)
	} else {
		value, rest = cutToken(s)
		value = strings.TrimSpace(value)
	}
	return attribute, value, rest
}

// cutToken cuts at the first semicolon outside of quoted strings.
func cutToken(s string) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == 0x1B:
			i += escaped(s[i:]) - 1
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ';' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// cutQuoted cuts off the quoted string at the beginning of s, and what follows it up to a
// semicolon.
//
// QUIRK: senders do not escape quotation marks in names. The first one before a semicolon, the end
// or another parameter ends the string. Without such a mark, the first one does.
func cutQuoted(s string) (value, rest string) {
	first := 0
	end := 1
	for ; end < len(s) && (first == 0 || end < first+maxUnescaped); end++ {
		switch c := s[end]; {
		case c == 0x1B:
			end += escaped(s[end:]) - 1
		case c == '\\' && !partOfCharacter(s[1:], end-1):
			end++
		case c == '"' && endsParam(s[end+1:]):
			_, rest = cutToken(s[end+1:])
			return unescape(s[1:end]), rest
		case c == '"' && first == 0:
			first = end
		}
	}
	if first > 0 {
		_, rest = cutToken(s[first+1:])
		return unescape(s[1:first]), rest
	}
	return cutUnended(s[1:])
}

// cutUnended cuts a quoted string that has no end at the first semicolon before a parameter.
func cutUnended(s string) (value, rest string) {
	for i := 0; i < len(s); i++ {
		if s[i] == ';' && beginsParam(s[i+1:]) {
			return unescape(s[:i]), s[i+1:]
		}
	}
	return unescape(s), ""
}

// endsParam reports whether a parameter may end before s.
func endsParam(s string) bool {
	s = strings.TrimLeft(s, " \t")
	return s == "" || s[0] == ';' || beginsParam(s)
}

// beginsParam reports whether s begins with an attribute and "=".
func beginsParam(s string) bool {
	s = strings.TrimLeft(s, " \t")
	n := strings.IndexByte(s[:min(len(s), maxAttribute)], '=')
	return n > 0 && !strings.ContainsFunc(s[:n], func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '*'
	})
}

// escaped returns how many bytes to skip from the ESC at the beginning of s on. If its sequence
// designates a character set of two bytes (RFC 1468), these are all bytes up to the next sequence:
// some may look like quotation marks and semicolons.
func escaped(s string) int {
	if !strings.HasPrefix(s, "\x1b$") {
		return 1
	}
	return 1 + max(0, strings.IndexByte(s[1:min(len(s), maxUnescaped)], 0x1B))
}

// partOfCharacter reports whether the backslash at s[at] is the second byte of a character, as in
// Shift_JIS, Big5 and GBK, in a string that is not UTF-8.
func partOfCharacter(s string, at int) bool {
	if at == 0 || s[at-1] < utf8.RuneSelf {
		return false
	}
	r, size := utf8.DecodeLastRuneInString(s[:at])
	return r == utf8.RuneError && size == 1
}

// unescape removes the backslashes of a quoted string.
//
// QUIRK: Windows programs write C:\file unescaped, so a backslash escapes only quotes and
// backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' && !partOfCharacter(s, i) || s[i+1] == '\\') {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// A segment is one piece of a continued parameter (RFC 2231 section 3).
type segment struct {
	number   int
	extended bool
	value    string
}

// segments returns the pieces of a continued parameter in the order of their numbers.
//
// QUIRK: senders count from 1, leave out a number, or write it as 00.
func segments(params map[string]string, name string) []segment {
	var found []segment
	for attribute, value := range params {
		number, ok := strings.CutPrefix(attribute, name+"*")
		number, extended := strings.CutSuffix(number, "*")
		n, err := strconv.ParseUint(number, 10, 31)
		if ok && err == nil {
			found = append(found, segment{int(n), extended, value})
		}
	}
	slices.SortFunc(found, func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(len(b.value), len(a.value)), cmp.Compare(a.value, b.value))
	})
	return slices.CompactFunc(found, func(a, b segment) bool { return a.number == b.number })
}

// cutCharset cuts charset'language'text (RFC 2231 section 4). The charset is "" if v names no
// charset.
//
// QUIRK: senders leave out one of the apostrophes, or write quotation marks.
func cutCharset(v string) (charset, text string) {
	n := strings.IndexAny(v[:min(len(v), maxAttribute)], `'"`)
	if n < 0 {
		return "", v
	}
	charset, text = v[:n], v[n+1:]
	end := strings.IndexAny(text[:min(len(text), maxAttribute)], `'"`)
	twice := end >= 0 && isToken(text[:end])
	if twice {
		text = text[end+1:]
	}
	if charsets.Known(charset) || twice && isToken(charset) {
		return charset, text
	}
	return "", v
}

// isToken reports whether s may be the name of a charset or of a language.
func isToken(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:+", r)
	})
}

// percentDecode decodes each %XX, and keeps every other "%".
func percentDecode(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	return decodeHex(s, '%')
}

// decodeHex decodes each byte that is written as mark and two hexadecimal digits.
func decodeHex(s string, mark byte) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == mark && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
