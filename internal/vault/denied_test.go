package vault

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
