package upkeep

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/clock"
	"github.com/nkirchhoffer/detach-mta/internal/denied"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
)

// wantSwept sweeps, and wants the epochs, files and destroyed objects to be of these numbers.
func wantSwept(t *testing.T, v *process, o SweepOptions, epochs, files, destroyed int) Swept {
	t.Helper()
	o.Grace = week
	s, err := v.Sweep(t.Context(), o)
	must.Succeed(t, err)
	n := 0
	for _, e := range s.Ended {
		n += e.Files
	}
	if len(s.Ended) != epochs || n != files || s.Destroyed != destroyed {
		t.Errorf("swept %+v, want %d epochs, %d files, %d destroyed", s, epochs, files, destroyed)
	}
	return s
}

// An epoch is swept an hour after its end: first its key, then its objects. Other epochs stay.
func TestSweepEndsWhatIsOver(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	var ended []link.Link
	for i := range 3 {
		ended = append(ended, kept(t, v, 30*day, pattern(1000+i)))
	}
	next, forever := kept(t, v, 31*day, []byte("next")), detached(t, v, []byte("forever"))
	end := opened(t, v, ended[0].CID).Expires
	for _, at := range []time.Time{s.now, end.Add(-time.Second), end, end.Add(sweepMargin - time.Second)} {
		s.now = at
		wantSwept(t, v, SweepOptions{}, 0, 0, 0)
		wantContent(t, v, next, []byte("next"))
	}
	s.now = end.Add(sweepMargin)
	dry := wantSwept(t, v, SweepOptions{DryRun: true}, 1, 3, 0)
	if n := s.objects(t); n != 5 {
		t.Errorf("after a dry run %d objects are left, want 5", n)
	}
	var progress []string
	done := wantSwept(t, v, SweepOptions{Progress: func(done, total int) { progress = append(progress, fmt.Sprint(done, "/", total)) }}, 1, 3, 0)
	if got := fmt.Sprint(progress); got != "[1/3 2/3 3/3]" {
		t.Errorf("progress: %s", got)
	}
	if dry.Ended[0] != done.Ended[0] || done.Ended[0].Bytes != 3003 || !done.Ended[0].Key {
		t.Errorf("dry run: %+v, sweep: %+v", dry.Ended, done.Ended)
	}
	wantErr(t, "the key", s.keys.Check(done.Ended[0].Epoch), keyring.ErrDestroyed)
	if n := s.objects(t); n != 2 {
		t.Errorf("%d objects are left, want 2", n)
	}
	for _, l := range ended {
		wantAll(t, v, l, vault.ErrExpired)
		wantAll(t, s.vault(t, nil), l, vault.ErrExpired)
	}
	wantContent(t, v, next, []byte("next"))
	wantContent(t, v, forever, []byte("forever"))
	wantSwept(t, v, SweepOptions{}, 0, 0, 0)
	s.now = end.Add(day + sweepMargin)
	wantSwept(t, s.vault(t, nil), SweepOptions{}, 1, 1, 0)
	s.now = end.Add(20 * 365 * day)
	wantSwept(t, v, SweepOptions{}, 0, 0, 0)
	wantContent(t, v, forever, []byte("forever"))
}

// A sweep that is interrupted at any deletion is continued by the next one, and deletes nothing
// whose key is still there.
func TestSweepContinuesWhereItWasInterrupted(t *testing.T) {
	faults.Covers(t, 110)
	const files = 5
	boom := errors.New("no route to node")
	for stop := range files + 1 {
		for _, cancel := range []bool{false, true} {
			s := newSite(t)
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			store := &countingStore{Store: s.store, failAt: stop, fail: func() error {
				if interrupt(); cancel {
					return nil
				}
				return boom
			}}
			s.store = store
			v := s.vault(t, nil)
			for i := range files {
				kept(t, v, day, []byte(fmt.Sprint(i)))
			}
			s.now = s.now.Add(3 * day)
			first, err := v.Sweep(ctx, SweepOptions{})
			if stop < files && err == nil {
				t.Errorf("interrupted at %d: no error", stop)
			}
			if len(first.Ended) != 1 || !first.Ended[0].Key {
				t.Fatalf("interrupted at %d: swept %+v", stop, first)
			}
			store.failAt = -1
			second, err := s.vault(t, nil).Sweep(t.Context(), SweepOptions{})
			must.Succeed(t, err)
			if n := s.objects(t); n != 0 {
				t.Errorf("interrupted at %d: %d objects stay, after %+v and %+v", stop, n, first, second)
			}
			if want := files + 1; store.deleted > want {
				t.Errorf("interrupted at %d: %d deletions, want at most %d", stop, store.deleted, want)
			}
		}
	}
}

// countingStore calls fail in the deletion with the number failAt.
type countingStore struct {
	ipfs.Store
	mu      sync.Mutex
	deleted int
	failAt  int
	fail    func() error
}

func (s *countingStore) Delete(ctx context.Context, c cid.Cid) error {
	s.mu.Lock()
	n := s.deleted
	s.deleted++
	s.mu.Unlock()
	if n == s.failAt {
		if err := s.fail(); err != nil {
			return err
		}
	}
	return s.Store.Delete(ctx, c)
}

// An epoch whose key cannot be destroyed keeps its objects.
func TestNothingIsDeletedBeforeItsKey(t *testing.T) {
	faults.Covers(t, 110)
	s := newSite(t)
	v := s.vault(t, nil)
	kept(t, v, day, []byte("x"))
	s.now = s.now.Add(3 * day)
	v.keys = stuckKeyring{v.keys}
	swept, err := v.Sweep(t.Context(), SweepOptions{})
	if err == nil || !swept.None() || s.objects(t) != 1 {
		t.Errorf("swept %+v, %v, and %d objects stay", swept, err, s.objects(t))
	}
}

type stuckKeyring struct{ Keyring }

func (stuckKeyring) End(crypto.Epoch) error { return errors.New("read-only file system") }

// Several machines sweep one directory together, while mails are stored: each object is removed
// once, and none that is needed.
func TestSweepsTogether(t *testing.T) {
	faults.Covers(t, 110)
	s := newSite(t)
	v := s.vault(t, nil)
	for i := range 100 {
		kept(t, v, time.Duration(1+i%3)*day, []byte(fmt.Sprint(i)))
	}
	s.now = s.now.Add(30 * day)
	var sweeping sync.WaitGroup
	for range 4 {
		store, err := embedded.Open(filepath.Join(s.dir, "objects"), nil)
		must.Succeed(t, err)
		keys, err := keyring.Open(filepath.Join(s.dir, "keys"))
		must.Succeed(t, err)
		other := (&site{dir: s.dir, store: store, keys: keys, now: s.now}).vault(t, nil)
		sweeping.Go(func() {
			if _, err := other.Sweep(t.Context(), SweepOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	var links []link.Link
	for i := range 20 {
		links = append(links, kept(t, v, day, []byte(fmt.Sprint("new", i))))
	}
	sweeping.Wait()
	for i, l := range links {
		wantContent(t, v, l, []byte(fmt.Sprint("new", i)))
	}
	if n := s.objects(t); n != len(links) {
		t.Errorf("%d objects are left, want %d", n, len(links))
	}
	wantSwept(t, v, SweepOptions{}, 0, 0, 0)
}

// A clock that cannot be trusted stops the sweep, except for what interrupted mails left.
func TestSweepStopsWithAWrongClock(t *testing.T) {
	faults.Covers(t, 99)
	s := newSite(t)
	v := s.process(t, clock.MachineUptime, nil)
	l := kept(t, v, day, []byte("x"))
	right := s.now
	for _, jump := range []time.Duration{-25 * time.Hour, 30 * day} {
		s.now = right.Add(jump)
		for _, dry := range []bool{true, false} {
			swept, err := s.process(t, clock.MachineUptime, nil).Sweep(t.Context(), SweepOptions{DryRun: dry})
			if !errors.Is(err, clock.ErrUntrusted) || !swept.None() {
				t.Errorf("clock set by %v: swept %+v, %v", jump, swept, err)
			}
		}
	}
	s.now = right
	wantContent(t, v, l, []byte("x"))
	s.now = right.Add(30 * day)
	must.Succeed(t, v.clock.(*clock.Clock).Trust())
	wantSwept(t, v, SweepOptions{}, 1, 1, 0)
}

// Keys that were brought to a new machine with a wrong clock are not ended: without a ledger, the
// epochs in the keyring tell that it was earlier a moment ago.
func TestKeysOnANewMachineDoNotEndByItsClock(t *testing.T) {
	faults.Covers(t, 99)
	s := newSite(t)
	l := kept(t, s.vault(t, nil), 30*day, []byte("x"))
	must.Succeed(t, errors.Join(os.RemoveAll(filepath.Join(s.dir, "ledger")), os.Remove(filepath.Join(s.dir, "clock"))))
	right := s.now
	s.now = right.Add(10 * 365 * day)
	for range 2 {
		if swept, err := s.process(t, clock.MachineUptime, nil).Sweep(t.Context(), SweepOptions{}); !errors.Is(err, clock.ErrUntrusted) || !swept.None() {
			t.Errorf("swept %+v, %v", swept, err)
		}
	}
	s.now = right
	must.Succeed(t, s.process(t, clock.MachineUptime, nil).clock.(*clock.Clock).Trust())
	wantContent(t, s.process(t, clock.MachineUptime, nil), l, []byte("x"))
}

// A clock that is set while a sweep deletes files ends nothing early.
func TestClockThatIsSetDuringASweepEndsNothing(t *testing.T) {
	faults.Covers(t, 99)
	s := newSite(t)
	v := s.vault(t, nil)
	kept(t, v, day, []byte("over"))
	later, revoked := kept(t, v, 30*day, []byte("later")), detached(t, v, []byte("revoked"))
	s.now = s.now.Add(3 * day)
	must.Succeed(t, v.Revoke(entry(t, v, revoked)))
	right := s.now
	wantSwept(t, v, SweepOptions{Progress: func(int, int) { s.now = right.Add(365 * day) }}, 1, 1, 0)
	s.now = right
	must.Succeed(t, v.Undo(entry(t, v, revoked)))
	wantContent(t, v, later, []byte("later"))
	wantContent(t, v, revoked, []byte("revoked"))
}

// A file that is given back while a sweep destroys others stays.
func TestFileThatIsGivenBackDuringASweepStays(t *testing.T) {
	s, store, v := newBrokenSite(t)
	l := detached(t, v, []byte("given back"))
	back := entry(t, v, l)
	rulings := map[cid.Cid]denied.Ruling{back.CID: {Core: back.Core, Epoch: back.KID.Epoch, At: s.now}}
	for i := range destroyTogether { // they come first, and fill the first step
		hash, err := multihash.Encode(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i)), multihash.SHA2_256)
		must.Succeed(t, err)
		c := cid.NewCidV1(cid.DagProtobuf, hash)
		rulings[c] = denied.Ruling{Core: c, Epoch: back.KID.Epoch, At: s.now}
	}
	must.Succeed(t, v.denied.Append(rulings))
	s.now = s.now.Add(2 * week)
	other, deleted := s.vault(t, nil), 0
	store.deleting = func() {
		if deleted++; deleted == 1 {
			must.Succeed(t, other.Undo(back))
		}
	}
	wantSwept(t, v, SweepOptions{}, 0, 0, destroyTogether)
	wantContent(t, v, l, []byte("given back"))
}

// A revoked file is destroyed when its grace period is over; one that was given back is not.
func TestSweepDestroysWhatWasRevoked(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	revoked, undone, other := kept(t, v, 90*day, []byte("r")), kept(t, v, 90*day, []byte("u")), kept(t, v, 90*day, []byte("o"))
	found, err := v.Find(t.Context(), revoked.CID, undone.CID)
	must.Succeed(t, err)
	must.Succeed(t, v.Revoke(found...))
	wantAll(t, v, undone, vault.ErrRevoked)
	s.now = s.now.Add(week - time.Second)
	wantSwept(t, v, SweepOptions{}, 0, 0, 0)
	undo, err := v.Find(t.Context(), undone.CID)
	must.Succeed(t, err)
	must.Succeed(t, v.Undo(undo...))
	s.now = s.now.Add(time.Second)
	wantSwept(t, v, SweepOptions{DryRun: true}, 0, 0, 1)
	wantSwept(t, v, SweepOptions{}, 0, 0, 1)
	wantSwept(t, v, SweepOptions{}, 0, 0, 0)
	if _, err := s.keys.Share(found[0].KID.Epoch, found[0].Core); !errors.Is(err, keyring.ErrDestroyed) {
		t.Errorf("the share of %s: got %v", found[0].CID, err)
	}
	if n := s.objects(t); n != 2 {
		t.Errorf("%d objects are left, want 2", n)
	}
	wantContent(t, v, undone, []byte("u"))
	wantContent(t, v, other, []byte("o"))
}

// The list of an epoch is removed a year after its end, and only when its objects are.
func TestOldListsAreRemoved(t *testing.T) {
	s := newSite(t)
	store := &brokenStore{Store: s.store}
	s.store = store
	v := s.vault(t, nil)
	l := kept(t, v, day, []byte("x"))
	end := opened(t, v, l.CID).Expires
	list := filepath.Join(s.dir, "ledger", string(opened(t, v, l.CID).KID().Epoch))
	s.now = end.Add(keepList)
	store.delete = ipfs.ErrUnavailable
	if swept, err := v.Sweep(t.Context(), SweepOptions{}); err == nil || len(swept.Forgotten) > 0 {
		t.Errorf("while the store fails: swept %+v, %v", swept, err)
	}
	store.delete = nil
	s.now = end.Add(keepList - time.Second)
	wantSwept(t, v, SweepOptions{}, 1, 1, 0)
	wantAll(t, s.vault(t, nil), l, vault.ErrExpired)
	s.now = end.Add(keepList)
	if swept := wantSwept(t, v, SweepOptions{}, 0, 0, 0); len(swept.Forgotten) != 1 {
		t.Errorf("swept %+v, want one list", swept)
	}
	for _, name := range []string{list + ".jsonl", list + ".swept"} {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantErr(t, "a year later", errOf(s.vault(t, nil).Object(t.Context(), l.CID)), vault.ErrNotFound)
}

// While an object is being deleted, mails are stored and links are opened: the sweep holds nothing
// that they wait for.
func TestMailsPassWhileSweeping(t *testing.T) {
	faults.Covers(t, 110)
	s := newSite(t)
	store := &countingStore{Store: s.store, failAt: -1}
	s.store = store
	v := s.vault(t, nil)
	for range 3 {
		kept(t, v, day, []byte("x"))
	}
	s.now = s.now.Add(3 * day)
	passed := 0
	store.failAt = 1
	store.fail = func() error {
		for _, v := range []*process{v, s.vault(t, nil)} {
			wantContent(t, v, kept(t, v, day, []byte("meanwhile")), []byte("meanwhile"))
			passed++
		}
		return nil
	}
	wantSwept(t, v, SweepOptions{}, 1, 3, 0)
	if passed != 2 {
		t.Errorf("%d mails passed, want 2", passed)
	}
}

// TestSweepLoad measures how much longer a mail waits while DETACH_TEST_SWEEP objects are swept.
func TestSweepLoad(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("DETACH_TEST_SWEEP"))
	if err != nil {
		t.Skip("DETACH_TEST_SWEEP is not a number of objects")
	}
	s := newSite(t)
	v := s.vault(t, nil)
	fill(t, s, v, n)
	ended := s.now.Add(3 * day)
	quiet := mailTimes(t, v, func(done int) bool { return done < n/2 }) // about as many as beside the sweep
	s.now = ended
	var sweeping atomic.Bool
	sweeping.Store(true)
	began := time.Now()
	go func() {
		defer sweeping.Store(false)
		swept, err := v.Sweep(context.Background(), SweepOptions{})
		t.Logf("swept %+v, %v in %v", swept.Ended, err, time.Since(began))
	}()
	busy := mailTimes(t, v, func(int) bool { return sweeping.Load() })
	for _, share := range []float64{.5, .9, .99, .999, .9999, 1} {
		q, b := quantile(quiet, share), quantile(busy, share)
		t.Logf("%g %% of mails take at most %v alone (%d mails), %v beside the sweep (%d mails): %v more", 100*share, q, len(quiet), b, len(busy), b-q)
	}
}

func quantile(sorted []time.Duration, share float64) time.Duration {
	return sorted[int(share*float64(len(sorted)-1))]
}

// mailTimes stores mails with 100 KB each, and returns how long each took, sorted.
func mailTimes(t *testing.T, v *process, more func(done int) bool) (times []time.Duration) {
	body := pattern(100 << 10)
	for more(len(times)) {
		began := time.Now()
		kept(t, v, 90*day, body)
		times = append(times, time.Since(began))
		time.Sleep(5 * time.Millisecond)
	}
	slices.Sort(times)
	return times
}

// fill gives an epoch n objects: files of a kilobyte under names of their own, with their lines.
func fill(t *testing.T, s *site, v *process, n int) {
	t.Helper()
	e := found(t, v, kept(t, v, day, []byte("x")))
	body := pattern(1 << 10)
	var list []ledger.Entry
	for i := range n {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
		mh, err := multihash.Encode(sum[:], multihash.SHA2_256)
		must.Succeed(t, err)
		e.CID = cid.NewCidV1(cid.DagProtobuf, mh)
		e.Core = e.CID
		list = append(list, e)
		must.Succeed(t, os.WriteFile(filepath.Join(s.dir, "objects", e.CID.String()+".car"), body, 0o600))
	}
	must.Succeed(t, v.ledger.Append(list...))
}

// Marks that were copied from another machine take effect in the key files at the next sweep.
func TestSweepAppliesMarks(t *testing.T) {
	s, v := newVault(t)
	l, neighbor := kept(t, v, day, []byte("x")), kept(t, v, day, []byte("y"))
	o := opened(t, v, l.CID)
	keyFile := filepath.Join(s.dir, "keys", string(o.KID().Epoch)+".key")
	before, err := os.Stat(keyFile)
	must.Succeed(t, err)
	marks := filepath.Join(s.dir, "keys", "destroyed", string(o.KID().Epoch))
	must.Succeed(t, os.MkdirAll(marks, 0o700))
	must.Succeed(t, os.WriteFile(filepath.Join(marks, o.Core().String()), nil, 0o600))
	wantSwept(t, v, SweepOptions{}, 0, 0, 0)
	after, err := os.Stat(keyFile)
	must.Succeed(t, err)
	if os.SameFile(before, after) {
		t.Error("the key file is not written anew")
	}
	wantContent(t, v, neighbor, []byte("y"))
}
