// Package migrate moves objects from one store to another, while both are in use. Its invariant:
//
//	An object is deleted from the old store only after every block of it was read from the new
//	one, and verified.
//
// An object has the same CID in every store, so no link changes. A migration can be interrupted at
// any point and run again: it skips what the new store lists, and a store lists only whole objects.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// maxOutage is how many objects in a row may fail because a store is unavailable. A single object
// fails so on a bad sector; a store that is down fails all of them.
const maxOutage = 16

// Config describes a migration.
type Config struct {
	From, To ipfs.Store
	Prefix   string // of the names of the objects
	// Name returns an object's name in the new store. An error means that the object must not move.
	Name    func(context.Context, ipfs.Blocks, cid.Cid) (string, error)
	Workers int  // objects that are copied at the same time; at least 1
	Delete  bool // delete what the new store has from the old one
	// Progress is called after each object. Failed is called for each object that could not be
	// copied. Neither is called twice at a time.
	Progress func(done, total int)
	Failed   func(root cid.Cid, err error)
}

// Result counts objects.
type Result struct {
	Copied  int `json:"copied"`
	Present int `json:"present"` // in the new store before
	Deleted int `json:"deleted"` // from the old store
	Failed  int `json:"failed"`  // and reported
}

// Run copies every object that the new store does not have, and then deletes it from the old store
// if the configuration says so. It reports objects that cannot be copied and goes on. It returns an
// error if a store cannot be listed, is unavailable, or if ctx ends; what was copied stays.
func Run(ctx context.Context, cfg Config) (Result, error) {
	m := &migration{Config: cfg, present: make(map[string]bool)}
	if err := cfg.To.List(ctx, cfg.Prefix, func(i ipfs.Item) error {
		m.present[key(i.Root)] = true
		return nil
	}); err != nil {
		return Result{}, fmt.Errorf("list the new store: %w", err)
	}
	total := 0
	if err := cfg.From.List(ctx, cfg.Prefix, func(ipfs.Item) error { total++; return nil }); err != nil {
		return Result{}, fmt.Errorf("list the old store: %w", err)
	}
	m.total = total
	return m.run(ctx)
}

// key is what a CID of our form takes least memory as: its digest.
func key(c cid.Cid) string { return string(c.Hash()) }

type migration struct {
	Config
	present map[string]bool // the new store's objects when the migration began; only read
	total   int

	mu     sync.Mutex
	result Result
	done   int
	outage int // failures in a row because a store was unavailable
}

func (m *migration) run(ctx context.Context) (Result, error) {
	err := ipfs.EachObject(ctx, m.From, m.Prefix, m.Workers, func(ctx context.Context, i ipfs.Item) error {
		did, err := m.move(ctx, i.Root)
		return m.finish(ctx, i.Root, did, err)
	})
	return m.result, err
}

// moved says what was done with an object.
type moved struct{ copied, deleted bool }

// move brings one object into the new store, and takes it from the old one if that is wanted.
func (m *migration) move(ctx context.Context, root cid.Cid) (did moved, err error) {
	if !m.present[key(root)] {
		if err := m.copy(ctx, root); err != nil {
			return did, err
		}
		did.copied = true
	}
	if m.Delete {
		if err := m.deleteOld(ctx, root); err != nil {
			return did, err
		}
		did.deleted = true
	}
	return did, nil
}

func (m *migration) copy(ctx context.Context, root cid.Cid) error {
	blocks, err := m.From.Open(ctx, root)
	if err != nil {
		return fmt.Errorf("open in the old store: %w", err)
	}
	defer blocks.Close()
	name, err := m.Name(ctx, blocks, root)
	if err != nil {
		return fmt.Errorf("read in the old store: %w", err)
	}
	_, err = m.To.Put(ctx, name, func(add ipfs.AddFunc) (cid.Cid, error) {
		return root, ipfs.Walk(ctx, blocks, root, add)
	})
	return err
}

// deleteOld reads the whole object from the new store before it deletes it from the old one.
func (m *migration) deleteOld(ctx context.Context, root cid.Cid) error {
	blocks, err := m.To.Open(ctx, root)
	if err != nil {
		return fmt.Errorf("open in the new store: %w", err)
	}
	defer blocks.Close()
	if err := ipfs.Walk(ctx, blocks, root, func(ipfs.Block) error { return nil }); err != nil {
		return fmt.Errorf("verify in the new store: %w", err)
	}
	return m.From.Delete(ctx, root)
}

// finish counts what was done with an object, and reports a failure. It returns an error if the
// migration must end.
func (m *migration) finish(ctx context.Context, root cid.Cid, did moved, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil // the migration ends, and this object is as before or copied
	case err == nil:
		m.outage = 0
		m.count(did)
	case errors.Is(err, ipfs.ErrUnavailable):
		if m.outage++; m.outage == maxOutage {
			return fmt.Errorf("%d objects in a row failed, the last one %s: %w", maxOutage, root, err)
		}
		fallthrough
	default:
		m.result.Failed++
		m.Failed(root, err)
	}
	m.done++
	m.Progress(m.done, max(m.done, m.total))
	return nil
}

func (m *migration) count(did moved) {
	if did.copied {
		m.result.Copied++
	} else {
		m.result.Present++
	}
	if did.deleted {
		m.result.Deleted++
	}
}
