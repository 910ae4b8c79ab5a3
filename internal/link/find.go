package link

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/ipfs/go-cid"
)

// objectCID matches the CID of an object, in lower or upper case: base32 does not distinguish them
// (RFC 4648 section 6).
var objectCID = regexp.MustCompile(`(?i)bafybei[a-z2-7]{52}`)

// FindCIDs returns the CIDs of the objects that a text names, in any form that people paste: bare,
// in a path, in a link that is whole, cut or wrapped, in brackets or before a comma.
func FindCIDs(text string) []cid.Cid {
	if found := bareCIDs(text); len(found) > 0 && !strings.Contains(text, "\n") {
		return found // nearly always: a list may have many lines
	}
	text = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) { // zero-width characters of rich text, also inside a CID
			return -1
		}
		return r
	}, decode(text))
	joined := wrap.ReplaceAllString(text, "")
	found := append(bareCIDs(text), bareCIDs(joined)...)
	if l, err := Parse(text); err == nil {
		return append(found, l.CID)
	}
	for inner := range layers(joined) {
		found = append(found, bareCIDs(inner)...)
	}
	return found
}

// bareCIDs returns the CIDs that no letter or digit follows: with one more, a CID is mistyped.
func bareCIDs(text string) (found []cid.Cid) {
	for _, at := range objectCID.FindAllStringIndex(text, -1) {
		if at[1] < len(text) && isAlphanumeric(text[at[1]]) {
			continue
		}
		if c, err := ParseCID(strings.ToLower(text[at[0]:at[1]])); err == nil {
			found = append(found, c)
		}
	}
	return found
}

func isAlphanumeric(b byte) bool {
	return b < unicode.MaxASCII && (unicode.IsLetter(rune(b)) || unicode.IsDigit(rune(b)))
}

// HasFragment reports whether a text has the "#" of a link in any encoding, so that what follows
// may be a key.
func HasFragment(text string) bool {
	for inner := range layers(decode(text)) {
		if strings.Contains(inner, "#") {
			return true
		}
	}
	return false
}
