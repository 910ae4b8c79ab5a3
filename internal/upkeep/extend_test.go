package upkeep

import (
	"cmp"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

func found(t *testing.T, v *process, l link.Link) ledger.Entry {
	t.Helper()
	entries, err := v.Find(t.Context(), l.CID)
	must.Succeed(t, err)
	if len(entries) != 1 {
		t.Fatalf("found %+v, want one entry", entries)
	}
	return entries[0]
}

// extended extends a file from now on.
func extended(t *testing.T, s *site, v *process, l link.Link, by time.Duration) Extended {
	t.Helper()
	x, err := v.Extend(t.Context(), found(t, v, l), crypto.PeriodOf(s.now, by))
	must.Succeed(t, err)
	return x
}

// An extended file outlives its epoch and is gone with the new one; its neighbors end on their day.
// It may be extended again.
func TestExtendedFileOutlivesItsEpoch(t *testing.T) {
	for _, mode := range []vault.Mode{vault.Split, vault.LinkOnly} {
		for _, list := range []bool{true, false} { // the ledger may be lost
			s := newSite(t)
			v := s.vault(t, func(c *vault.Config) { c.Mode = mode })
			l, neighbor := kept(t, v, 10*day, []byte("x")), kept(t, v, 10*day, []byte("y"))
			first, own := opened(t, v, l.CID).Expires, opened(t, v, l.CID).KID().Epoch
			for _, by := range []time.Duration{30 * day, 60 * day} {
				x := extended(t, s, v, l, by)
				if want := crypto.PeriodOf(s.now, by).End(); x.CID != l.CID || !x.To.Equal(want) {
					t.Errorf("extended by %v: got %+v, want %v", by, x, want)
				}
			}
			end := opened(t, v, l.CID).Expires
			s.now = first.Add(sweepMargin)
			wantSwept(t, v, SweepOptions{}, 1, 1, 0)
			wantAll(t, v, neighbor, vault.ErrExpired)
			if !list {
				must.Succeed(t, os.RemoveAll(filepath.Join(s.dir, "ledger")))
			}
			other := s.vault(t, nil)
			wantContent(t, other, l, []byte("x"))
			if got := opened(t, other, l.CID).Expires; !got.Equal(end) {
				t.Errorf("it expires at %v, want %v", got, end)
			}
			s.now = end.Add(-time.Second)
			_, err := v.Sweep(t.Context(), SweepOptions{})
			must.Succeed(t, err)
			wantContent(t, other, l, []byte("x"))
			s.now = end.Add(sweepMargin)
			_, err = v.Sweep(t.Context(), SweepOptions{})
			must.Succeed(t, err)
			wantErr(t, "after its end", errOf(other.Open(t.Context(), l.CID, l.Fragment)), vault.ErrExpired)
			if n := s.objects(t); list && n != 0 {
				t.Errorf("%d objects are left, want none", n)
			}
			if _, _, _, err := s.keys.Extension(l.CID, found0(t, l, v), own); !errors.Is(err, keyring.ErrNoExtension) {
				t.Errorf("its record: %v", err)
			}
		}
	}
}

// A file whose later key file is missing or damaged stays when its own epoch ends: the key file may
// come back. If the later epoch was destroyed, nothing opens the file.
func TestSweepKeepsAnExtendedFileWithoutItsKeyFile(t *testing.T) {
	for what, lose := range map[string]struct {
		key  func(path string, s *site, e crypto.Epoch) error
		left int
	}{
		"missing": {func(path string, _ *site, _ crypto.Epoch) error { return os.Remove(path) }, 1},
		"damaged": {func(path string, _ *site, _ crypto.Epoch) error { return os.Truncate(path, 20) }, 1},
		"ended":   {func(_ string, s *site, e crypto.Epoch) error { return s.keys.End(e) }, 0},
	} {
		t.Run(what, func(t *testing.T) {
			s, v := newVault(t)
			l := kept(t, v, 10*day, []byte("x"))
			first := opened(t, v, l.CID).Expires
			extended(t, s, v, l, 30*day)
			later := found(t, v, l).Epoch
			file, err := os.ReadFile(s.keyFile(later))
			must.Succeed(t, err)
			must.Succeed(t, lose.key(s.keyFile(later), s, later))
			s.now = first.Add(sweepMargin)
			wantSwept(t, v, SweepOptions{}, 1, 1-lose.left, 0)
			if n := s.objects(t); n != lose.left {
				t.Fatalf("%d objects are left, want %d", n, lose.left)
			}
			if lose.left > 0 {
				must.Succeed(t, os.WriteFile(s.keyFile(later), file, 0o600))
				wantContent(t, s.vault(t, nil), l, []byte("x"))
			}
		})
	}
}

// A running download of an extended file breaks off when the mark of its own epoch comes from another
// machine, which knows nothing of the extension. The end of that epoch does not break it off.
func TestMarkFromElsewhereBreaksOffAnExtendedFile(t *testing.T) {
	for what, c := range map[string]struct {
		mark string
		want error
	}{"the file": {"", vault.ErrExpired}, "its first epoch": {"all", nil}} {
		s := newSite(t)
		synctest.Test(t, func(t *testing.T) {
			v := s.vault(t, nil)
			l := kept(t, v, 10*day, pattern(2<<20))
			extended(t, s, v, l, 30*day)
			file, err := v.Open(t.Context(), l.CID, l.Fragment)
			must.Succeed(t, err)
			defer file.Close()
			e := found(t, v, l)
			marks := filepath.Join(s.dir, "keys", "destroyed", string(e.KID.Epoch))
			must.Succeed(t, os.MkdirAll(marks, 0o700))
			must.Succeed(t, os.WriteFile(filepath.Join(marks, cmp.Or(c.mark, e.Core.String())), nil, 0o600))
			time.Sleep(time.Second) // how often a download is watched
			wantErr(t, what, errOf(io.ReadFull(file, make([]byte, 10))), c.want)
		})
	}
}

// found0 returns the core of an object, which may be gone from the ledger and the store.
func found0(t *testing.T, l link.Link, v *process) cid.Cid {
	t.Helper()
	entries, _ := v.Find(t.Context(), l.CID)
	if len(entries) == 0 {
		return l.CID
	}
	return entries[0].Core
}

// A file that is not served, or that ends late enough, is not extended.
func TestWhatCannotBeExtended(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	revoked, ended, forever, late := kept(t, v, 90*day, []byte("r")), kept(t, v, day, []byte("e")), detached(t, v, []byte("f")), kept(t, v, 90*day, []byte("l"))
	must.Succeed(t, v.Revoke(found(t, v, revoked)))
	entry := found(t, v, ended)
	s.now = s.now.Add(3 * day)
	far, near := crypto.PeriodOf(s.now, 365*day), crypto.PeriodOf(s.now, day)
	for name, test := range map[string]struct {
		entry ledger.Entry
		p     crypto.Period
		want  error
	}{
		"revoked":  {found(t, v, revoked), far, vault.ErrRevoked},
		"ended":    {entry, far, vault.ErrExpired},
		"no end":   {found(t, v, forever), far, ErrEndless},
		"earlier":  {found(t, v, late), near, ErrNotLater},
		"same day": {found(t, v, late), opened(t, v, late.CID).KID().Epoch.Period(), ErrNotLater},
	} {
		_, err := v.Extend(t.Context(), test.entry, test.p)
		wantErr(t, name, err, test.want)
	}
	must.Succeed(t, v.Destroy(t.Context(), found(t, v, late)))
	if _, err := v.Extend(t.Context(), entry, far); err == nil {
		t.Error("a destroyed file was extended")
	}
	if records, _ := filepath.Glob(filepath.Join(s.dir, "keys", "extended", "*", "*")); len(records) > 0 {
		t.Errorf("records of extensions: %v", records)
	}
}

// Destroying an extended file destroys it under every epoch that it was extended into, also when
// its own epoch has ended.
func TestExtendedFileIsDestroyed(t *testing.T) {
	for _, ended := range []bool{false, true} {
		s := newSite(t)
		v := s.vault(t, nil)
		l, neighbor := kept(t, v, 10*day, []byte("x")), kept(t, v, 10*day, []byte("y"))
		core, own, first := opened(t, v, l.CID).Core(), opened(t, v, l.CID).KID().Epoch, opened(t, v, l.CID).Expires
		for _, one := range []link.Link{l, neighbor} {
			extended(t, s, v, one, 30*day)
			extended(t, s, v, one, 60*day)
		}
		if ended {
			s.now = first.Add(sweepMargin)
			wantSwept(t, v, SweepOptions{}, 1, 0, 0)
		}
		must.Succeed(t, v.Revoke(found(t, v, l)))
		wantAll(t, v, l, vault.ErrRevoked)
		s.now = s.now.Add(week)
		wantSwept(t, v, SweepOptions{}, 0, 0, 1)
		wantSwept(t, v, SweepOptions{}, 0, 0, 0)
		if _, _, _, err := s.keys.Extension(l.CID, core, own); !errors.Is(err, keyring.ErrNoExtension) {
			t.Errorf("its record: %v", err)
		}
		if n := s.objects(t); n != 1 {
			t.Errorf("%d objects are left, want that of the neighbor", n)
		}
		must.Succeed(t, os.Remove(filepath.Join(s.dir, "denied")))
		if got := errOf(s.vault(t, nil).Object(t.Context(), l.CID)); !errors.Is(got, vault.ErrExpired) && !errors.Is(got, vault.ErrNotFound) {
			t.Errorf("without the deny list: %v", got)
		}
		wantContent(t, v, neighbor, []byte("y"))
	}
}

// An epoch is extended as a whole, except for what is not served.
func TestEpochIsExtended(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	links := []link.Link{kept(t, v, 10*day, []byte("0")), kept(t, v, 10*day, []byte("1")), kept(t, v, 10*day, []byte("2"))}
	must.Succeed(t, v.Revoke(found(t, v, links[1])))
	epoch := opened(t, v, links[0].CID).KID().Epoch
	results := make(map[cid.Cid]error)
	must.Succeed(t, v.ExtendEpoch(t.Context(), epoch, crypto.PeriodOf(s.now, 30*day), func(c cid.Cid, _ Extended, err error) { results[c] = err }))
	for i, want := range []error{nil, vault.ErrRevoked, nil} {
		got, ok := results[links[i].CID]
		if !ok || !errors.Is(got, want) {
			t.Errorf("file %d: got %v, %v, want %v", i, got, ok, want)
		}
	}
	s.now = epoch.End().Add(sweepMargin)
	wantSwept(t, v, SweepOptions{}, 1, 1, 0) // its key is destroyed with the epoch's
	wantContent(t, v, links[0], []byte("0"))
	wantContent(t, v, links[2], []byte("2"))
}
