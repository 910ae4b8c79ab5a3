package link

import (
	"encoding/base64"
	"html"
	"iter"
	"regexp"
	"strings"
)

// Mail systems that check links put a link of their own in place of each link. Most have the whole
// link in it, encoded:
//
//	percent-encoded, in a parameter or the path   Microsoft Safe Links, Barracuda, Cisco, Trend
//	                                              Micro, Trellix, Trustwave, Symantec, Vade, …
//	as it is, between underscores                 Check Point
//	with "-" for "%" and "_" for "/"              Proofpoint URL Defense 2
//	with "*" for each character that is unusual   Proofpoint URL Defense 3
//	in base64                                     Sophos
//
// unwrap knows these encodings, but no hosts: there are many, and new ones appear. Others, like
// Mimecast, have only a number in their links: see ErrReplaced.

// maxLayers bounds how often a link may be wrapped and encoded. Two or three mail systems on the
// way take up to five.
const maxLayers = 8

// layers yields the text, and then the text without one layer of encoding after another.
func layers(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for range maxLayers {
			if !yield(text) {
				return
			}
			inner := unwrap(text)
			if inner == text {
				return
			}
			text = inner
		}
	}
}

// unwrap removes one layer of encoding wherever the text has one. It takes linear time, and the
// result is hardly longer than the text.
func unwrap(text string) string {
	text = defanged.Replace(unescape(html.UnescapeString(text)))
	text = unwrapDefense3(text)
	text = defense2.ReplaceAllStringFunc(text, fromDefense2)
	text = base64Link.ReplaceAllStringFunc(text, fromBase64)
	text = oneSlash.ReplaceAllString(text, "$1//$2")
	text = noHash.ReplaceAllString(text, "$1#z")
	return noScheme.ReplaceAllString(text, "${1}https://$2")
}

var (
	// defanged undoes what makes links in reports harmless, and the escapes of JSON.
	defanged = strings.NewReplacer("hxxp:", "http:", "hxxps:", "https:", "[.]", ".", "[:]", ":", `\/`, "/")
	// noHash matches a link that was unwrapped by hand, except for the "#".
	noHash = regexp.MustCompile(`(/bafybei[a-z2-7]{52}(?:/all)?)(?:\*|\*23|-23)z`)
	// oneSlash matches a scheme that has lost a slash. QUIRK: Outlook and Word remove the second of
	// two slashes from the path of a wrapping link.
	oneSlash = regexp.MustCompile(`(?i)(https?:)/([a-z0-9\[])`)
	// noScheme matches a link without its scheme in a parameter.
	noScheme = regexp.MustCompile(`(=)((?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*/bafybei[a-z2-7]{0,52})`)
	// escaped matches a byte that is percent-encoded (RFC 3986 section 2.1), and the punctuation of
	// links in quoted-printable (RFC 2045 section 6.7).
	escaped = regexp.MustCompile(`%[0-9A-Fa-f]{2}|=(?:2[3456DEF]|3[ABDF]|5F|7E)`)
)

func unescape(text string) string {
	return escaped.ReplaceAllStringFunc(text, func(s string) string {
		return string([]byte{digit(s[1])<<4 | digit(s[2])})
	})
}

func isHex(b byte) bool {
	return '0' <= b && b <= '9' || 'A' <= b && b <= 'F' || 'a' <= b && b <= 'f'
}

// digit returns the value of a hexadecimal digit.
func digit(b byte) byte {
	if b <= '9' {
		return b - '0'
	}
	return b&7 + 9 // A and a are 0x41 and 0x61
}

// base64Link matches base64, also in its URL-safe form, that begins with "http://", "https://" or
// the "{" and quote of JSON, and not within a key.
var base64Link = regexp.MustCompile(`\b(?:aHR0c(?:DovL|HM6Ly)|eyJ)[A-Za-z0-9+/_-]*%?`)

// fromBase64 decodes a link. If more of the address follows the base64, after a slash, it is
// decoded too. This does not change the link, because "/" becomes neither a letter nor a digit, so
// the link ends there.
func fromBase64(text string) string {
	if strings.HasSuffix(text, "%") {
		return text // some of it is still percent-encoded
	}
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(text)
	if len(standard)%4 == 1 { // no byte ends there
		standard = standard[:len(standard)-1]
	}
	decoded, err := base64.RawStdEncoding.DecodeString(standard)
	if err != nil {
		return text
	}
	return string(decoded)
}

// defense2 matches a link in the form of URL Defense 2, where "-" and two digits stand for a byte
// and "_" stands for "/".
var defense2 = regexp.MustCompile(`(?i)https?-3A__[^&\s]*`)

func fromDefense2(text string) string {
	return unescape(strings.NewReplacer("-", "%", "_", "/").Replace(text))
}

// unwrapDefense3 decodes links in the form of URL Defense 3: v3/__LINK__;CHARACTERS!…$.
func unwrapDefense3(text string) string {
	before, rest, found := strings.Cut(text, "v3/__")
	if !found {
		return text
	}
	var b strings.Builder
	for found {
		b.WriteString(before)
		end := strings.IndexFunc(rest, isBlank)
		if end < 0 {
			end = len(rest)
		}
		link, characters, _ := strings.Cut(rest[:end], "__;")
		n := len(base64URL.FindString(characters))
		b.WriteString(fromDefense3(link, characters[:n]) + " " + characters[n:])
		before, rest, found = strings.Cut(rest[end:], "v3/__")
	}
	return b.String() + before
}

var base64URL = regexp.MustCompile(`^[A-Za-z0-9_-]*`)

// fromDefense3 puts the characters, which are in base64, in their places: each "*" stands for the
// next one, and "**" and a letter for several.
func fromDefense3(link, replaced string) string {
	decoded, _ := base64.RawURLEncoding.DecodeString(replaced) // what comes before an error counts: the end may be cut off
	characters := []rune(string(decoded))
	var b strings.Builder
	for {
		plain, after, found := strings.Cut(link, "*")
		b.WriteString(plain)
		if !found {
			return b.String()
		}
		count := 1
		if len(after) > 1 && after[0] == '*' {
			count, after = runLength(after[1]), after[2:]
		}
		n := min(count, len(characters))
		b.WriteString(string(characters[:n]))
		if n == 0 {
			b.WriteByte(likely(b.String(), after))
		}
		characters, link = characters[n:], after
	}
}

// runs are the letters that say how many characters "**" stands for: A for two, and so on.
const runs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func runLength(b byte) int { return strings.IndexByte(runs, b) + 2 }

// likely returns the character that "*" stands for between these texts, if the list of characters
// was lost: links have only these three that URL Defense replaces.
func likely(before, after string) byte {
	switch {
	case len(after) > 1 && isHex(after[0]) && isHex(after[1]):
		return '%'
	case strings.Contains(before, "/bafybei"):
		return '#'
	}
	return '~'
}
