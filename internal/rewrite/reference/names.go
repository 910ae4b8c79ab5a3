package reference

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxEscapes bounds how often one name is decoded: some are escaped more than once.
const maxEscapes = 3

// A Part has the names by which texts may refer to a part: fields of its header, unfolded, each as
// received and with encoded words decoded.
type Part struct {
	IDs       []string // Content-ID (RFC 2045 section 7)
	Locations []string // Content-Location (RFC 2557 section 4)
	Name      string   // file name, decoded
}

// locationPrefix tells names of locations from other names. No other name contains it.
const locationPrefix = " "

// RefersTo reports whether the texts refer, or may refer, to the part. A file name counts only if a
// text shows a picture of that name, without a path.
func (s *Set) RefersTo(p Part) bool {
	if s.any || s.used == 0 {
		return s.any && len(p.IDs)+len(p.Locations) > 0
	}
	return s.hasAny(p.IDs, idNames) || s.hasAny(p.Locations, locationNames) || s.hasAny([]string{p.Name}, fileNames)
}

// Empty reports whether the set refers to nothing.
func (s *Set) Empty() bool { return !s.any && s.used == 0 }

// hasAny reports whether the set has one of the names that the values stand for. It skips values
// longer than maxURL, since no URL that was read is longer.
func (s *Set) hasAny(values []string, names func(string) []string) bool {
	return slices.ContainsFunc(values, func(value string) bool {
		return len(value) <= maxURL && slices.ContainsFunc(names(value), s.has)
	})
}

// idNames returns the names that a Content-ID may have in a URL.
//
// QUIRK: programs write Content-IDs without brackets, with blanks or the scheme in them, in quotes,
// and escaped as in a URL.
func idNames(value string) (names []string) {
	for _, id := range []string{value, withoutComments(value), unescapeAll(value)} {
		names = append(names, idName(canonical(id)))
		if from, to := strings.IndexByte(id, '<'), strings.LastIndexByte(id, '>'); 0 <= from && from < to {
			names = append(names, idName(canonical(id[from:to])))
		}
	}
	return names
}

// locationNames returns the names that a Content-Location may have in a text. Character references
// are decoded in all of a text, though in a style sheet they stand for themselves.
func locationNames(value string) []string {
	u, v := canonical(value), canonical(unescapeAll(value))
	return []string{locationName(u), locationName(v), idName(u)}
}

func fileNames(name string) []string { return []string{canonical(name)} }

// idName returns the name for a Content-ID in canonical form.
func idName(id string) string {
	for found := true; found; {
		id, found = strings.CutPrefix(strings.Trim(id, aroundID), "cid:")
	}
	return id
}

// aroundID are characters that programs write around a Content-ID.
const aroundID = `"'<>/`

// locationName returns the name for a URL in canonical form: its last segment, without query and
// fragment. URLs that are equal once they are resolved have the same last segment, whatever their
// bases are: the text's Content-Location, <base href>, or that of a multipart around it (RFC 2557
// section 5).
func locationName(u string) string {
	path, _, _ := strings.Cut(strings.Trim(u, `"'<>`), "#")
	path, query, _ := strings.Cut(path, "?")
	name := path[strings.LastIndexByte(path, '/')+1:]
	if name == "" {
		name = query
	}
	if name == "" {
		return ""
	}
	return locationPrefix + name
}

// canonical returns a URL, or a part of one, in the form in which it is compared: without blanks
// and control characters, which browsers and RFC 2557 remove, decoded as often as it is escaped,
// and in lower case.
func canonical(s string) string {
	if s = canonicalASCII(s); isASCII(s) {
		return s
	}
	return canonicalUnicode(s)
}

// canonicalASCII does what canonical does, except for characters beyond ASCII.
func canonicalASCII(s string) string {
	for range maxEscapes {
		decoded := canonicalBytes(s)
		if decoded == s {
			break
		}
		s = decoded
	}
	return s
}

func canonicalUnicode(s string) string {
	if !utf8.ValidString(s) {
		s = latin1(s)
	}
	return strings.ToLower(norm.NFC.String(strings.Map(visible, s)))
}

// canonicalBytes is one round of canonicalASCII: it decodes percent-encoding once (RFC 3986 section
// 2.1). A percent sign that escapes nothing stands for itself.
func canonicalBytes(s string) string {
	n := 0
	for n < len(s) && canonicalByte[s[n]] == s[n] && s[n] != '%' {
		n++
	}
	if n == len(s) {
		return s
	}
	b := append(make([]byte, 0, len(s)), s[:n]...)
	for ; n < len(s); n++ {
		c := s[n]
		if high, low := hexAt(s, n+1), hexAt(s, n+2); c == '%' && high >= 0 && low >= 0 {
			c = byte(high<<4 | low)
			n += 2
		}
		if c = canonicalByte[c]; c != 0 {
			b = append(b, c)
		}
	}
	return string(b)
}

// canonicalByte has the canonical forms of bytes. It is 0 for blanks and control characters.
var canonicalByte = func() (table [256]byte) {
	for i := range table {
		switch c := byte(i); {
		case c <= ' ' || c == 0x7F:
		case 'A' <= c && c <= 'Z':
			table[c] = c | 0x20
		default:
			table[c] = c
		}
	}
	table['\\'] = '/' // QUIRK: paths of Windows; browsers read them so, too
	table[entityDouble], table[entitySingle], table[entityLess], table[entityMore] = '"', '\'', '<', '>'
	return table
}()

// hexAt returns the value of the hexadecimal digit at s[i], or -1.
func hexAt[T string | []byte](s T, i int) int {
	if i >= len(s) {
		return -1
	}
	switch c := s[i]; {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// visible removes blanks and format characters that ASCII does not have, such as the no-break space
// and the soft hyphen.
func visible(r rune) rune {
	if r >= utf8.RuneSelf && (unicode.IsSpace(r) || unicode.Is(unicode.Cf, r)) {
		return -1
	}
	return r
}

func latin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// withoutComments removes text in parentheses (RFC 5322 section 3.2.2).
func withoutComments(s string) string {
	depth := 0
	return strings.Map(func(r rune) rune {
		switch {
		case r == '(':
			depth++
		case r == ')' && depth > 0:
			depth--
			return -1
		}
		if depth > 0 {
			return -1
		}
		return r
	}, s)
}
