package link

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/measure"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/race"
)

// wrapper is a service that puts its own link in place of a link.
type wrapper struct {
	name string
	wrap func(link string) string
}

// nests reports whether the wrapper takes other wrappers' links.
func (w wrapper) nests() bool {
	for _, not := range []string{"scheme", "cut after", "fragment", "harmless", "by hand"} {
		if strings.Contains(w.name, not) {
			return false
		}
	}
	return true
}

// wrappers has the forms as they stand in mails that people have published.
var wrappers = []wrapper{
	// https://learn.microsoft.com/defender-office-365/safe-links-about
	{"Safe Links", inQuery("https://eur02.safelinks.protection.outlook.com/?url=", "&data=05%7C02%7Cb%40example.org%7C8f1a%7C84df%7C1%7C0%7C638%7CUnknown%7CTWFpbGZsb3d8eyJWIjoi%3D%7C0%7C%7C%7C&sdata=c9iB%2BGK%2F4nE%3D&reserved=0")},
	{"Safe Links for Office files", inQuery("https://nam06.safelinks.protection.outlook.com/ap/x-59584e83/?url=", "&data=02%7C01&sdata=x&reserved=0")},
	{"Safe Links for US governments", inQuery("https://usg01.safelinks.protection.office365.us/?url=", "&data=05%7C02")},
	{"Outlook on the web", inQuery("https://outlook.office.com/mail/safelink.html?url=", "&corid=1b2c")},
	{"Outlook on the web, with a # of its own", inQuery("https://outlook.office.com/mail/#/safelink.html?url=", "")},
	{"Teams", inQuery("https://statics.teams.cdn.office.net/evergreen-assets/safelinks/2/atp-safelinks.html?url=", "&locale=en-us")},
	// https://help.proofpoint.com has the decoder of all three forms (URLDefenseDecode.py).
	{"URL Defense 1", inQuery("https://urldefense.proofpoint.com/v1/url?u=", "&k=oIvRg1%2BdGAgOoM1BIlLLqw%3D%3D%0A&r=IKM5u8%2B&m=Ww6i%3D%0A&s=d3583cfa")},
	{"URL Defense 1, not encoded", around("https://urldefense.proofpoint.com/v1/url?u=", "&amp;k=oIvRg1%2BdGAgOoM1BIlLLqw%3D%3D%0A&amp;r=IKM5u8%2B")},
	{"URL Defense 2", defend2},
	{"URL Defense 3", defend3},
	{"URL Defense 3, several characters in a row", func(l string) string {
		return defend3("https://scan.example.net/?name=äöü&x=ßß&url=" + url.QueryEscape(l))
	}},
	{"URL Defense 3 around an escaped link", func(l string) string { return defend3(url.QueryEscape(l)) }},
	{"URL Defense 3 for US governments", func(l string) string { return strings.Replace(defend3(l), ".com", ".us", 1) }},
	{"URL Defense 3, cut after the key", func(l string) string { s, _, _ := strings.Cut(defend3(l), "__;"); return s }},
	{"URL Defense 3 without a slash", func(l string) string { return strings.Replace(defend3(l), "__https://", "__https:/", 1) }},
	// https://campus.barracuda.com/product/emailgatewaydefense/doc/96023050/
	{"Barracuda", lower(inQuery("https://linkprotect.cudasvc.com/url?a=", "&c=E,1,Up5a1KOvFQiH6luErCqEpIBE-n2xkho2HrDeq1coZGOV&typo=1"))},
	{"Cisco", inQuery("https://secure-web.cisco.com/1W2R4YLY2hhGpl65mIlXRE6wo_Bgus3uAHj6kgi6Z1DflVl54XMtQ0_bG4gLyZxrKU1-JaPNp55Q2cQ3ftsKFp/", "")},
	{"Trellix, FireEye", inQuery("https://protect2.fireeye.com/v1/url?k=88c9803a-e9429571-88c80b75-74fe485fb305&q=1&e=4823af8c-cd6a-4171&u=", "")},
	{"Trend Micro", every(inQuery("https://ddec1-0-en-ctp.trendmicro.com/wis/clicktime/v1/query?url=", "&umid=cdcc023c-bb19-4239&rct=1751307249&auth=764ac1eb-0b105689"))},
	{"Trend Micro, not encoded", around("https://cas5-0-urlprotect.trendmicro.com/wis/clicktime/v1/query?url=", "&umid=1f2e17b0-60fb&auth=30c0fd8b")},
	{"Trustwave", every(lower(inQuery("https://scanmail.trustwave.com/?c=20988&d=i-GP5uRIMfh6vd5ovR02aBzmN2wu2NxHqGSNFOAFMA&u=", "")))},
	{"Symantec", inQuery("https://clicktime.symantec.com/38YrYPLxxSqYhBQLb1eruhW7Vc?u=", "")},
	{"Symantec, with a digest", inQuery("https://clicktime.symantec.com/15tStdWWRBCjGxB6bujRD?h=zRUjvnB-oJ7CeZWGKRQJobPyV8b1EJMcAlvzEMzuV0Y=&u=", "")},
	{"Sophos", base64ed("https://eu-central-1.protection.sophos.com/?d=example.org&u=", "&p=m&i=NjA5NDA5OTI5NmUwM2YzNzEwODdhNzM3&t=MnQ4UUR5Q0lwa3pvL0pQ&h=b05e70cb6982454e9fe217d143786902")},
	{"Sophos, unpadded", func(l string) string {
		return strings.ReplaceAll(base64ed("https://us-west-2.protection.sophos.com/?d=example.org&u=", "&i=NWE2")(l), "=&i", "&i")
	}},
	{"base64 in the path", base64ed("https://scan.example.net/ux/", "/8A1F0C2D?c=1&i=2")},
	{"Hornetsecurity", inQuery("https://atpscan.global.hornetsecurity.com/?d=HzV-JpXnCxhoHNXV&f=rhmYUrUT0yf7&i=&k=Eb5a&m=onuRfVBv&n=Ux5f&r=nfZ6&s=a1b0c48e&u=", "")},
	{"Vade", inQuery("https://antiphishing.vadesecure.com/v4?f=UU1XcHkxazJBTmIy&i=RTNLd2NGeE1&k=ywmE&r=ZnVkMm1U&s=634bcb49&u=", "")},
	{"Libraesva", inQuery("https://urlsand.esvalabs.com/?u=", "&e=ed7a584b&h=456504aa&f=y&p=y")},
	{"EdgePilot", around("https://link.edgepilot.com/s/4239f747/ca21cbCpKkOSLI5ZXNqTdQ?u=", "")},
	{"Zix", inQuery("https://link.zixcentral.com/u/08573078/uLbJvu8j6RG0fTcth3soMg?u=", "")},
	// https://blog.checkpoint.com/product-updates/click-time-protection-replaced-url-domain-change/
	{"Check Point", around("https://protect.checkpoint.com/v2/r02/___", "___.YzJlOnRlbGVmb25pY2FicmF6aWw6YzpvOmRiMTg1Y2E2YzJm")},
	{"Check Point, formerly Avanan", around("https://url.avanan.click/v2/___", "___.YXAzOnNhcmFncmlsbG86YTpnOmZlNGVlZWU3N2FhNTkw")},
	{"Check Point, with the fragment at the end", func(l string) string {
		head, fragment, _ := strings.Cut(l, "#")
		return "https://url.avanan.click/v2/r01/___" + head + "___.YXAzOnBlcmNvbmE6YTpnOjE1Yzk5ZDBhODM5#" + fragment
	}},
	{"Check Point without a slash", func(l string) string {
		return "https://url.avanan.click/v2/___" + strings.Replace(l, "://", ":/", 1) + "___.YXAzOnNhcmFncmlsbG86YTpn"
	}},
	{"fragment after the parameters", func(l string) string {
		head, fragment, _ := strings.Cut(l, "#")
		return "https://scan.example.net/?url=" + url.QueryEscape(head) + "&data=05%7C02&reserved=0#" + fragment
	}},
	{"Google", inQuery("https://www.google.com/url?q=", "&sa=D&source=editors&ust=1670000000000000&usg=AOvVaw0")},
	{"Facebook", inQuery("https://l.facebook.com/l.php?u=", "&h=AT0x")},
	{"Slack", inQuery("https://slack-redir.net/link?url=", "&v=3")},
	{"LinkedIn", inQuery("https://www.linkedin.com/safety/go?url=", "&trk=flagship-messaging-web")},
	{"Amazon SES", func(l string) string {
		return "https://x1.r.eu-west-1.awstrack.me/L0/" + strings.NewReplacer("/", "%2F", "#", "%23").Replace(l) + "/1/0102018f-000000/aBc=365"
	}},
	{"Menlo", around("https://safe.menlosecurity.com/", "")},
	{"GMX", inQuery("https://deref-gmx.net/mail/client/Jk/dereferrer/?redirectUrl=", "")},
	{"JSON in base64", func(l string) string {
		json := `{"email":"x","href":"` + strings.ReplaceAll(l, "/", `\/`) + `","n":1}`
		return "https://e.example.net/e/c/" + base64.RawURLEncoding.EncodeToString([]byte(json)) + ".d2hv"
	}},
	{"made harmless", func(l string) string { return strings.NewReplacer("http", "hxxp", ".", "[.]").Replace(l) }},
	{"unwrapped by hand, but for the #", func(l string) string { return strings.Replace(l, "#", "*", 1) }},
	{"without a scheme", func(l string) string { return "https://scan.example.net/go?to=" + strings.TrimPrefix(l, "https://") }},
}

func inQuery(before, after string) func(string) string {
	return func(link string) string { return before + url.QueryEscape(link) + after }
}

func around(before, after string) func(string) string {
	return func(link string) string { return before + link + after }
}

func base64ed(before, after string) func(string) string {
	return func(link string) string { return before + base64.URLEncoding.EncodeToString([]byte(link)) + after }
}

var anyEscape = regexp.MustCompile(`%[0-9A-F]{2}`)

// lower writes the digits of escapes in lower case.
func lower(wrap func(string) string) func(string) string {
	return func(link string) string { return anyEscape.ReplaceAllStringFunc(wrap(link), strings.ToLower) }
}

// every escapes the dots, hyphens and underscores of the link too.
func every(wrap func(string) string) func(string) string {
	return func(link string) string {
		const mark = "zzz"
		link = strings.NewReplacer(".", mark+"2e", "-", mark+"2d", "_", mark+"5f").Replace(link)
		return strings.ReplaceAll(wrap(link), mark, "%")
	}
}

func defend2(link string) string {
	link = strings.NewReplacer("-", "%2D", "_", "%5F").Replace(link)
	link = strings.NewReplacer("%", "-", "/", "_").Replace(strings.NewReplacer("%", "%25", ":", "%3A", "#", "%23", "?", "%3F", "=", "%3D", "&", "%26").Replace(link))
	link = strings.NewReplacer("-252D", "-2D", "-255F", "-5F").Replace(link)
	return "https://urldefense.proofpoint.com/v2/url?u=" + link + "&d=DwMFaQ&c=Vxt5e0Osvvt2gflwSlsJ5DmPGcPvTRKLJyp031rXjhg&r=MujLDFBJstxoxZI_GKbsW7wxGM7nnIK__qZvVy6j9Wc&m=QJGhloAyfD0UZ6n8r6y9dF&s=ew-rOtBFjiX1&e="
}

var unusual = regexp.MustCompile(`[#%+~]|[^\x00-\x7f]+`)

func defend3(link string) string {
	var replaced strings.Builder
	kept := unusual.ReplaceAllStringFunc(link, func(s string) string {
		replaced.WriteString(s)
		if n := utf8.RuneCountInString(s); n > 1 {
			return "**" + runs[n-2:n-1]
		}
		return "*"
	})
	characters := base64.RawURLEncoding.EncodeToString([]byte(replaced.String()))
	return "https://urldefense.com/v3/__" + kept + "__;" + characters + "!!Mih3wA!Wq83jaNrHwIpeQ6Nhqht_dgBzF3jc5LYS3MZ-AYh6xIYveu-JINbTzAkxsclLYU2$"
}

func TestWrappedLinksComeBackWhole(t *testing.T) {
	faults.Covers(t, 78)
	for li, l := range []Link{testLink("https://files.example.org", 1), toAll(testLink("https://files.example.org:8443/a_b/c-d", 2)), testLink("https://all-files.example.org/~v2/all", 3), keyWith(t, "eyJ")} {
		for _, w := range wrappers {
			wrapped := w.wrap(l.URL())
			wantLink(t, w.name, wrapped, l)
			wantLink(t, w.name+", quoted", `"`+wrapped+`".`, l)
			wantLink(t, w.name+", in brackets", "<"+wrapped+">", l)
			wantLink(t, w.name+", in HTML", strings.ReplaceAll(wrapped, "&", "&amp;"), l)
			wantLink(t, w.name+", in quoted-printable", broken(strings.ReplaceAll(wrapped, "=", "=3D"), 75, "=\r\n"), l)
			wantLink(t, w.name+", quoted in a reply", "> "+broken(wrapped, 70, "\r\n> "), l)
			wantLink(t, w.name+", wrapped after each escape", broken(wrapped, 17, "\n"), l)
			wantLink(t, w.name+", zero-width spaces", broken(wrapped, 30, "\u200b"), l)
			wantLink(t, w.name+", a name before it", "report.pdf <"+wrapped+">\r\n2 MB", l)
			wantLink(t, w.name+", a sentence around it", "The file is here: "+wrapped+"\n\nBest regards", l)
			if got := FindCIDs(wrapped); len(got) == 0 || got[0] != l.CID {
				t.Errorf("%s: found %v, want %v", w.name, got, l.CID)
			}
			if !HasFragment(wrapped) {
				t.Errorf("%s: no fragment found", w.name)
			}
			for _, outer := range wrappers {
				if outer.nests() && w.name != "made harmless" && li == 0 {
					wantLink(t, w.name+" in "+outer.name, outer.wrap(wrapped), l)
				}
			}
		}
	}
}

// keyWith returns a link that has a text in its fragment. This one looks like base64.
func keyWith(t *testing.T, text string) Link {
	l := testLink("https://files.example.org", 1)
	for n := range uint32(1 << 20) {
		sum := sha256.Sum256(binary.BigEndian.AppendUint32(nil, n))
		f, err := crypto.FragmentFromBytes(sum[:])
		must.Succeed(t, err)
		if l.Fragment = f; strings.Contains(f.Encode(), text) {
			return l
		}
	}
	t.Fatalf("no fragment has %q", text)
	return l
}

func wantLink(t *testing.T, name, text string, want Link) {
	t.Helper()
	if got, err := Parse(text); err != nil || got != want {
		t.Errorf("%s: got base %q, error %v: %s", name, got.Base, err, text)
	}
}

// broken puts a break after every n bytes.
func broken(s string, n int, with string) string {
	var b strings.Builder
	for ; len(s) > n; s = s[n:] {
		b.WriteString(s[:n] + with)
	}
	return b.String() + s
}

// Links that others have published, with what they decode to.
func TestPublishedLinksAreUnwrapped(t *testing.T) {
	for wrapped, want := range map[string]string{
		// help.proofpoint.com, URL Decoder API
		"https://urldefense.com/v3/__https://google.com:443/search?q=a*test&gs=ps__;Kw!-612Flbf0JvQ3kNJkRi5Jg!Ue6tQudNKaShHg93trcdjqDP8se2ySE65jyCIe2K1D_uNjZ1Lnf6YLQERujngZv9UWf66ujQIQ$": "https://google.com:443/search?q=a+test&gs=ps ",
		"https://urldefense.proofpoint.com/v2/url?u=http-3A__links.mkt3337.com_ctt-3Fkn-3D3-26ms-3DMzQ3OTg3MDQS1-26r-3DMzkxNzk3NDkwMDA0S0&d=DwMFaQ&c=Vxt5e0":                               "http://links.mkt3337.com/ctt?kn=3&ms=MzQ3OTg3MDQS1&r=MzkxNzk3NDkwMDA0S0&",
		// github.com/cardi/proofpoint-decoder
		"https://urldefense.com/v2/url?u=https-3A__www.example.com_-23-23-23-23-23foobar&d=&c=&r=&m=&s=&e=":                                                       "https://www.example.com/#####foobar&",
		"https://urldefense.com/v2/url?u=https-3A__www.example.com_-40-40-21-40foobar&d=&c=&r=&m=&s=&e=":                                                          "https://www.example.com/@@!@foobar&",
		"urldefense.com/v3/__http://www.example.com__;!!foo!bar$":                                                                                                 "http://www.example.com ",
		"https://urldefense.com/v3/__https://example.com/*newsletter__;Iw!!foo!bar$":                                                                              "https://example.com/#newsletter ",
		"https://urldefense.proofpoint.com/v3/__https://example.com/a**A__;eHk!tracking$":                                                                         "https://example.com/axy ",
		"https://eu-central-1.protection.sophos.com/?d=example.com&u=aHR0cDovL3d3dy5leGFtcGxlLmNvbS9Fbi9EYXRhL1ZpZXcvMzk3Mg==&i=NjA5NDA5OTI5NmUwM2YzNzEwODdhNzM3": "http://www.example.com/En/Data/View/3972",
	} {
		if got := unwrap(wrapped); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", wrapped, got, want)
		}
	}
}

func TestWrappedLinkWithoutItsEndIsIncomplete(t *testing.T) {
	faults.Covers(t, 78)
	l := testLink("https://files.example.org", 1)
	head, fragment, _ := strings.Cut(l.URL(), "#")
	for _, w := range wrappers {
		for name, lost := range map[string]string{"no fragment": head, "fragment cut": head + "#" + fragment[:30], "cut in the CID": head[:len(head)-9]} {
			if lost != head && strings.Contains(w.name, "fragment at the end") || w.name == "Amazon SES" {
				continue // the rest of its path looks like that of the link
			}
			wrapped := strings.TrimRight(w.wrap(lost), "#")
			if _, err := Parse(wrapped); !errors.Is(err, ErrIncomplete) {
				t.Errorf("%s, %s: got %v: %s", w.name, name, err, wrapped)
			}
		}
		if got := FindCIDs(w.wrap(head)); len(got) == 0 || got[0] != l.CID {
			t.Errorf("%s: found %v, want %v", w.name, got, []cid.Cid{l.CID})
		}
	}
}

// Only the mail system's server knows where these lead.
func TestLinkThatOnlyAServerKnowsIsReplaced(t *testing.T) {
	faults.Covers(t, 78)
	for _, s := range []string{
		"https://protect-eu.mimecast.com/s/rADECvZvDhygB3ktQtrXG?domain=files.example.org",
		"https://protect-us.mimecast.com/s/Dq2tCqx82YfMWNPOFZubbx",
		"https://url.de.m.mimecastprotect.com/s/mo46CLZjkgIkY1vBEcBfviy8_YO?domain=files.example.org",
		"<https://url.emailprotection.link/?b6t_II7rHqeURY3L4E7-KcEv-1AKpnboL9fCKlYHKuJE6gIsmMG5lwI0tzFVjUQ7~>",
		"https://us01.z.antigena.com/l/Er4kZWDmvL5-bLzHHJoZv0k71iwW2jCD5qNpiz0x0XdYY6oORF_nXh7U7jw6oubhi~32HI4i71",
		"https://shared.outlook.inky.com/link?domain=files.example.org&t=h.eJxtj7tywyAQRX_Fozq8BBhw5SRVitjfsIZFJkbII9CkyOTfYz",
		"https://atpscan.global.hornetsecurity.com/?d=bl0WkjofOe8esEHMXNQ6mkfdkdiDo7tHmlMOQyi6Dv_kVbE6KFSN8VEemCAGAiHy&f=kXUMBGyq4",
		"https://us-east-2.protection.sophos.com/?d=example.org&b=990260467867425f8d991057d4ea7a24&x=55f1396fd910&q=4bPLHT591zz1xn7_UUID_731d18ff",
		"http://secure-web.cisco.com/1z0v_U78rf_0ofSUeyHRS36Fj-mk74BguweaGfG7pX9MxfOcN1eiC_hUDhW9vqTMtTPbrFNAMQHqAtrLtbFTpAjduzGF",
		"The file: https://protect-eu.mimecast.com/s/rADECvZvDhygB3ktQtrXG?domain=files.example.org\nBest regards",
		"https://eur02.safelinks.protection.outlook.com/?url=https%3A%2F%2Fprotect-eu.mimecast.com%2Fs%2FrADECvZvDhygB3ktQtrXG%3Fdomain%3Dfiles.example.org&data=05%7C02",
		"https://lnkd.in/gAbCdEfGh1",
	} {
		if _, err := Parse(s); !errors.Is(err, ErrReplaced) || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", s, err)
		}
	}
	l := testLink("https://files.example.org", 1)
	for _, s := range []string{
		"", "hello", "https://", "https://files.example.org", "https://files.example.org/", "https://files.example.org/#" + l.Fragment.Encode(),
		"https://files.example.org/Qm/#" + l.Fragment.Encode(), l.URL() + "22",
	} {
		if _, err := Parse(s); !errors.Is(err, ErrInvalid) || errors.Is(err, ErrReplaced) {
			t.Errorf("%s: got %v", s, err)
		}
	}
}

// A client may paste the worst text that the limit allows. The bound is far above what it takes,
// and far below what quadratic time takes.
func TestWorstTextsTakeLinearTime(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector makes the measured times meaningless")
	}
	head, _, _ := strings.Cut(testLink("https://files.example.org", 1).URL(), "#")
	for name, piece := range map[string]string{
		"schemes": "https://", "hashes": "#z", "links without a key": head + "#", "URL Defense 2": "https-3A__x", "URL Defense 3": "v3/__https:/*", "base64": "aHR0cHM6Ly",
		"escapes": "%25", "escapes of escapes": "%252525", "entities": "&amp;", "blanks": "a ", "wraps": "=\n>", "runs": "v3/__https:/x**9**9__;AAAAAAAAAA", "Unicode": "é\u200b",
		"wrapped": defend3(inQuery("https://scan.example.net/?url=", "")(head)) + " ",
	} {
		text := strings.Repeat(piece, maxInput/len(piece))
		begun := measure.CPU()
		for range 5 {
			_, _ = Parse(text)
		}
		took := (measure.CPU() - begun) / 5
		t.Logf("%s: %v", name, took)
		if took > time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}
