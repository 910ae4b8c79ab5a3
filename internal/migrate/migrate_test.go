package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/migrate"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// stores are two stores, and what a migration between them reports.
type stores struct {
	t        *testing.T
	from, to *embedded.Store
	cfg      migrate.Config
	failed   map[cid.Cid]error
	last     string // progress
}

func newStores(t *testing.T) *stores {
	t.Helper()
	s := &stores{t: t, from: open(t), to: open(t), failed: make(map[cid.Cid]error)}
	s.cfg = migrate.Config{
		From: s.from, To: s.to, Workers: 3,
		Name:     func(context.Context, ipfs.Blocks, cid.Cid) (string, error) { return "name", nil },
		Progress: func(done, total int) { s.last = fmt.Sprintf("%d of %d", done, total) },
		Failed:   func(root cid.Cid, err error) { s.failed[root] = err },
	}
	return s
}

func open(t *testing.T) *embedded.Store {
	t.Helper()
	s, err := embedded.Open(t.TempDir(), nil)
	must.Succeed(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// fill stores n files, of which some have several blocks.
func (s *stores) fill(n int) []cid.Cid {
	s.t.Helper()
	var roots []cid.Cid
	for i := range n {
		size := int64(100 + i)
		if i%5 == 0 {
			size += 2 << 20
		}
		roots = append(roots, storetest.PutFile(s.t, s.from, io.LimitReader(storetest.Chacha(uint64(i)), size)))
	}
	return roots
}

func (s *stores) run(want migrate.Result) {
	s.t.Helper()
	got, err := migrate.Run(s.t.Context(), s.cfg)
	must.Succeed(s.t, err)
	if got != want {
		s.t.Errorf("got %+v, want %+v", got, want)
	}
}

// The new store has the same objects under the same CIDs, and a second run has nothing to copy.
func TestObjectsMove(t *testing.T) {
	s := newStores(t)
	roots := s.fill(20)
	s.run(migrate.Result{Copied: 20})
	if s.last != "20 of 20" {
		t.Errorf("progress: %s", s.last)
	}
	for _, root := range roots {
		want, err := storetest.ReadFile(t, s.from, root)
		must.Succeed(t, err)
		if got, err := storetest.ReadFile(t, s.to, root); err != nil || string(got) != string(want) {
			t.Errorf("%s: %d bytes, %v", root, len(got), err)
		}
	}
	storetest.PutFile(t, s.from, strings.NewReader("stored since then"))
	s.run(migrate.Result{Copied: 1, Present: 20})
	s.cfg.Delete = true
	s.run(migrate.Result{Present: 21, Deleted: 21})
	if left := storetest.Listed(t, s.from, ""); len(left) != 0 {
		t.Errorf("%d objects are left in the old store", len(left))
	}
	s.run(migrate.Result{})
}

// A migration that is interrupted anywhere leaves whole objects, and the next one copies the rest.
func TestInterruptedMigrationGoesOn(t *testing.T) {
	s := newStores(t)
	roots := s.fill(20)
	s.cfg.Delete = true
	for stop := 1; len(storetest.Listed(t, s.from, "")) > 0; stop++ {
		ctx, cancel := context.WithCancel(t.Context())
		var named atomic.Int32
		s.cfg.Name = func(context.Context, ipfs.Blocks, cid.Cid) (string, error) {
			if named.Add(1) == int32(stop) {
				cancel()
			}
			return "name", nil
		}
		if _, err := migrate.Run(ctx, s.cfg); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want context.Canceled", err)
		}
		cancel()
		both := storetest.Listed(t, s.from, "")
		maps.Copy(both, storetest.Listed(t, s.to, ""))
		if len(both) != len(roots) {
			t.Fatalf("%d objects are left, want %d", len(both), len(roots))
		}
	}
	if len(s.failed) > 0 {
		t.Errorf("reported as failed: %v", s.failed)
	}
	for _, root := range roots {
		if _, err := storetest.ReadFile(t, s.to, root); err != nil {
			t.Errorf("%s: %v", root, err)
		}
	}
}

// spoil flips a bit in an object's file.
func spoil(t *testing.T, dir string, root cid.Cid) {
	t.Helper()
	name := filepath.Join(dir, root.String()+".car")
	car, err := os.ReadFile(name)
	must.Succeed(t, err)
	car[len(car)-20] ^= 1
	must.Succeed(t, os.WriteFile(name, car, 0o600))
}

// A damaged object is named, and stays where it is; the others move.
func TestDamagedObjectsAreReported(t *testing.T) {
	dir := t.TempDir()
	s := newStores(t)
	var err error
	s.from, err = embedded.Open(dir, nil)
	must.Succeed(t, err)
	s.cfg.From, s.cfg.Delete = s.from, true
	roots := s.fill(4)
	spoil(t, dir, roots[2])
	foreign := errors.New("not an object of Detach")
	s.cfg.Name = func(_ context.Context, _ ipfs.Blocks, root cid.Cid) (string, error) {
		if root == roots[3] {
			return "", foreign
		}
		return "name", nil
	}
	s.run(migrate.Result{Copied: 2, Deleted: 2, Failed: 2})
	if !errors.Is(s.failed[roots[2]], ipfs.ErrCorrupt) || !errors.Is(s.failed[roots[3]], foreign) {
		t.Errorf("reported %v", s.failed)
	}
	left := slices.Collect(maps.Keys(storetest.Listed(t, s.from, "")))
	if len(left) != 2 || !slices.Contains(left, roots[2]) || !slices.Contains(left, roots[3]) {
		t.Errorf("left in the old store: %v", left)
	}
}

// The old store keeps an object of which the new one has a damaged copy.
func TestDamagedCopyIsNotTrusted(t *testing.T) {
	dir := t.TempDir()
	s := newStores(t)
	var err error
	s.to, err = embedded.Open(dir, nil)
	must.Succeed(t, err)
	s.cfg.To = s.to
	roots := s.fill(3)
	s.run(migrate.Result{Copied: 3})
	spoil(t, dir, roots[1])
	s.cfg.Delete = true
	s.run(migrate.Result{Present: 2, Deleted: 2, Failed: 1})
	if _, err := storetest.ReadFile(t, s.from, roots[1]); err != nil {
		t.Errorf("the old store has lost the object: %v", err)
	}
}

// downStore lists objects and fails to do anything else with them.
type downStore struct{ ipfs.Store }

func (downStore) Put(context.Context, string, func(ipfs.AddFunc) (cid.Cid, error)) (cid.Cid, error) {
	return cid.Undef, ipfs.Unavailable("put", errors.New("connection refused"))
}

// A store that is down ends the migration soon, and not after a report about each object.
func TestStoreThatIsDownEndsTheMigration(t *testing.T) {
	s := newStores(t)
	s.fill(60)
	s.cfg.To = downStore{s.to}
	_, err := migrate.Run(t.Context(), s.cfg)
	if !errors.Is(err, ipfs.ErrUnavailable) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v, want ErrUnavailable and its reason", err)
	}
	if len(s.failed) > 20 {
		t.Errorf("%d objects were reported", len(s.failed))
	}
}
