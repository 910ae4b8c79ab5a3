package upkeep

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/clock"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

const week = 7 * 24 * time.Hour

// entry returns the entry of a link's object.
func entry(t *testing.T, v *process, l link.Link) ledger.Entry {
	t.Helper()
	found, err := v.Find(t.Context(), l.CID)
	if err != nil || len(found) != 1 {
		t.Fatalf("found %+v, %v", found, err)
	}
	return found[0]
}

func wantState(t *testing.T, v *process, e ledger.Entry, want State) Status {
	t.Helper()
	all, err := v.Statuses()
	must.Succeed(t, err)
	got, err := all.Of(e)
	if err != nil || got.State != want {
		t.Errorf("state: got %+v, %v; want %s", got, err, want)
	}
	return got
}

func wantDue(t *testing.T, v *process, want ...ledger.Entry) {
	t.Helper()
	due, err := v.Due(week)
	must.Succeed(t, err)
	same := slices.EqualFunc(due, want, func(a, b ledger.Entry) bool {
		return a.CID == b.CID && a.Core == b.Core && a.KID.Epoch == b.KID.Epoch
	})
	if !same {
		t.Errorf("due: got %+v, want %+v", due, want)
	}
}

// A file that is revoked while the clock is years behind has its whole grace period.
func TestGracePeriodDoesNotBeginInThePast(t *testing.T) {
	s := newSite(t)
	l := kept(t, s.process(t, clock.MachineUptime, nil), 90*day, []byte("x"))
	right := s.now
	s.now = time.Unix(0, 0)
	booted := s.process(t, clock.MachineUptime, nil)
	e := entry(t, booted, l)
	must.Succeed(t, booted.Revoke(e))
	s.now = right.Add(week - time.Hour)
	v := s.process(t, clock.MachineUptime, nil)
	wantDue(t, v)
	must.Succeed(t, v.Undo(e))
	wantContent(t, v, l, []byte("x"))
}

// Files of an epoch whose key file is damaged can be revoked and destroyed, and so can those of other
// epochs.
func TestDamagedKeyFileStopsNoDestruction(t *testing.T) {
	s, v := newVault(t)
	damaged, other := kept(t, v, 90*day, []byte("a")), kept(t, v, 91*day, []byte("b"))
	first, second := entry(t, v, damaged), entry(t, v, other)
	must.Succeed(t, os.Truncate(s.keyFile(first.KID.Epoch), 20))
	wantState(t, v, first, StateServed)
	must.Succeed(t, v.Revoke(first, second))
	wantState(t, v, first, StateRevoked)
	s.now = s.now.Add(2 * week)
	swept, err := v.Sweep(t.Context(), SweepOptions{Grace: week})
	wantErr(t, "the sweep", err, keyring.ErrDamaged)
	must.Succeed(t, os.RemoveAll(filepath.Join(s.dir, "keys", "destroyed", string(second.KID.Epoch))))
	wantErr(t, "the share in the other key file", errOf(s.keys.Share(second.KID.Epoch, second.Core)), keyring.ErrDestroyed)
	s.wantNothing(t, "swept "+fmt.Sprint(swept))
}

// A revoked file can be given back during the grace period. After it, it is destroyed for good, and
// the files beside it open.
func TestRevokedFileComesBackUntilItIsDestroyed(t *testing.T) {
	faults.Covers(t, 90)
	s, v := newVault(t)
	l, neighbour := detached(t, v, []byte("revoked")), detached(t, v, []byte("neighbour"))
	other := s.vault(t, nil) // another process
	e := entry(t, v, l)
	wantState(t, v, e, StateServed)
	must.Succeed(t, v.Revoke(e))
	since := wantState(t, v, e, StateRevoked).Revoked
	if !since.Equal(s.now) {
		t.Errorf("revoked since %v, want %v", since, s.now)
	}
	wantAll(t, v, l, vault.ErrRevoked)
	wantAll(t, other, l, vault.ErrRevoked)
	must.Succeed(t, v.Undo(e))
	wantAll(t, other, l, nil)
	wantState(t, v, e, StateServed)

	must.Succeed(t, v.Revoke(e))
	s.now = s.now.Add(week - time.Hour)
	must.Succeed(t, other.Revoke(e)) // again: the time of the first one counts
	wantDue(t, v)
	s.now = s.now.Add(2 * time.Hour)
	wantDue(t, other, e)
	must.Succeed(t, v.Undo(e))
	wantDue(t, other)
	must.Succeed(t, v.Revoke(e))
	must.Succeed(t, v.Destroy(t.Context(), e))
	s.now = s.now.Add(2 * week)
	wantDue(t, v)
	wantState(t, other, e, StateDestroyed)
	must.Succeed(t, v.Undo(e))
	wantState(t, v, e, StateDestroyed)
	for _, v := range []*process{v, other} {
		if _, err := content(t, v, l); err == nil {
			t.Error("a destroyed file opens")
		}
		wantContent(t, v, neighbour, []byte("neighbour"))
	}
	if n, left := s.objects(t), entries(t, s); n != 1 || len(left) != 0 {
		t.Errorf("%d objects and records %v stay, want the neighbour alone", n, left)
	}
}

// The key goes first. An object that the store cannot delete is deleted later.
func TestDestroyingNeedsNoStore(t *testing.T) {
	faults.Covers(t, 90)
	s, store, v := newBrokenSite(t)
	l := detached(t, v, []byte("x"))
	e := entry(t, v, l)
	store.delete = ipfs.ErrUnavailable
	wantErr(t, "Destroy", v.Destroy(t.Context(), e), vault.ErrUnavailable)
	wantState(t, v, e, StateDestroyed)
	if gone, err := v.Recover(t.Context()); err == nil || len(gone) != 0 {
		t.Errorf("recovered %v, %v although the store is down", gone, err)
	}
	store.delete = nil
	recovered(t, v, 1)
	s.wantNothing(t, "recovered")
}

// An object whose key could not be destroyed is not deleted.
func TestObjectStaysUntilItsKeyIsDestroyed(t *testing.T) {
	s, v := newVault(t)
	l := detached(t, v, []byte("x"))
	e := entry(t, v, l)
	must.Succeed(t, os.WriteFile(filepath.Join(s.dir, "keys", "destroyed"), nil, 0o600)) // no directory
	if err := v.Destroy(t.Context(), e); err == nil {
		t.Error("no error")
	}
	recovered(t, v, 0)
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "keys", "destroyed")))
	wantContent(t, v, l, []byte("x"))
}

// A process that is killed after it noted what it will destroy, and before it has, destroyed nothing:
// the file can still be given back. Once the key is destroyed, Recover deletes the object.
func TestKilledWhileDestroying(t *testing.T) {
	faults.Covers(t, 109)
	const month = 30 * day
	for _, c := range []struct {
		name     string
		extended bool // and the file's own epoch has ended since
		marked   bool
	}{{"before the mark", false, false}, {"after the mark", false, true}, {"an extended file, before", true, false}, {"an extended file, after", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			v := s.vault(t, nil)
			l := kept(t, v, month, []byte("x"))
			if end := opened(t, v, l.CID).Expires; c.extended {
				extended(t, s, v, l, 3*month)
				s.now = end.Add(sweepMargin)
				wantSwept(t, v, SweepOptions{}, 1, 0, 0)
			}
			e := entry(t, v, l)
			must.Succeed(t, v.Revoke(e))
			killedDuring(t, s, v, e, func() {
				if c.marked {
					_, err := v.destroyKeys([]ledger.Entry{e})
					must.Succeed(t, err)
				}
			})
			must.Succeed(t, v.Undo(e))
			if c.marked {
				recovered(t, v, 1)
				s.wantNothing(t, "destroyed")
				return
			}
			recovered(t, v, 0)
			wantContent(t, v, l, []byte("x"))
			if left := entries(t, s); len(left) > 0 {
				t.Errorf("records left: %v", left)
			}
		})
	}
}

// killedDuring begins to destroy an object as a process does that is killed when it has called
// destroy: its record stays.
func killedDuring(t *testing.T, s *site, v *process, e ledger.Entry, destroy func()) {
	t.Helper()
	record := filepath.Join(s.dir, "record")
	err := v.Delete(t.Context(), []ledger.Entry{e}, func() ([]ledger.Entry, error) {
		destroy()
		must.Succeed(t, os.Link(entries(t, s)[0], record)) // a copy would not count
		return nil, nil
	})
	must.Succeed(t, err)
	must.Succeed(t, os.Rename(record, filepath.Join(s.dir, "pending", "batch-killed")))
}

// A file is found by its CID alone, also without the ledger. Objects of others are not.
func TestObjectsAreFoundWithoutTheLedger(t *testing.T) {
	s, v := newVault(t)
	l := detached(t, v, []byte("ours"))
	want := entry(t, v, l)
	elsewhere := newSite(t)
	elsewhere.store = s.store
	foreign := detached(t, elsewhere.vault(t, nil), []byte("theirs"))

	must.Succeed(t, os.RemoveAll(filepath.Join(s.dir, "ledger")))
	v = s.vault(t, nil)
	found, err := v.Find(t.Context(), foreign.CID, l.CID, unknownCID(t, 1), l.CID)
	if len(found) != 1 || found[0].CID != want.CID || found[0].Core != want.Core || found[0].KID != want.KID || found[0].Epoch != want.Epoch || found[0].Size != want.Size {
		t.Errorf("found %+v, want %+v", found, want)
	}
	if !errors.Is(err, vault.ErrNotFound) || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("got %v, want an error for each of the others", err)
	}
	if _, err := v.FindMails(t.Context(), l.CID); err == nil {
		t.Error("the mail of an object is found without the ledger")
	}
	must.Succeed(t, v.Revoke(found...))
	wantAll(t, v, l, vault.ErrRevoked)
	// Now the deny list knows the object, so that neither ledger nor store are needed to give it back.
	must.Succeed(t, s.store.Delete(t.Context(), l.CID))
	again := entry(t, v, l)
	must.Succeed(t, v.Undo(again))
	wantState(t, v, again, StateServed)
}

// The objects of a mail are those of one batch.
func TestMailIsFoundByOneOfItsObjects(t *testing.T) {
	_, v := newVault(t)
	b := v.Begin(0)
	one, two := detach(t, b, []byte("one")), detach(t, b, []byte("two"))
	must.Succeed(t, b.Commit(t.Context()))
	detached(t, v, []byte("of another mail"))
	found, err := v.FindMails(t.Context(), two.CID)
	must.Succeed(t, err)
	if len(found) != 2 || found[0].CID != one.CID || found[1].CID != two.CID {
		t.Errorf("found %+v, want the two of the mail", found)
	}
}

// A crash in the middle of a command leaves a part of a ruling, which denies. The command that is given
// again takes its place.
func TestCommandIsGivenAgainAfterACrash(t *testing.T) {
	for _, undo := range []bool{true, false} {
		s, v := newVault(t)
		l := detached(t, v, []byte("x"))
		e := entry(t, v, l)
		path := filepath.Join(s.dir, "denied")
		must.Succeed(t, v.Revoke(e))
		if undo {
			must.Succeed(t, v.Undo(e))
		}
		text, err := os.ReadFile(path)
		must.Succeed(t, err)
		must.Succeed(t, os.Truncate(path, int64(len(text)-20)))
		wantAll(t, v, l, vault.ErrRevoked)
		wantProblems(t, v, "cut short")
		if undo {
			must.Succeed(t, v.Undo(e))
			wantContent(t, v, l, []byte("x"))
		} else {
			must.Succeed(t, v.Revoke(e))
			wantAll(t, v, l, vault.ErrRevoked)
			s.now = s.now.Add(week)
			wantDue(t, v, e)
		}
		wantProblems(t, v)
	}
}

// A line that an operator wrote denies until it is taken out, and nothing is destroyed for it.
func TestOperatorsLineIsNeverDue(t *testing.T) {
	s, v := newVault(t)
	l := detached(t, v, []byte("x"))
	must.Succeed(t, os.WriteFile(filepath.Join(s.dir, "denied"), []byte("# list\n"+l.URL()+"\n"), 0o600))
	e := entry(t, v, l)
	if got := wantState(t, v, e, StateRevoked); !slices.Equal(got.Lines, []int{2}) || !got.Revoked.IsZero() {
		t.Errorf("got %+v", got)
	}
	s.now = s.now.Add(52 * week)
	wantDue(t, v)
	must.Succeed(t, v.Undo(e))
	wantAll(t, v, l, vault.ErrRevoked)
	must.Succeed(t, v.Revoke(e)) // which can be due
	s.now = s.now.Add(week)
	wantDue(t, v, e)
}

func TestStatesOfObjects(t *testing.T) {
	s, v := newVault(t)
	ended, gone := kept(t, v, 24*time.Hour, []byte("ended")), v.Begin(0)
	served := detached(t, v, []byte("served"))
	deleted := detach(t, gone, []byte("gone"))
	must.Succeed(t, gone.Commit(t.Context()))
	must.Succeed(t, gone.Discard(t.Context()))
	s.now = s.now.Add(week)
	got := make(map[string]State)
	all, err := v.Statuses()
	must.Succeed(t, err)
	must.Succeed(t, v.ledger.(*ledger.Ledger).AllWithGone(func(e ledger.Entry) error {
		status, err := all.Of(e)
		got[e.CID.String()] = status.State
		return err
	}))
	for l, want := range map[link.Link]State{ended: StateEnded, served: StateServed, deleted: StateGone} {
		if got[l.CID.String()] != want {
			t.Errorf("got %q, want %q", got[l.CID.String()], want)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d objects, want 3", len(got))
	}
}

// No line that detach writes has a key in it.
func TestRulingHoldsNoKey(t *testing.T) {
	s, v := newVault(t)
	l := detached(t, v, []byte("x"))
	must.Succeed(t, v.Revoke(entry(t, v, l)))
	text, err := os.ReadFile(filepath.Join(s.dir, "denied"))
	must.Succeed(t, err)
	if !bytes.HasPrefix(text, []byte(l.CID.String()+" ")) || bytes.Contains(text, []byte(l.Fragment.Encode())) || bytes.Count(text, []byte("\n")) != 1 {
		t.Errorf("got %q", text)
	}
	wantProblems(t, v)
}

// A store may take long to open an object. What was taken back meanwhile is not given out.
func TestRevokedWhileTheStoreOpensIt(t *testing.T) {
	faults.Covers(t, 90)
	for _, listed := range []bool{true, false} {
		s, store, v := newBrokenSite(t)
		l := detached(t, v, []byte("x"))
		e := entry(t, v, l)
		if !listed {
			must.Succeed(t, os.RemoveAll(filepath.Join(s.dir, "ledger")))
			v = s.vault(t, nil)
		}
		other := s.vault(t, nil)
		store.opening = func() { must.Succeed(t, other.Revoke(e)) }
		wantErr(t, "revoked meanwhile", errOf(v.Object(t.Context(), l.CID)), vault.ErrRevoked)
	}
}
