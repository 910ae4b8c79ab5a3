package keyring

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// machine is one of several with a keyring each.
type machine struct {
	*Keyring
	epoch crypto.Epoch // the machine's own
}

// A and B have an epoch each and one in common, since B was cloned from A. Each has destroyed
// something in each, and ended an epoch. Merged by cp in any order, a keyring serves both machines'
// files and nothing that either has destroyed.
func TestKeyringsAreMergedByCopying(t *testing.T) {
	faults.Covers(t, 109)
	s := makeMergeScene(t)
	var results []map[string]string
	for _, order := range [][2]machine{{s.a, s.b}, {s.b, s.a}} {
		dir := t.TempDir()
		must.Succeed(t, os.Chmod(dir, 0o700))
		copyKeyring(t, dir, order[0].dir)
		running, err := Open(dir)
		must.Succeed(t, err)
		copyKeyring(t, dir, order[1].dir)
		s.check(t, running) // a process that was open while cp ran
		merged, err := Open(dir)
		must.Succeed(t, err)
		s.check(t, merged)
		s.check(t, running)
		results = append(results, contents(t, dir))
	}
	if !maps.Equal(results[0], results[1]) {
		t.Error("the order of copying makes a difference")
	}
	for name := range results[0] {
		if name[0] == '.' {
			t.Errorf("%s stays", name)
		}
	}
}

// mergeScene is what TestKeyringsAreMergedByCopying merges.
type mergeScene struct {
	a, b       machine
	old, ended crypto.Epoch // of both machines
	want       map[crypto.Epoch]crypto.Share
}

func makeMergeScene(t *testing.T) mergeScene {
	t.Helper()
	common, old := newTestKeyring(t)
	ended, err := common.Writer("2027-01-31")
	must.Succeed(t, err)
	extended, err := common.Share(old, coreAt(50))
	must.Succeed(t, err)
	var all [2]machine
	want := make(map[crypto.Epoch]crypto.Share)
	want[old], err = common.Share(old, coreAt(7))
	must.Succeed(t, err)
	for i := range all {
		dir := t.TempDir()
		must.Succeed(t, os.Chmod(dir, 0o700))
		copyKeyring(t, dir, common.dir)
		r, err := Open(dir)
		must.Succeed(t, err)
		e, err := r.Writer(crypto.Period([]string{"2027-06-01", "2027-06-02"}[i]))
		must.Succeed(t, err)
		want[e], err = r.Share(e, coreAt(7))
		must.Succeed(t, err)
		must.Succeed(t, r.Destroy(old, coreAt(uint64(i+1))))
		must.Succeed(t, r.Destroy(e, coreAt(3)))
		all[i] = machine{r, e}
	}
	a, b := all[0], all[1]
	must.Succeed(t, a.End(ended))
	// B extends a file that A has destroyed, into an epoch that A does not know.
	must.Succeed(t, b.Extend(coreAt(98), coreAt(50), old, b.epoch, false, extended))
	must.Succeed(t, a.Destroy(old, coreAt(50)))

	return mergeScene{a, b, old, ended, want}
}

func (s mergeScene) check(t *testing.T, r *Keyring) {
	t.Helper()
	for e, share := range s.want {
		if got, err := r.Share(e, coreAt(7)); err != nil || got != share {
			t.Errorf("%s: another share, error %v", e, err)
		}
	}
	for _, gone := range []struct {
		epoch crypto.Epoch
		core  uint64
	}{{s.old, 1}, {s.old, 2}, {s.old, 50}, {s.a.epoch, 3}, {s.b.epoch, 3}, {s.ended, 7}} {
		if _, err := r.Share(gone.epoch, coreAt(gone.core)); !errors.Is(err, ErrDestroyed) {
			t.Errorf("object %d of %s: got %v, want ErrDestroyed", gone.core, gone.epoch, err)
		}
	}
	if _, _, _, err := r.Extension(coreAt(98), coreAt(50), s.old); !errors.Is(err, ErrNoExtension) {
		t.Errorf("the extension of a destroyed object: got %v, want ErrNoExtension", err)
	}
}

// Two copies of one key file with different punctures have the punctures of both after Merge.
func TestMergedKeyFileHasBothPunctures(t *testing.T) {
	r, e := newTestKeyring(t)
	whole, err := r.Export(e)
	must.Succeed(t, err)
	want, err := r.Share(e, coreAt(7))
	must.Succeed(t, err)
	must.Succeed(t, r.Destroy(e, coreAt(1), coreAt(2)))
	other := punctured(t, whole, 2, 3, 1<<63)
	for range 2 {
		must.Succeed(t, r.Merge(e, other))
		must.Succeed(t, r.Merge(e, whole)) // an older copy brings nothing back
	}
	got, err := r.Export(e)
	must.Succeed(t, err)
	if !slices.Equal(got, punctured(t, whole, 1, 2, 3, 1<<63)) {
		t.Error("not the union of the punctures")
	}
	if share, err := r.Share(e, coreAt(7)); err != nil || share != want {
		t.Errorf("another share, error %v", err)
	}
	// Into an empty keyring, and into one that only knows of the destruction.
	empty, _ := newTestKeyring(t)
	must.Succeed(t, empty.Destroy(e, coreAt(5)))
	must.Succeed(t, empty.Merge(e, whole))
	got, err = empty.Export(e)
	must.Succeed(t, err)
	if !slices.Equal(got, punctured(t, whole, 5)) {
		t.Error("the mark was there before the key file, which is not punctured")
	}
	wantFiles(t, empty.dir, 2)
}

func TestMergeRefusesAnotherSecret(t *testing.T) {
	r, e := newTestKeyring(t)
	before, err := r.Export(e)
	must.Succeed(t, err)
	far, other := newTestKeyring(t)
	foreign, err := far.Export(other)
	must.Succeed(t, err)
	if err := r.Merge(e, foreign); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
	if after, err := r.Export(e); err != nil || !slices.Equal(after, before) {
		t.Errorf("the key file is another now, error %v", err)
	}
}

func TestOnlyTheEpochsOwnKeyFileVerifies(t *testing.T) {
	r, err := Open(t.TempDir())
	must.Succeed(t, err)
	e, err := r.Writer("2026-11")
	must.Succeed(t, err)
	other, err := r.Writer("2026-12")
	must.Succeed(t, err)
	file, err := r.Export(e)
	must.Succeed(t, err)
	must.Succeed(t, Verify(e, file))
	if err := Verify(other, file); !errors.Is(err, ErrDamaged) {
		t.Errorf("under another name: %v", err)
	}
	for i := range file {
		changed := bytes.Clone(file)
		changed[i] ^= 1
		if err := Verify(e, changed); !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
}

// A record that was made for another object, epoch or keyring does not come in.
func TestForeignExtensionIsNotMerged(t *testing.T) {
	from, err := Open(t.TempDir())
	must.Succeed(t, err)
	old, err := from.Writer(crypto.PeriodOf(time.Unix(0, 0), 1))
	must.Succeed(t, err)
	to, err := from.Writer(crypto.PeriodOf(time.Unix(0, 0), 48*time.Hour))
	must.Succeed(t, err)
	root, core, other := sum(t, "root"), sum(t, "core"), sum(t, "other")
	b, err := from.Share(old, core)
	must.Succeed(t, err)
	must.Succeed(t, from.Extend(root, core, old, to, false, b))
	record, err := os.ReadFile(from.records.path(to, core))
	must.Succeed(t, err)

	r, err := Open(t.TempDir())
	must.Succeed(t, err)
	if _, err := r.MergeExtension(to, core, record); !errors.Is(err, ErrNoEpoch) {
		t.Errorf("without the epoch's key file: %v", err)
	}
	for _, e := range []crypto.Epoch{old, to} {
		file, err := from.Export(e)
		must.Succeed(t, err)
		must.Succeed(t, r.Merge(e, file))
	}
	for i := range record {
		changed := bytes.Clone(record)
		changed[i] ^= 1
		if _, err := r.MergeExtension(to, core, changed); err == nil {
			t.Errorf("byte %d changed: accepted", i)
		}
	}
	if _, err := r.MergeExtension(to, other, record); err == nil {
		t.Error("for another object: accepted")
	}
	if _, err := r.MergeExtension(old, core, record); err == nil {
		t.Error("for another epoch: accepted")
	}
	for _, want := range []bool{true, false} {
		if fresh, err := r.MergeExtension(to, core, record); err != nil || fresh != want {
			t.Errorf("got %v, %v, want %v", fresh, err, want)
		}
	}
	if _, _, got, err := r.Extension(root, core, old); err != nil || got.Encode() != b.Encode() {
		t.Errorf("the extension gives another share, %v", err)
	}
}

func sum(t *testing.T, text string) cid.Cid {
	t.Helper()
	c, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}.Sum([]byte(text))
	must.Succeed(t, err)
	return c
}
