package link

import (
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
)

func TestCIDsAreFoundInWhatPeoplePaste(t *testing.T) {
	l, other := testLink("https://files.example.org/d", 1), testLink("https://files.example.org", 2)
	c, url := l.CID.String(), l.URL()
	head, fragment, _ := strings.Cut(url, "#")
	for name, text := range map[string]string{
		"bare": c, "comma": c + ",", "full stop": c + ".", "angle brackets": "<" + c + ">", "quotes": `"` + c + `"`, "upper case": strings.ToUpper(c),
		"label": "CID:" + c, "Windows": c + "\r\n", "byte order mark": "\ufeff" + c, "soft hyphen": c[:9] + "\u00ad" + c[9:],
		"IPFS path": "/ipfs/" + c, "path of an entry": c + "/data", "file of the embedded store": "objects/" + c + ".car",
		"link": url, "link to all": toAll(l).URL(), "without fragment": head, "cut fragment": url[:len(url)-9], "brackets and comma": "<" + url + ">,",
		"escaped": head + "%23" + fragment, "escaped twice": head + "%2523" + fragment, "as an entity": head + "&#35;" + fragment,
		"in a parameter": "https://scan.example.net/?u=https%3A%2F%2Ffiles.example.org%2F" + c + "%23" + fragment,
		"ticket":         head + "/t/2026-11.xyz/name.pdf", "wrapped in the CID": url[:len(head)-9] + "\r\n" + url[len(head)-9:],
		"wrapped, without fragment": head[:len(head)-9] + "=\n" + head[len(head)-9:], "blank in the CID": url[:len(head)-9] + " " + url[len(head)-9:],
	} {
		if got := FindCIDs(text); len(got) == 0 || slices.ContainsFunc(got, func(found cid.Cid) bool { return found != l.CID }) {
			t.Errorf("%s: found %v, want %v", name, got, l.CID)
		}
	}
	for name, text := range map[string]string{"two": c + ", " + other.URL(), "two lines": url + "\n" + other.CID.String()} {
		if got := FindCIDs(text); !slices.Contains(got, l.CID) || !slices.Contains(got, other.CID) {
			t.Errorf("%s: found %v, want both", name, got)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "words": "see the ticket", "cut": c[:58], "one letter too many": c + "a", "one digit too many": c + "9", "mistyped": c[:57] + "1" + c[58:],
		"bits beyond the end": c[:58] + "7", "raw": cid.NewCidV1(cid.Raw, l.CID.Hash()).String(), "CIDv0": cid.NewCidV0(l.CID.Hash()).String(),
	} {
		if got := FindCIDs(text); len(got) != 0 {
			t.Errorf("%s: found %v", name, got)
		}
	}
}
