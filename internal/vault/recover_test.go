package vault

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// entries are the records of batches.
func entries(t *testing.T, s *site) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "pending", "*"))
	must.Succeed(t, err)
	return names
}

// killed ends a batch as the death of its process does: only the lock goes.
func killed(t *testing.T, b *Batch) {
	t.Helper()
	must.Succeed(t, b.pending.Close())
	b.pending = nil
}

func recovered(t *testing.T, v *Vault, want int) {
	t.Helper()
	gone, err := v.Recover(t.Context())
	if err != nil || len(gone) != want {
		t.Errorf("recovered %v, %v; want %d objects", gone, err, want)
	}
}

// A process may be killed at any moment. What is in the ledger stays, and everything else goes.
func TestRecoverDeletesWhatKilledProcessesLeft(t *testing.T) {
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
			must.Succeed(t, c.then(b))
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

// The data directory may have any name, also one that means something to a shell. A directory that
// cannot be read is an error, and not an empty one.
func TestRecoverReadsAnyDirectory(t *testing.T) {
	s := newSite(t)
	s.dir = filepath.Join(s.dir, "data[1] *?")
	v := s.vault(t, nil)
	b := v.Begin()
	detach(t, b, []byte("one"))
	killed(t, b)
	recovered(t, v, 1)
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "pending")))
	if _, err := v.Recover(t.Context()); err == nil {
		t.Error("no error, and the directory is gone")
	}
}

// A batch that is done leaves no record, and writes none before it stores.
func TestFinishedBatchLeavesNoRecord(t *testing.T) {
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
		must.Succeed(t, errors.Join(end(b), b.Close()))
		if left := entries(t, s); len(left) > 0 {
			t.Errorf("entries left: %v", left)
		}
	}
}

// Nothing is stored without a record: a full disk refuses the mail and leaves nothing behind.
func TestNothingIsStoredWithoutARecord(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "pending")))
	b := v.Begin()
	if _, err := b.Detach(t.Context(), "n", "t", strings.NewReader("x")); err == nil {
		t.Error("stored without a record")
	}
	if n := s.objects(t); n != 0 {
		t.Errorf("%d objects stay", n)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// Whatever a batch could not delete while the store was down is deleted later: no mail waits for
// it.
func TestRecoverDeletesWhatDiscardCouldNot(t *testing.T) {
	faults.Covers(t, 39, 47, 98)
	for name, before := range map[string]func(b *Batch, store *brokenStore) error{
		"stored":    func(*Batch, *brokenStore) error { return nil },
		"committed": func(b *Batch, _ *brokenStore) error { return b.Commit(t.Context()) },
		"committed, and only the ledger's sync failed": func(b *Batch, _ *brokenStore) error {
			return b.v.ledger.append(b.epoch, b.created, b.objects)
		},
		"stored, and only the answer was lost": func(b *Batch, store *brokenStore) error {
			store.lost = true
			if _, err := b.Detach(t.Context(), "n", "t", strings.NewReader("y")); !errors.Is(err, ErrUnavailable) {
				return fmt.Errorf("Detach: got %w, want ErrUnavailable", err)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			store := &brokenStore{Store: s.store}
			s.store = store
			v := s.vault(t, nil)
			b := v.Begin()
			detach(t, b, []byte("x"))
			must.Succeed(t, before(b, store))
			n := s.objects(t)
			store.delete = ipfs.ErrUnavailable
			if err := b.Discard(t.Context()); !errors.Is(err, ErrUnavailable) {
				t.Errorf("Discard: got %v, want ErrUnavailable", err)
			}
			must.Succeed(t, b.Close())
			if gone, err := v.Recover(t.Context()); !errors.Is(err, ErrUnavailable) || len(gone) != 0 {
				t.Errorf("Recover with a store that is down: %v, %v", gone, err)
			}
			store.delete = nil
			recovered(t, v, n)
			if n, left := s.objects(t), entries(t, s); n != 0 || len(left) != 0 {
				t.Errorf("%d objects and entries %v stay", n, left)
			}
		})
	}
}

// A real node dies at the third attachment, so the other two cannot be deleted. They are when it is
// back.
func TestObjectsOfADeadNodeAreDeletedLater(t *testing.T) {
	faults.Covers(t, 39, 45, 47)
	node := servers.Kubo(t)
	s := newSite(t)
	s.store = kuboStore(t, node)
	v := s.vault(t, nil)
	before := node.Pins()
	b := v.Begin()
	detach(t, b, []byte("one"))
	detach(t, b, pattern(3<<20))
	if n := len(node.Pins()) - len(before); n != 2 {
		t.Fatalf("%d objects are pinned, want 2", n)
	}
	read := 0
	_, err := b.Detach(t.Context(), "n", "t", readerFunc(func(p []byte) (int, error) {
		if read += len(p); read > 5<<20 && read-len(p) <= 5<<20 {
			node.Kill()
		}
		if read > 100<<20 {
			return 0, errors.New("read to the end of a source after the node had died")
		}
		return len(p), nil
	}))
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("Detach: got %v, want ErrUnavailable", err)
	}
	if err := b.Discard(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Discard: got %v, want ErrUnavailable", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	node.Start()
	recovered(t, v, 2)
	if got := node.Pins(); !slices.Equal(got, before) {
		t.Errorf("pins: got %v, want %v", got, before)
	}
	if left := entries(t, s); len(left) != 0 {
		t.Errorf("entries left: %v", left)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
