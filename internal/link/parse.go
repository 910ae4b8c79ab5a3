package link

import (
	"errors"
	"html"
	"regexp"
	"strings"
	"unicode"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

const (
	// maxInput bounds what Parse looks at. A link is 120 characters and its prefix.
	maxInput = 8 << 10
	// maxPieces is into how many pieces white space may have cut a fragment of 45 characters.
	maxPieces = 8
)

// Parse reads a link as people paste it, and undoes what mail programs and scanners do to it.
// ErrIncomplete says that its end is missing, ErrInvalid that it is no link.
func Parse(s string) (Link, error) {
	if len(s) > maxInput {
		return Link{}, ErrInvalid
	}
	head, tail, found := strings.Cut(wrap.ReplaceAllString(decode(s), " "), "#")
	l, err := parseHead(strings.Join(strings.FieldsFunc(head, isBlank), ""))
	switch {
	case err != nil && (found || !errors.Is(err, ErrIncomplete)):
		return Link{}, ErrInvalid
	case err != nil:
		return Link{}, err
	}
	// White space is a wrapped line, or else other text follows the link: as much belongs to the
	// fragment as makes one.
	pieces := strings.FieldsFunc(tail, isBlank)
	err = ErrIncomplete
	for n := min(len(pieces), maxPieces); n > 0; n-- {
		if l.Fragment, err = parseFragment(strings.Join(pieces[:n], "")); err == nil {
			return l, nil
		}
	}
	return Link{}, err
}

var scheme = regexp.MustCompile(`(?i)https?://`)

// parseHead reads BASE/CID or BASE/CID/all, before which anything may stand: brackets, a quote,
// another link.
func parseHead(s string) (l Link, err error) {
	starts := scheme.FindAllStringIndex(s, -1)
	if len(starts) == 0 {
		return Link{}, ErrInvalid
	}
	s = s[starts[len(starts)-1][0]:]
	s, _, _ = strings.Cut(s, "?") // QUIRK: click trackers add parameters
	s, l.All = strings.CutSuffix(s, all)
	slash := strings.LastIndexByte(s, '/')
	cut := cutTail.FindStringIndex(s)
	if cut != nil {
		slash = cut[0]
	}
	if l.Base, err = ParseBase(s[:slash]); err != nil {
		return Link{}, ErrInvalid
	}
	if cut != nil {
		return Link{}, ErrIncomplete
	}
	l.CID, err = ParseCID(s[slash+1:])
	return l, err
}

// cutTail is the beginning of an object's CID, all of which start alike, being of one prefix; or a CID and
// the beginning of "/all".
var cutTail = regexp.MustCompile(`/bafybei(?:[a-z2-7]{0,51}|[a-z2-7]{52}/(?:al?)?)$`)

// ParsePath reads the path of a request to the gateway, percent-decoded once and without the
// prefix: an element CID, then the rest. Scanners re-encode "#", so that the fragment arrives
// in the path: "CID#A" or "CID/all#A", with "%23" where they did it twice. When only the fragment
// is at fault (ErrIncomplete, ErrInvalid) the CID is returned all the same.
func ParsePath(path string) (c cid.Cid, rest string, f crypto.Fragment, hasFragment bool, err error) {
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if len(first) > maxInput {
		return cid.Undef, "", f, false, ErrInvalid
	}
	head, tail, hasFragment := strings.Cut(decode(first), "#")
	if c, err = ParseCID(head); err != nil {
		return cid.Undef, "", f, false, err
	}
	if !hasFragment {
		rest, tail, hasFragment = cutAll(rest)
	}
	if hasFragment {
		f, err = parseFragment(tail)
	}
	return c, rest, f, hasFragment, err
}

// cutAll takes the fragment off "all#A". Any other rest stays as it is: names of files stand in it.
func cutAll(rest string) (string, string, bool) {
	if !strings.HasPrefix(rest, all[1:]) || len(rest) > maxInput {
		return rest, "", false
	}
	head, tail, found := strings.Cut(decode(rest), "#")
	if !found || head != all[1:] {
		return rest, "", false
	}
	return head, tail, true
}

// parseFragment takes the letters and digits that s begins with. What follows them is the
// sentence around the link, its brackets and quotes, or a tracker's parameters.
func parseFragment(s string) (crypto.Fragment, error) {
	end := strings.IndexFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	if end >= 0 {
		s = s[:end]
	}
	f, err := crypto.ParseFragment(s)
	if errors.Is(err, crypto.ErrFragmentInvalid) {
		return f, ErrInvalid
	}
	return f, err
}

// encodedHash is "#" percent-encoded, once or again and again: %23, %2523, %252523.
var encodedHash = regexp.MustCompile(`%(?:25)*23`)

// maxEscapes is how often "&" may have been escaped for HTML: &#35;, &amp;#35;, &amp;amp;#35;.
const maxEscapes = 3

func decode(s string) string {
	for range maxEscapes {
		s = html.UnescapeString(s)
	}
	return encodedHash.ReplaceAllString(s, "#")
}

// wrap is a line break inside a link: plain, as quoted-printable writes it (RFC 2045 section
// 6.7), or with the marks of a quoted reply on the next line.
var wrap = regexp.MustCompile(`=?\r?\n[ \t>]*`)

// isBlank knows zero-width spaces, joiners, soft hyphens and byte order marks too, with which
// rich text breaks long words.
func isBlank(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) }
