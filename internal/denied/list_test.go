package denied

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/vectors"
)

// linkTo is a link to an object.
func linkTo(t *testing.T, n int) link.Link {
	t.Helper()
	f, err := crypto.FragmentFromBytes(bytes.Repeat([]byte{byte(n)}, crypto.SecretSize))
	must.Succeed(t, err)
	return link.Link{Base: "https://files.example.org/d", CID: numberedCID(n), Fragment: f}
}

func write(t *testing.T, d *List, text string) {
	t.Helper()
	must.Succeed(t, os.WriteFile(d.path, []byte(text), 0o600))
}

// wantProblems wants exactly one problem for each of these texts.
func wantProblems(t *testing.T, d *List, want ...string) {
	t.Helper()
	got := d.Problems()
	for i, p := range got {
		if i >= len(want) || !strings.Contains(p.Err.Error(), want[i]) {
			t.Errorf("problem %d: %v", i, p.Err)
		}
	}
	if len(got) < len(want) {
		t.Errorf("%d problems, want %q", len(got), want)
	}
}

// People paste links into the deny list as they got them.
func TestDenyListTakesWhatPeoplePaste(t *testing.T) {
	d := testDenyList(t)
	other := linkTo(t, 2)
	c, url := numberedCID(1).String(), linkTo(t, 1).URL()
	head, fragment, _ := strings.Cut(url, "#")
	cut := strings.Index(url, c) + 20
	for name, text := range map[string]string{
		"link": url, "link without fragment": head, "brackets": "<" + url + ">", "comma": c + ",", "full stop": url + ".", "path": c + "/data",
		"IPFS": "/ipfs/" + c, "escaped fragment": head + "%23" + fragment, "comment": url + "   # wrong list", "comment without blank": c + "#wrong list",
		"wrapped in the CID": url[:cut] + "\n" + url[cut:], "wrapped in the fragment": url[:len(url)-9] + "\r\n" + url[len(url)-9:],
		"wrapped at the #": head + "\n#" + fragment, "quoted in a reply": "> " + url[:cut] + "\n> " + url[cut:], "wrapped without fragment": head[:cut] + "\n" + head[cut:],
		"wrapped by quoted-printable": url[:cut] + "=\n" + url[cut:], "wrapped by quoted-printable, with CR": url[:cut] + "=\r\n" + url[cut:] + "\r",
		"line ends of old Macs": "# comment\r" + c + "\r",
		"byte order mark":       "\ufeff" + c, "in capitals": strings.ToUpper(c), "ticket": head + "/t/2026-11.abc/a.pdf", "comment about another": c + " # as " + other.CID.String(),
	} {
		write(t, d, "# list\n"+text+"\n\n# end\n")
		wantDenied(t, name, d, true, 1)
		wantDenied(t, name+": the other", d, false, 2)
		if list, _ := d.Content(); len(list.unreadable) > 0 {
			t.Errorf("%s: lines %v count as unreadable", name, list.unreadable)
		}
	}
	// A line with a CID is an entry of its own, also after a link that was cut.
	write(t, d, head+"\noops\n"+other.URL()+"\n"+head[:cut]+"\nwhat\n")
	wantDenied(t, "a cut link and a line after it", d, true, 1, 2)
	wantProblems(t, d, "lines 2 4 5", "in line 3")
}

// A line that revokes nothing, and one that holds a key, is logged once for each reading, by its
// number: its text may hold a key.
func TestMistakesInTheDenyListAreTold(t *testing.T) {
	var log bytes.Buffer
	d := New(filepath.Join(t.TempDir(), "denied"), slog.New(slog.NewTextHandler(&log, nil)))
	l := linkTo(t, 1)
	wantTold := func(want ...string) {
		t.Helper()
		wantDenied(t, "the link", d, true, 1)
		wantDenied(t, "the link, asked again", d, true, 1)
		got := regexp.MustCompile(`line=\d+`).FindAllString(log.String(), -1)
		if strings.Join(got, " ") != strings.Join(want, " ") || strings.Contains(log.String(), l.Fragment.Encode()) {
			t.Errorf("logged %q, want %v", log.String(), want)
		}
		log.Reset()
	}
	write(t, d, "zZsecret\n"+l.URL()+"\n\noops\n")
	wantTold("line=1", "line=4", "line=2")
	wantProblems(t, d, "lines 1 4", "in line 2")
	write(t, d, "oops again\n"+l.CID.String())
	wantTold("line=1")
	wantProblems(t, d, "line 1")
	write(t, d, l.CID.String()+strings.Repeat("\noops", 2*maxLogged))
	wantDenied(t, "the first line", d, true, 1)
	if got := strings.Count(log.String(), "revokes nothing"); got != maxLogged+1 || !strings.Contains(log.String(), " more=100\n") {
		t.Errorf("%d lines logged: want one for each of %d, and one with the number of the rest", got, maxLogged)
	}
	log.Reset()
	write(t, d, l.CID.String())
	wantTold()
	wantProblems(t, d)
}

// A list is read again although its size and its time are those of the list before: rsync -t, cp -p
// and tar keep times, and all CIDs are of one length.
func TestReplacedDenyListIsReadAgain(t *testing.T) {
	d := testDenyList(t)
	one, two, path := numberedCID(1).String(), numberedCID(2).String(), d.path
	old := time.Now().Add(-time.Hour)
	write := func(path, text string) {
		t.Helper()
		must.Succeed(t, os.WriteFile(path, []byte(text), 0o600))
		must.Succeed(t, os.Chtimes(path, old, old))
	}
	write(path, one)
	wantDenied(t, "one", d, true, 1)
	d.settled = true // as it is some seconds later
	write(path+".new", two)
	must.Succeed(t, os.Rename(path+".new", path))
	wantDenied(t, "two", d, true, 2)
	wantDenied(t, "one", d, false, 1)
	write(path, one) // in place, and perhaps within one step of the clock
	wantDenied(t, "one", d, true, 1)
	wantDenied(t, "two", d, false, 2)
}

func TestDenyListVectors(t *testing.T) {
	var all []vectors.DenyList
	vectors.Read(t, "denied.json", &all)
	for _, v := range all {
		d := testDenyList(t)
		must.Succeed(t, os.WriteFile(d.path, []byte(v.Text), 0o600))
		c, err := link.ParseCID(v.CID)
		must.Succeed(t, err)
		got, err := New(d.path, slog.New(slog.DiscardHandler)).Has(c)
		if err != nil || got != v.Denied {
			t.Errorf("%s: denied: %t, %v, want %t", v.Comment, got, err, v.Denied)
		}
		list, err := d.Content()
		if err != nil || !slices.Equal(list.unreadable, v.Bad) {
			t.Errorf("%s: lines that say nothing: %v, %v, want %v", v.Comment, list.unreadable, err, v.Bad)
		}
	}
}
