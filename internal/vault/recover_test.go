package vault

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// entries returns the files that record batches.
func entries(t *testing.T, s *site) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "pending", "*"))
	must.Succeed(t, err)
	return names
}

// killed ends a batch as a killed process would: it only releases the lock.
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

// A data directory that was copied while a mail was on its way has the mail's record, and not its line
// in the ledger. With the same store as before, nothing of the mail is deleted.
func TestCopiedRecordDeletesNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("files are not told from their copies on this system")
	}
	s, v := newVault(t)
	b := v.Begin(0)
	l := detach(t, b, []byte("passed on after the copy"))
	record := entries(t, s)[0]
	text, err := os.ReadFile(record)
	must.Succeed(t, err)
	must.Succeed(t, b.Commit(t.Context()))
	must.Succeed(t, b.Close())
	must.Succeed(t, os.RemoveAll(filepath.Join(s.dir, "ledger"))) // the disk is lost, and the copy comes back
	must.Succeed(t, os.WriteFile(record, text, 0o600))
	restored := s.vault(t, nil)
	recovered(t, restored, 0)
	wantContent(t, restored, l, []byte("passed on after the copy"))
	if left := entries(t, s); len(left) > 0 {
		t.Errorf("records left: %v", left)
	}
}

// If a process is killed, the objects in the ledger stay, and Recover deletes the others.
func TestRecoverDeletesWhatKilledProcessesLeft(t *testing.T) {
	faults.Covers(t, 25, 46)
	s, v := newVault(t)
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
			b := v.Begin(0)
			detach(t, b, []byte("one"))
			detach(t, b, []byte("two"))
			must.Succeed(t, c.then(b))
			other := s.vault(t, nil) // another process
			recovered(t, other, 0)   // while b's process lives
			killed(t, b)
			recovered(t, other, 2-c.kept)
			if n := s.objects(t) - before; n != c.kept {
				t.Errorf("%d objects stay, want %d", n, c.kept)
			}
			if left := entries(t, s); len(left) > 0 {
				t.Errorf("records left: %v", left)
			}
		})
	}
}

// The name of the data directory may have a shell's wildcards. A directory that cannot be read is
// an error, not an empty directory.
func TestRecoverReadsAnyDirectory(t *testing.T) {
	s := newSite(t)
	s.dir = filepath.Join(s.dir, "data[1] *?")
	v := s.vault(t, nil)
	b := v.Begin(0)
	detach(t, b, []byte("one"))
	killed(t, b)
	recovered(t, v, 1)
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "pending")))
	if _, err := v.Recover(t.Context()); err == nil {
		t.Error("no error, although the directory is gone")
	}
}

// A batch has a record from its first object until it is done.
func TestFinishedBatchLeavesNoRecord(t *testing.T) {
	s, v := newVault(t)
	for _, end := range []func(b *Batch) error{
		func(b *Batch) error { return b.Commit(t.Context()) },
		func(b *Batch) error { return b.Discard(t.Context()) },
		func(b *Batch) error { return errors.Join(b.Commit(t.Context()), b.Discard(t.Context())) },
	} {
		b := v.Begin(0)
		begun := len(entries(t, s))
		detach(t, b, []byte("x"))
		stored := len(entries(t, s))
		must.Succeed(t, errors.Join(end(b), b.Close()))
		if done := len(entries(t, s)); begun != 0 || stored != 1 || done != 0 {
			t.Errorf("%d, %d and %d records, want 0, 1 and 0", begun, stored, done)
		}
	}
}

// If the record cannot be written, as on a full disk, the mail is refused and nothing stays.
func TestNothingIsStoredWithoutARecord(t *testing.T) {
	s, v := newVault(t)
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "pending")))
	b := v.Begin(0)
	if _, err := b.Detach(t.Context(), "n", "t", strings.NewReader("x")); err == nil {
		t.Error("stored without a record")
	}
	s.wantNothing(t, "no record")
	must.Succeed(t, b.Close())
}

// Recover deletes the objects that Discard could not delete while the store was down.
func TestRecoverDeletesWhatDiscardCouldNot(t *testing.T) {
	faults.Covers(t, 39, 47, 98)
	for name, before := range map[string]func(b *Batch, store *brokenStore) error{
		"stored":    func(*Batch, *brokenStore) error { return nil },
		"committed": func(b *Batch, _ *brokenStore) error { return b.Commit(t.Context()) },
		"committed, but the ledger's sync failed": func(b *Batch, _ *brokenStore) error {
			return b.v.ledger.Append(b.entries()...)
		},
		"stored, but the answer was lost": func(b *Batch, store *brokenStore) error {
			store.lost = true
			wantErr(t, "Detach", errOf(b.Detach(t.Context(), "n", "t", strings.NewReader("y"))), ErrUnavailable)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, store, v := newBrokenSite(t)
			b := v.Begin(0)
			detach(t, b, []byte("x"))
			must.Succeed(t, before(b, store))
			n := s.objects(t)
			store.delete = ipfs.ErrUnavailable
			wantErr(t, "Discard", b.Discard(t.Context()), ErrUnavailable)
			must.Succeed(t, b.Close())
			if gone, err := v.Recover(t.Context()); !errors.Is(err, ErrUnavailable) || len(gone) != 0 {
				t.Errorf("Recover with a store that is down: %v, %v", gone, err)
			}
			store.delete = nil
			recovered(t, v, n)
			s.wantNothing(t, "recovered")
		})
	}
}

// If a real node dies during the third attachment, the first two are deleted when it is back.
func TestObjectsOfADeadNodeAreDeletedLater(t *testing.T) {
	faults.Covers(t, 39, 45, 47)
	node := servers.Kubo(t)
	s := newSite(t)
	s.store = kuboStore(t, node)
	v := s.vault(t, nil)
	before := node.Pins()
	b := v.Begin(0)
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
			return 0, errors.New("the source is read after the node has died")
		}
		return len(p), nil
	}))
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("Detach: got %v, want ErrUnavailable", err)
	}
	wantErr(t, "Discard", b.Discard(t.Context()), ErrUnavailable)
	must.Succeed(t, b.Close())
	node.Start()
	recovered(t, v, 2)
	if got := node.Pins(); !slices.Equal(got, before) {
		t.Errorf("pins: got %v, want %v", got, before)
	}
	if left := entries(t, s); len(left) != 0 {
		t.Errorf("records left: %v", left)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A mail that was committed keeps its objects when its process is killed and the ledger is lost
// too: the mail may have been passed on.
func TestCommittedObjectsOutliveTheLedger(t *testing.T) {
	s, v := newVault(t)
	b := v.Begin(0)
	l := detach(t, b, pattern(100))
	must.Succeed(t, b.Commit(t.Context()))
	open := detach(t, b, pattern(200))
	must.Succeed(t, b.pending.Close()) // as of a process that is killed
	must.Succeed(t, os.RemoveAll(filepath.Join(s.dir, "ledger")))
	v = s.vault(t, nil)
	gone, err := v.Recover(t.Context())
	if err != nil || len(gone) != 1 || gone[0] != open.CID {
		t.Errorf("got %v, %v, want only the object that was not committed, %s", gone, err, open.CID)
	}
	wantContent(t, v, l, pattern(100))
}
