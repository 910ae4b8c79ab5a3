package vault

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// entries are the batches that are written down.
func entries(t *testing.T, s *site) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "pending", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// killed ends a batch as the death of its process does: the lock goes, everything else stays.
func killed(t *testing.T, b *Batch) {
	t.Helper()
	if err := b.pending.Close(); err != nil {
		t.Fatal(err)
	}
	b.pending = nil
}

func recovered(t *testing.T, v *Vault, want int) {
	t.Helper()
	gone, err := v.Recover(t.Context())
	if err != nil || len(gone) != want {
		t.Errorf("swept %v, %v; want %d objects", gone, err, want)
	}
}

// What a killed process leaves, for each moment it may be killed in.
func TestSweep(t *testing.T) {
	faults.Covers(t, 25, 46)
	s := newSite(t)
	v := s.vault(t, nil)
	for _, c := range []struct {
		name string
		then func(b *Batch) error
		kept int // of two objects
	}{
		{"stored", func(b *Batch) error { return nil }, 0},
		{"promised", func(b *Batch) error { return b.Commit(t.Context()) }, 2},
		{"refused", func(b *Batch) error { return errors.Join(b.Commit(t.Context()), b.note(refusedLine)) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := s.objects(t)
			b := v.Begin()
			detach(t, b, []byte("one"))
			detach(t, b, []byte("two"))
			if err := c.then(b); err != nil {
				t.Fatal(err)
			}
			other := s.vault(t, nil) // of another process
			recovered(t, other, 0)   // b's lives
			killed(t, b)
			recovered(t, other, 2-c.kept)
			if n := s.objects(t) - before; n != c.kept {
				t.Errorf("%d objects stay, want %d", n, c.kept)
			}
			if left := entries(t, s); len(left) > 0 {
				t.Errorf("entries left: %v", left)
			}
		})
	}
}

// The data directory may have any name, also one that means something to a shell; and a record that cannot be looked for is no record
// that is not there.
func TestSweepFindsItsDirectory(t *testing.T) {
	s := newSite(t)
	s.dir = filepath.Join(s.dir, "data[1] *?")
	v := s.vault(t, nil)
	b := v.Begin()
	detach(t, b, []byte("one"))
	killed(t, b)
	recovered(t, v, 1)
	if err := os.Remove(filepath.Join(s.dir, "pending")); err != nil { // nothing is left in it
		t.Fatal(err)
	}
	if _, err := v.Recover(t.Context()); err == nil {
		t.Error("nothing was found where nothing could be looked for")
	}
}

// A batch that ends well leaves no entry, and takes none before it stores.
func TestCloseForgets(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	for _, end := range []func(b *Batch) error{
		func(b *Batch) error { return b.Commit(t.Context()) },
		func(b *Batch) error { return b.Discard(t.Context()) },
		func(b *Batch) error { return errors.Join(b.Commit(t.Context()), b.Discard(t.Context())) },
	} {
		b := v.Begin()
		if n := len(entries(t, s)); n != 0 {
			t.Fatalf("%d entries before anything is stored", n)
		}
		detach(t, b, []byte("x"))
		if n := len(entries(t, s)); n != 1 {
			t.Fatalf("%d entries for a batch under way, want 1", n)
		}
		if err := errors.Join(end(b), b.Close()); err != nil {
			t.Fatal(err)
		}
		if left := entries(t, s); len(left) > 0 {
			t.Errorf("entries left: %v", left)
		}
	}
}

// The store is down when a mail has to be undone. Nothing waits for it, and it is done when it is back.
func TestDeletedLater(t *testing.T) {
	faults.Covers(t, 47)
	for _, committed := range []bool{false, true} {
		s := newSite(t)
		store := &brokenStore{Store: s.store}
		s.store = store
		v := s.vault(t, nil)
		b := v.Begin()
		detach(t, b, []byte("x"))
		if committed {
			if err := b.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		store.delete = ipfs.ErrUnavailable
		if err := b.Discard(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Discard: got %v, want ErrUnavailable", err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if gone, err := v.Recover(t.Context()); !errors.Is(err, ErrUnavailable) || len(gone) != 0 {
			t.Errorf("Recover with a store that is down: %v, %v", gone, err)
		}
		store.delete = nil
		recovered(t, v, 1)
		if n, left := s.objects(t), entries(t, s); n != 0 || len(left) != 0 {
			t.Errorf("%d objects and entries %v stay", n, left)
		}
	}
}

// An object that the store may have in spite of its error is deleted with the others, or later.
func TestMayBeStored(t *testing.T) {
	faults.Covers(t, 39, 47)
	s := newSite(t)
	store := &brokenStore{Store: s.store, lost: true}
	s.store = store
	v := s.vault(t, nil)
	b := v.Begin()
	if _, err := b.Detach(t.Context(), "n", "t", strings.NewReader("x")); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("Detach: got %v, want ErrUnavailable", err)
	}
	if n := s.objects(t); n != 1 {
		t.Fatalf("%d objects, want the one whose answer was lost", n)
	}
	store.delete = ipfs.ErrUnavailable
	if err := errors.Join(b.Discard(t.Context()), b.Close()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Discard: got %v, want ErrUnavailable", err)
	}
	store.delete = nil
	recovered(t, v, 1)
	if n := s.objects(t); n != 0 {
		t.Errorf("%d objects stay", n)
	}
}

// Without its entry nothing is stored: a full disk refuses the mail and leaves nothing behind.
func TestNothingStoredUnnoted(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	if err := os.Remove(filepath.Join(s.dir, "pending")); err != nil {
		t.Fatal(err)
	}
	b := v.Begin()
	if _, err := b.Detach(t.Context(), "n", "t", strings.NewReader("x")); err == nil {
		t.Error("stored without an entry")
	}
	if n := s.objects(t); n != 0 {
		t.Errorf("%d objects stay", n)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// The ledger was written, and only its sync failed: the mail was not passed on, so its objects go, later if need be.
func TestPromiseThatMayBeWritten(t *testing.T) {
	faults.Covers(t, 47, 98)
	s := newSite(t)
	store := &brokenStore{Store: s.store}
	s.store = store
	v := s.vault(t, nil)
	b := v.Begin()
	detach(t, b, []byte("x"))
	if err := v.ledger.append(b.epoch, b.created, b.objects); err != nil { // as Commit, but it hears of an error
		t.Fatal(err)
	}
	store.delete = ipfs.ErrUnavailable
	if err := errors.Join(b.Discard(t.Context()), b.Close()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Discard: got %v, want ErrUnavailable", err)
	}
	store.delete = nil
	recovered(t, v, 1)
	if n := s.objects(t); n != 0 {
		t.Errorf("%d objects stay", n)
	}
}
