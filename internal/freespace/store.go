package freespace

import (
	"context"
	"errors"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// Store is an [ipfs.Store] that stores only what all its guards admit. It asks them before each
// block, so an object of any size fails before a disk is below its minimum. The error then wraps
// [ErrLow] and [ipfs.ErrUnavailable]. Stored objects can be read and deleted however little is
// free.
type Store struct {
	ipfs.Store
	guards []*Guard
}

// NewStore returns a Store over s.
func NewStore(s ipfs.Store, guards ...*Guard) *Store { return &Store{s, guards} }

// Unwrap returns the store below.
func (s *Store) Unwrap() ipfs.Store { return s.Store }

// Put implements [ipfs.Store].
func (s *Store) Put(ctx context.Context, name string, build func(add ipfs.AddFunc) (cid.Cid, error)) (cid.Cid, error) {
	if err := s.admit(ctx); err != nil {
		return cid.Undef, err
	}
	return s.Store.Put(ctx, name, func(add ipfs.AddFunc) (cid.Cid, error) {
		var low error // the first, which build may have ignored
		root, err := build(func(b ipfs.Block) error {
			if low != nil {
				return low
			}
			release, err := s.reserve(ctx, int64(len(b.Data)))
			defer release()
			if low = err; err != nil {
				return err
			}
			return add(b)
		})
		if err == nil {
			err = low
		}
		return root, err
	})
}

// Check implements [ipfs.Store]: it fails while Put would.
func (s *Store) Check(ctx context.Context) error {
	if err := s.admit(ctx); err != nil {
		return err
	}
	return s.Store.Check(ctx)
}

// Remedy implements [ipfs.Store].
func (s *Store) Remedy(err error) string {
	if errors.Is(err, ErrLow) {
		return "free some space, or lower store.min_free"
	}
	return s.Store.Remedy(err)
}

// admit returns an error if an object's first block would not be admitted.
func (s *Store) admit(ctx context.Context) error {
	release, err := s.reserve(ctx, 0)
	release()
	return err
}

// reserve reserves n bytes at every guard, or at none.
func (s *Store) reserve(ctx context.Context, n int64) (release func(), err error) {
	var reserved []func()
	release = func() {
		for _, r := range reserved {
			r()
		}
	}
	for _, g := range s.guards {
		r, err := g.Reserve(ctx, n)
		if err != nil {
			release()
			return func() {}, &fullError{err}
		}
		reserved = append(reserved, r)
	}
	return release, nil
}

// Tightest returns the guard whose free space is nearest to its minimum, and its state. ok is false
// if the free space of no guard is known.
func (s *Store) Tightest(ctx context.Context) (g *Guard, tightest State, ok bool) {
	for _, one := range s.guards {
		state, err := one.State(ctx)
		if err == nil && (!ok || state.Free-state.Min < tightest.Free-tightest.Min) {
			g, tightest, ok = one, state, true
		}
	}
	return g, tightest, ok
}

// Guards returns what NewStore was given.
func (s *Store) Guards() []*Guard { return s.guards }

// fullError is a lowError that is also ipfs.ErrUnavailable.
type fullError struct{ low error }

func (e *fullError) Error() string   { return e.low.Error() }
func (e *fullError) Unwrap() []error { return []error{e.low, ipfs.ErrUnavailable} }
