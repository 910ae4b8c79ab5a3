package link

import (
	"errors"
	"fmt"
	"html"
	"regexp"
	"strings"
	"unicode"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

const (
	// maxInput bounds what is parsed, in bytes. A link has 120 characters and its prefix.
	maxInput = 8 << 10
	// maxPieces bounds the pieces into which white space may have cut a fragment of 45 characters.
	maxPieces = 8
)

// Parse reads a link as people paste it, and undoes what mail programs and scanners do to links. It
// returns ErrIncomplete if the end is missing, and ErrInvalid if s is not a link: ErrReplaced if it
// may be one that a mail system has put in a link's place.
func Parse(s string) (Link, error) {
	if len(s) > maxInput {
		return Link{}, ErrInvalid
	}
	text := wrap.ReplaceAllString(decode(s), " ")
	if l, err := parseText(text); err == nil {
		return l, nil
	}
	// Without white space first: a line break may have cut an escaped character in two.
	joined := withoutBlanks(text)
	l, err := parseLayers(joined)
	if err != nil && joined != text {
		l, err = parseLayers(text)
	}
	if errors.Is(err, ErrInvalid) && otherLink.MatchString(text) && !ourKey.MatchString(text) {
		return Link{}, ErrReplaced
	}
	return l, err
}

var (
	// otherLink matches an address with a path or a query.
	otherLink = regexp.MustCompile(`(?i)https?://[^\s/?#]+[/?][^\s#]{8}`)
	// ourKey matches what looks like a fragment.
	ourKey = regexp.MustCompile(`#z[1-9A-HJ-NP-Za-km-z]{32}`)
)

// parseLayers parses a text as it stands, and then what is wrapped in it.
func parseLayers(text string) (l Link, err error) {
	err = ErrInvalid
	for inner := range layers(text) {
		l, innerErr := parseText(inner)
		if innerErr == nil {
			return l, nil
		}
		if errors.Is(innerErr, ErrIncomplete) {
			err = ErrIncomplete
		}
	}
	return Link{}, err
}

// maxHashes bounds how many "#" of a text are tried as that of a link.
const maxHashes = 8

// parseText parses a link that is not wrapped. Other addresses may stand before it, also with a "#"
// of their own.
func parseText(text string) (Link, error) {
	head, tail, found := strings.Cut(text, "#")
	l, err := parseLink(head, tail, found)
	for n := 1; found && n < maxHashes && errors.Is(err, errHead); n++ {
		var more string
		more, tail, found = strings.Cut(tail, "#")
		head += "#" + more
		l, err = parseLink(head, tail, found)
	}
	return l, err
}

// errHead means that no link stands before the "#".
var errHead = fmt.Errorf("%w: no address before the #", ErrInvalid)

// parseLink parses what stands before and after a "#". found says that there is one.
func parseLink(head, tail string, found bool) (Link, error) {
	l, err := parseHead(withoutBlanks(head))
	switch {
	case err != nil && found:
		return Link{}, errHead
	case err != nil:
		return Link{}, err
	}
	// White space is a wrapped line, or the end of the link before other text. The longest run of
	// pieces that is a fragment belongs to the link.
	pieces := strings.FieldsFunc(tail, isBlank)
	err = ErrIncomplete
	for n := min(len(pieces), maxPieces); n > 0; n-- {
		if l.Fragment, err = parseFragment(strings.Join(pieces[:n], "")); err == nil {
			return l, nil
		}
	}
	return Link{}, err
}

func withoutBlanks(s string) string { return strings.Join(strings.FieldsFunc(s, isBlank), "") }

// ParseExact reads the link of a file in exactly the form of [Link.URL], as stored formats have it,
// and returns ErrInvalid for any other text.
func ParseExact(s string) (Link, error) {
	head, fragment, _ := strings.Cut(s, "#")
	slash := strings.LastIndexByte(head, '/')
	if slash < 0 || len(s) > maxInput {
		return Link{}, ErrInvalid
	}
	var l Link
	var errs [3]error
	l.Base, errs[0] = ParseBase(head[:slash])
	l.CID, errs[1] = ParseCID(head[slash+1:])
	l.Fragment, errs[2] = crypto.ParseFragment(fragment)
	if errors.Join(errs[:]...) != nil || l.URL() != s {
		return Link{}, ErrInvalid
	}
	return l, nil
}

var scheme = regexp.MustCompile(`(?i)https?://`)

// parseHead reads BASE/CID or BASE/CID/all. Anything may stand before it: brackets, a quote,
// another link.
func parseHead(s string) (l Link, err error) {
	starts := scheme.FindAllStringIndex(s, -1)
	if len(starts) == 0 {
		return Link{}, ErrInvalid
	}
	s = s[starts[len(starts)-1][0]:]
	s = afterCID.ReplaceAllString(s, "$1")
	s, _, _ = strings.Cut(s, "?")
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

// afterCID matches what comes between the CID and the "#". QUIRK: click trackers add parameters,
// and mail systems that wrap links leave the fragment at the end of their own parameters.
var afterCID = regexp.MustCompile(`(/bafybei[a-z2-7]{0,52}(?:/all)?)[^A-Za-z0-9/#].*$`)

// cutTail matches the beginning of an object's CID, or a CID and the beginning of "/all". All CIDs
// of objects start alike, because they have the same prefix.
var cutTail = regexp.MustCompile(`/bafybei(?:[a-z2-7]{0,51}|[a-z2-7]{52}/(?:al?)?)$`)

// ParsePath reads the path of a request to the gateway, percent-decoded once and without the
// prefix: the CID, then the rest. If a scanner has encoded the "#", the fragment arrives in the
// path: "CID#A" or "CID/all#A", with "%23" if it was encoded twice. If only the fragment is wrong,
// ParsePath returns ErrIncomplete or ErrInvalid and the CID.
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

// cutAll cuts the fragment off "all#A". It returns any other rest unchanged, because that may
// contain file names.
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

// parseFragment reads the letters and digits at the beginning of s. After them may come the
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

// encodedHash matches "#" percent-encoded once or several times: %23, %2523, %252523.
var encodedHash = regexp.MustCompile(`%(?:25)*23`)

// maxEscapes bounds how often "#" was escaped for HTML: &#35;, &amp;#35;, &amp;amp;#35;.
const maxEscapes = 3

func decode(s string) string {
	for range maxEscapes {
		s = html.UnescapeString(s)
	}
	return encodedHash.ReplaceAllString(s, "#")
}

// wrap matches a line break inside a link: plain, in the form of quoted-printable (RFC 2045 section
// 6.7), or with the marks of a quoted reply on the next line.
var wrap = regexp.MustCompile(`=?\r?\n[ \t>]*`)

// isBlank reports whether r is white space, or one of the zero-width spaces, joiners, soft hyphens
// and byte order marks with which rich text breaks long words.
func isBlank(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) }
