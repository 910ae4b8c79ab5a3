package link

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func testLink(base string, seed byte) Link {
	sum := sha256.Sum256([]byte{seed})
	hash, hashErr := multihash.Encode(sum[:], multihash.SHA2_256)
	sum = sha256.Sum256(sum[:])
	f, err := crypto.FragmentFromBytes(sum[:])
	if err = errors.Join(hashErr, err); err != nil {
		panic(err)
	}
	return Link{Base: base, CID: cid.NewCidV1(cid.DagProtobuf, hash), Fragment: f}
}

// toAll returns the link with All set.
func toAll(l Link) Link {
	l.All = true
	return l
}

func TestLinkHasNoCharacterThatScannersEncode(t *testing.T) {
	l := testLink("https://files.example.org/d", 1)
	c, fragment := l.CID.String(), l.Fragment.Encode()
	if got, want := l.URL(), "https://files.example.org/d/"+c+"#"+fragment; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := toAll(l).URL(), "https://files.example.org/d/"+c+"/all#"+fragment; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !regexp.MustCompile(`^[a-z0-9]{59}$`).MatchString(c) || !regexp.MustCompile(`^[a-zA-Z0-9]+$`).MatchString(fragment) {
		t.Errorf("other characters than letters and digits in %s or %s", c, fragment)
	}
}

func TestBasesHaveOneForm(t *testing.T) {
	for in, want := range map[string]string{
		"https://files.example.org":         "https://files.example.org",
		"https://files.example.org/":        "https://files.example.org",
		"HTTPS://Files.Example.ORG/Mail/v2": "https://files.example.org/Mail/v2",
		"http://127.0.0.1:8080/d/":          "http://127.0.0.1:8080/d",
		"http://[::1]:8080":                 "http://[::1]:8080",
		"http://my_host/~a.b-c":             "http://my_host/~a.b-c",
	} {
		if got, err := ParseBase(in); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "files.example.org", "ftp://files.example.org", "https://", "https:///x", "https://user:pass@host", "https://host?x=1",
		"https://host#x", "https://host/a b", "https://host/%2e", "https://host/..", "https://host/a/./b", "https://host//x",
		"https://host:port", "https://bücher.example", "https://host\n", "javascript:alert(1)//https://host",
	} {
		if got, err := ParseBase(in); err == nil {
			t.Errorf("%q: got %q", in, got)
		} else if len(in) > 20 && strings.Contains(err.Error(), in) {
			t.Errorf("%q: quoted by the error", in)
		}
	}
}

// Mail programs, scanners and people change links in these ways.
func TestChangedLinksAreRepaired(t *testing.T) {
	testRepairs(t, testLink("https://files.example.org/d", 1))
	testRepairs(t, toAll(testLink("https://files.example.org/d", 1)))
	testRepairs(t, testLink("https://files.example.org/all", 1)) // the prefix looks like the end of a link
}

func testRepairs(t *testing.T, l Link) {
	t.Helper()
	url := l.URL()
	head, fragment, _ := strings.Cut(url, "#")
	at := strings.Index(url, "bafybei") + 20 // in the CID
	in := len(url) - 10                      // in the fragment
	for name, s := range map[string]string{
		"unchanged":                     url,
		"# encoded":                     head + "%23" + fragment,
		"# encoded twice":               head + "%2523" + fragment,
		"# encoded three times":         head + "%252523" + fragment,
		"# as an entity":                head + "&#35;" + fragment,
		"# as a named entity":           head + "&num;" + fragment,
		"# as an entity, escaped again": head + "&amp;#35;" + fragment,
		"angle brackets":                "<" + url + ">",
		"RFC 3986 appendix C":           "<URL:" + url + ">",
		"escaped brackets":              "&lt;" + url + "&gt;",
		"encoded bracket":               url + "%3E",
		"parenthesis":                   "(" + url + ").",
		"Markdown":                      "[" + url + "](" + url + ")",
		"a sentence before it":          "Your file: " + url,
		"redirected by a tracker":       "https://click.example.net/?to=" + url,
		"quotes":                        `"` + url + `",`,
		"typographic quotes":            url + "”.",
		"full stop":                     url + ".",
		"comma":                         url + ",",
		"semicolon":                     url + ";",
		"bracket":                       url + "]",
		"white space around":            " \t\r\n" + url + "\r\n",
		"text after it":                 url + " is the link",
		"text on the next line":         url + "\n\nBest regards",
		"upper-cased scheme and host":   strings.Replace(url, "https://files.example.org", "HTTPS://FILES.EXAMPLE.ORG", 1),
		"what our pages append":         url + "." + testLink("", 9).CID.String() + "." + testLink("", 9).Fragment.Encode(),
		"wrapped before the last slash": strings.Replace(url, url[strings.LastIndex(url, "/"):], "\r\n"+url[strings.LastIndex(url, "/"):], 1),
		"wrapped in the CID":            url[:at] + "\r\n" + url[at:],
		"wrapped at the #":              head + "\r\n#" + fragment,
		"wrapped in the fragment":       url[:in] + "\n" + url[in:],
		"wrapped and indented":          url[:at] + "\r\n    " + url[at:in] + "\r\n\t" + url[in:],
		"quoted-printable":              url[:at] + "=\r\n" + url[at:in] + "=\n" + url[in:],
		"quoted in a reply":             "> " + url[:at] + "\r\n> " + url[at:],
		"quoted twice":                  url[:in] + "\n>> " + url[in:] + "\n>> and so on",
		"last character wrapped":        url[:len(url)-1] + "\r\n" + url[len(url)-1:],
		"blank inside":                  url[:in] + " " + url[in:],
		"no-break space":                url[:in] + "\u00a0" + url[in:],
		"zero-width space":              url[:at] + "\u200b" + url[at:],
		"soft hyphen":                   url[:in] + "\u00ad" + url[in:],
		"byte order mark":               "\ufeff" + url,
		"tracker before the fragment":   head + "?utm_source=mail&amp;utm_medium=x#" + fragment,
		"tracker after the fragment":    url + "?utm_source=mail",
		"tracker after, escaped":        url + "&amp;utm_source=mail",
		"tracker after an encoded #":    head + "%23" + fragment + "?utm_source=mail",
	} {
		if got, err := Parse(s); err != nil || got != l {
			t.Errorf("%s, all %v: another link, error %v", name, l.All, err)
		}
	}
}

func TestCutLinksAreIncompleteAndOthersInvalid(t *testing.T) {
	l := testLink("https://files.example.org", 2)
	url := l.URL()
	head, fragment, _ := strings.Cut(url, "#")
	raw := cid.NewCidV1(cid.Raw, l.CID.Hash()).String()
	v0 := cid.NewCidV0(l.CID.Hash()).String()
	inBase58, err := l.CID.StringOfBase('z')
	must.Succeed(t, err)
	for _, tt := range []struct {
		name, in string
		want     error
	}{
		{"no fragment", head, ErrIncomplete},
		{"no fragment, full stop", head + "#.", ErrIncomplete},
		{"empty fragment", head + "#", ErrIncomplete},
		{"fragment cut", url[:len(url)-5], ErrIncomplete},
		{"fragment cut, text after it", url[:len(url)-20] + "... ", ErrIncomplete},
		{"cut in the CID", head[:len(head)-7], ErrIncomplete},
		{"cut after the CID's slash", head + "/", ErrIncomplete},
		{"cut in all", head + "/al", ErrIncomplete},
		{"cut after all", head + "/all", ErrIncomplete},
		{"all, and the fragment cut", head + "/all#" + fragment[:20], ErrIncomplete},
		{"all in part", head + "/al#" + fragment, ErrInvalid},
		{"all twice", head + "/all/all#" + fragment, ErrInvalid},
		{"all in capitals", head + "/ALL#" + fragment, ErrInvalid},
		{"all, and something after it", head + "/all/x#" + fragment, ErrInvalid},
		{"user information, and cut", strings.Replace(head[:len(head)-7], "//", "//me@", 1), ErrInvalid},
		{"fragment too long", url + "22", ErrInvalid},
		{"fragment of another base", head + "#m" + fragment[1:], ErrInvalid},
		{"fragment upper-cased", head + "#" + strings.ToUpper(fragment), ErrInvalid},
		{"empty", "", ErrInvalid},
		{"not a link", "hello", ErrInvalid},
		{"no CID", "https://files.example.org/#" + fragment, ErrInvalid},
		{"host alone", "https://files.example.org", ErrInvalid},
		{"another scheme", strings.Replace(url, "https", "ftp", 1), ErrInvalid},
		{"user information", strings.Replace(url, "//", "//me@", 1), ErrInvalid},
		{"raw CID", "https://files.example.org/" + raw + "#" + fragment, ErrInvalid},
		{"CIDv0", "https://files.example.org/" + v0 + "#" + fragment, ErrInvalid},
		{"CID upper-cased", "https://files.example.org/" + strings.ToUpper(l.CID.String()) + "#" + fragment, ErrInvalid},
		{"CID in another base", "https://files.example.org/" + inBase58 + "#" + fragment, ErrInvalid},
		{"scheme alone", "https://#" + fragment, ErrInvalid},
		{"something after the CID", head + "/data#" + fragment, ErrInvalid},
		{"huge", url + strings.Repeat(" ", maxInput), ErrInvalid},
	} {
		got, err := Parse(tt.in)
		if !errors.Is(err, tt.want) || got != (Link{}) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), fragment[:8]) {
			t.Errorf("%s: the error quotes the fragment", tt.name)
		}
	}
}

func TestPathMayHoldTheFragment(t *testing.T) {
	l := testLink("", 3)
	c, fragment := l.CID.String(), l.Fragment.Encode()
	for _, tt := range []struct {
		path, rest string
		fragment   bool
		want       error
	}{
		{"/" + c, "", false, nil},
		{c, "", false, nil},
		{"/" + c + "/", "", false, nil},
		{"/" + c + "/share", "share", false, nil},
		{"/" + c + "/t/2026-11.AAAA/a%23b.pdf", "t/2026-11.AAAA/a%23b.pdf", false, nil},
		{"/" + c + "#" + fragment, "", true, nil},        // /CID%23A on the wire
		{"/" + c + "%23" + fragment, "", true, nil},      // /CID%2523A
		{"/" + c + "%2523" + fragment, "", true, nil},    // and again
		{"/" + c + "#" + fragment + ">.", "", true, nil}, // with the sentence around it
		{"/" + c + "#" + fragment + "/x", "x", true, nil},
		{"/" + c + "/all", "all", false, nil},
		{"/" + c + "/all/", "all/", false, nil},
		{"/" + c + "/all#" + fragment, "all", true, nil},
		{"/" + c + "/all%23" + fragment, "all", true, nil},
		{"/" + c + "/all%2523" + fragment + "%3E", "all", true, nil},
		{"/" + c + "/all#" + fragment[:20], "all", true, ErrIncomplete},
		{"/" + c + "/all#", "all", true, ErrIncomplete},
		{"/" + c + "/allx#" + fragment, "allx#" + fragment, false, nil},
		{"/" + c + "/t/all#" + fragment, "t/all#" + fragment, false, nil},
		{"/" + c + "#" + fragment[:20], "", true, ErrIncomplete},
		{"/" + c + "#", "", true, ErrIncomplete},
		{"/" + c + "#b" + fragment[1:], "", true, ErrInvalid},
		{"/", "", false, ErrInvalid},
		{"", "", false, ErrInvalid},
		{"//" + c, "", false, ErrInvalid},
		{"/../" + c, "", false, ErrInvalid},
		{"/" + c + ".", "", false, ErrInvalid},
		{"/" + c[:58], "", false, ErrInvalid},
		{"/" + c + "a", "", false, ErrInvalid},
		{"/" + cid.NewCidV0(l.CID.Hash()).String(), "", false, ErrInvalid},
		{"/" + cid.NewCidV1(cid.Raw, l.CID.Hash()).String(), "", false, ErrInvalid},
		{"/" + strings.Repeat("%23", maxInput), "", false, ErrInvalid},
	} {
		gotCID, rest, f, has, err := ParsePath(tt.path)
		if !errors.Is(err, tt.want) || rest != tt.rest || has != tt.fragment {
			t.Errorf("%.100q: got rest %q, fragment %v, error %v; want %q, %v, %v", tt.path, rest, has, err, tt.rest, tt.fragment, tt.want)
		}
		if (err == nil || has) && gotCID != l.CID {
			t.Errorf("%.100q: got CID %v", tt.path, gotCID)
		}
		if err == nil && has && f != l.Fragment {
			t.Errorf("%.100q: another fragment", tt.path)
		}
	}
}

func TestLinksDoNotPrint(t *testing.T) {
	l := testLink("https://files.example.org", 4)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb, l, &l, struct{ l Link }{l})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "link", l, "list", []Link{l})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "link", l, "list", []Link{l})
	js, err := json.Marshal([]Link{l})
	must.Succeed(t, err)
	out.Write(js)
	out.WriteString(l.String())
	if s := out.String(); strings.Contains(s, l.Fragment.Encode()) || strings.Contains(s, fmt.Sprintf("%x", l.Fragment.Bytes())) {
		t.Errorf("a link prints: %s", s)
	}
}

// parse(format(link)) = link for every link, also with other text around it.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("seed"), "files.example.org", "/d", "<", ">.")
	f.Add([]byte{}, "127.0.0.1:80", "", "", "\r\n")
	f.Add([]byte{255}, "[::1]:8080", "/~a/B.c", "(", ")")
	f.Fuzz(func(t *testing.T, seed []byte, host, prefix, before, after string) {
		base, err := ParseBase("https://" + host + prefix)
		if err != nil {
			t.Skip()
		}
		sum := sha256.Sum256(seed)
		l := testLink(base, sum[0])
		l.Fragment, err = crypto.FragmentFromBytes(sum[:])
		must.Succeed(t, err)
		l.All = sum[0]&1 == 1
		if got, err := Parse(l.URL()); err != nil || got != l {
			t.Errorf("%q: %v", base, err)
		}
		if strings.Trim(before, "<([\"' \r\n\t") != "" || strings.Trim(after, ">)].,;:!?\"' \r\n\t") != "" {
			t.Skip()
		}
		if got, err := Parse(before + l.URL() + after); err != nil || got != l {
			t.Errorf("%q around %q, %q: %v", base, before, after, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	url := testLink("https://files.example.org/d", 5).URL()
	for _, w := range wrappers {
		f.Add(w.wrap(url))
	}
	for _, s := range []string{"", url, toAll(testLink("https://files.example.org/all", 5)).URL(), "<" + url + ">", url[:70], strings.Replace(url, "#", "%2523", 1), "#", "/#", "&amp;amp;#35;", url + " x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := Parse(s)
		exact, exactErr := ParseExact(s)
		if want := err == nil && !l.All && l.URL() == s; want != (exactErr == nil) || want && exact != l {
			t.Errorf("%q: ParseExact got %v, want success: %v", s, exactErr, want)
		}
		if err == nil {
			if again, err := Parse(l.URL()); err != nil || again != l {
				t.Errorf("%q parses to a link whose URL does not: %v", s, err)
			}
		} else if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrIncomplete) {
			t.Errorf("%q: got %v", s, err)
		}
		var c cid.Cid
		c, _, _, _, err = ParsePath(s)
		if err == nil && (!c.Defined() || len(c.Bytes()) != 36) {
			t.Errorf("path %q: got CID %v", s, c)
		}
	})
}

// An object has one name. A text that go-cid reads as the same CID in another form is not it.
func TestObjectCIDHasOneForm(t *testing.T) {
	c := testLink("https://files.example.org", 1).CID
	text := c.String()
	if got, err := ParseCID(text); err != nil || got != c {
		t.Errorf("got %v, %v, want %v", got, err, c)
	}
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	valid := 0
	for _, last := range alphabet { // two of its five bits are beyond the 36 bytes
		other := text[:len(text)-1] + string(last)
		got, err := ParseCID(other)
		if err == nil {
			valid++
		}
		if err == nil && got.String() != other {
			t.Errorf("%s is read as %s", other, got)
		}
	}
	if valid != len(alphabet)/4 {
		t.Errorf("%d last letters are accepted, want %d", valid, len(alphabet)/4)
	}
	for _, bad := range []string{"", "b", strings.ToUpper(text), text + "a", text[1:], text[:20] + "\n" + text[21:], "b" + text, "z" + text[1:], cid.NewCidV1(cid.Raw, c.Hash()).String()} {
		if _, err := ParseCID(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", bad, err)
		}
	}
}
