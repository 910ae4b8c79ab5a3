package vault

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func (s *site) deny(t *testing.T, text string) {
	t.Helper()
	must.Succeed(t, os.WriteFile(filepath.Join(s.dir, "denied"), []byte(text), 0o600))
}

// An entry of the deny list takes effect immediately, and its removal too.
func TestDenyListTakesEffectImmediately(t *testing.T) {
	s, v := newVault(t)
	one, two := detached(t, v, []byte("one")), detached(t, v, []byte("two"))
	s.deny(t, "# revoked\n\n  "+one.CID.String()+"  # sent by mistake\r\n")
	wantAll(t, v, one, ErrRevoked)
	wantAll(t, v, two, nil)
	s.deny(t, "oops\n"+two.CID.String())
	wantAll(t, v, two, ErrRevoked)
	wantAll(t, v, one, nil)
	wantAll(t, s.vault(t, nil), two, ErrRevoked) // a mistake keeps no process from starting
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "denied")))
	wantAll(t, v, two, nil)
}

// People paste links into the deny list as they got them.
func TestDenyListTakesWhatPeoplePaste(t *testing.T) {
	s, v := newVault(t)
	l, other := detached(t, v, []byte("revoked")), detached(t, v, []byte("other"))
	c, url := l.CID.String(), l.URL()
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
		s.deny(t, "# list\n"+text+"\n\n# end\n")
		wantErr(t, name, errOf(v.Object(t.Context(), l.CID)), ErrRevoked)
		wantErr(t, name+": the other", errOf(v.Object(t.Context(), other.CID)), nil)
		if list, _ := v.denied.current(); len(list.unreadable) > 0 {
			t.Errorf("%s: lines %v count as unreadable", name, list.unreadable)
		}
	}
	// A line with a CID is an entry of its own, also after a link that was cut.
	s.deny(t, head+"\noops\n"+other.URL()+"\n"+head[:cut]+"\nwhat\n")
	wantAll(t, v, l, ErrRevoked)
	wantAll(t, v, other, ErrRevoked)
	wantProblems(t, v, "lines 2 4 5", "in line 3")
}

// A line that revokes nothing, and one that holds a key, is logged once for each reading, by its
// number: its text may hold a key.
func TestMistakesInTheDenyListAreTold(t *testing.T) {
	s := newSite(t)
	var log bytes.Buffer
	v := s.vault(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	l := detached(t, v, []byte("x"))
	wantTold := func(want ...string) {
		t.Helper()
		wantAll(t, v, l, ErrRevoked)
		wantAll(t, v, l, ErrRevoked)
		got := regexp.MustCompile(`line=\d+`).FindAllString(log.String(), -1)
		if strings.Join(got, " ") != strings.Join(want, " ") || strings.Contains(log.String(), l.Fragment.Encode()) {
			t.Errorf("logged %q, want %v", log.String(), want)
		}
		log.Reset()
	}
	s.deny(t, "zZsecret\n"+l.URL()+"\n\noops\n")
	wantTold("line=1", "line=4", "line=2")
	wantProblems(t, v, "lines 1 4", "in line 2")
	s.deny(t, "oops again\n"+l.CID.String())
	wantTold("line=1")
	wantProblems(t, v, "line 1")
	s.deny(t, l.CID.String()+strings.Repeat("\noops", 2*maxLogged))
	wantAll(t, v, l, ErrRevoked)
	if got := strings.Count(log.String(), "revokes nothing"); got != maxLogged+1 || !strings.Contains(log.String(), " more=100\n") {
		t.Errorf("%d lines logged: want one for each of %d, and one with the number of the rest", got, maxLogged)
	}
	log.Reset()
	s.deny(t, l.CID.String())
	wantTold()
	wantProblems(t, v)
}

// A list is read again although its size and its time are those of the list before: rsync -t, cp -p
// and tar keep times, and all CIDs are of one length.
func TestReplacedDenyListIsReadAgain(t *testing.T) {
	s, v := newVault(t)
	one, two := detached(t, v, []byte("one")), detached(t, v, []byte("two"))
	path := filepath.Join(s.dir, "denied")
	old := time.Now().Add(-time.Hour)
	write := func(path, text string) {
		t.Helper()
		must.Succeed(t, os.WriteFile(path, []byte(text), 0o600))
		must.Succeed(t, os.Chtimes(path, old, old))
	}
	write(path, one.CID.String())
	wantAll(t, v, one, ErrRevoked)
	v.denied.settled = true // as it is some seconds later
	write(path+".new", two.CID.String())
	must.Succeed(t, os.Rename(path+".new", path))
	wantAll(t, v, two, ErrRevoked)
	wantAll(t, v, one, nil)
	write(path, one.CID.String()) // in place, and perhaps within one step of the clock
	wantAll(t, v, one, ErrRevoked)
	wantAll(t, v, two, nil)
}

// While the list cannot be read nothing is served, for everything may be in it. Mail goes on.
func TestUnreadableDenyListStopsDownloadsOnly(t *testing.T) {
	s := newSite(t)
	var log bytes.Buffer
	v := s.vault(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	l := detached(t, v, []byte("x"))
	must.Succeed(t, os.Mkdir(filepath.Join(s.dir, "denied"), 0o700))
	for _, v := range []*Vault{v, s.vault(t, nil)} {
		for name, route := range routes(v, l) {
			if err := route(t.Context()); err == nil {
				t.Errorf("%s: served although the deny list cannot be read", name)
			}
		}
		wantProblems(t, v, "cannot read the deny list")
		must.Succeed(t, v.CanStore())
		b := v.Begin(0)
		got, err := b.Open(t.Context(), detach(t, b, []byte("mail")))
		must.Succeed(t, err)
		must.Succeed(t, got.Close())
		must.Succeed(t, b.Commit(t.Context()))
		must.Succeed(t, b.Discard(t.Context()))
		must.Succeed(t, b.Close())
	}
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "denied")))
	wantAll(t, v, l, nil)
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("logged %d errors, want 1: %s", n, &log)
	}
}

// A symbolic link that leads nowhere is a list that cannot be read: it may lead to a file system that
// is not mounted.
func TestDenyListBehindADanglingSymlinkIsUnreadable(t *testing.T) {
	s, v := newVault(t)
	l := detached(t, v, []byte("x"))
	path, target := filepath.Join(s.dir, "denied"), filepath.Join(t.TempDir(), "denied")
	must.Succeed(t, os.Symlink(target, path))
	if err := errOf(v.Object(t.Context(), l.CID)); err == nil {
		t.Error("served although the deny list cannot be read")
	}
	wantProblems(t, v, "cannot read the deny list")
	must.Succeed(t, os.WriteFile(target, nil, 0o600))
	wantAll(t, v, l, nil)
}
