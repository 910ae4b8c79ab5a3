package ipfs

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
)

// Fallback is a Store that writes to one store and reads from two: what the first one does not have
// comes from the older one. So every link opens while the objects move from the older store to the
// first. Put, Rename, Check and Remedy are those of the first store.
type Fallback struct {
	Store
	older Store
}

// NewFallback returns a Fallback, whose Close closes both stores.
func NewFallback(first, older Store) *Fallback { return &Fallback{first, older} }

// Unwrap returns the first store.
func (s *Fallback) Unwrap() Store { return s.Store }

// Older returns the older store.
func (s *Fallback) Older() Store { return s.older }

// Open implements [Store]. The older store also serves while the first one is unavailable.
func (s *Fallback) Open(ctx context.Context, root cid.Cid) (Blocks, error) {
	first, err := s.Store.Open(ctx, root)
	if err == nil {
		return &fallbackBlocks{Blocks: first, older: s.older, root: root}, nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	older, olderErr := s.older.Open(ctx, root)
	switch {
	case olderErr == nil:
		return older, nil
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	return nil, olderErr
}

// Delete implements [Store]. It deletes from the older store first: otherwise a copy that is made
// at the same time could appear in the first store after the object was deleted there, and with the
// object still in the older store.
func (s *Fallback) Delete(ctx context.Context, root cid.Cid) error {
	return errors.Join(s.older.Delete(ctx, root), s.Store.Delete(ctx, root))
}

// List implements [Store]: the first store's objects, and then the older store's. An object that is
// in both stores is listed twice.
func (s *Fallback) List(ctx context.Context, prefix string, yield func(Item) error) error {
	if err := s.Store.List(ctx, prefix, yield); err != nil {
		return err
	}
	return s.older.List(ctx, prefix, yield)
}

// Warnings implements [Warner] with the warnings of both stores, and the older store's failure.
func (s *Fallback) Warnings(ctx context.Context) (warnings []string) {
	if err := s.older.Check(ctx); err != nil {
		warnings = append(warnings, fmt.Sprintf("the older store fails, and so do the links of what only it has: %v; %s", err, s.older.Remedy(err)))
	}
	for _, one := range []Store{s.Store, s.older} {
		if w, ok := one.(Warner); ok {
			warnings = append(warnings, w.Warnings(ctx)...)
		}
	}
	return warnings
}

// Close implements [Store].
func (s *Fallback) Close() error { return errors.Join(s.Store.Close(), s.older.Close()) }

// fallbackBlocks are the blocks of an object in the first store. A block that is missing there
// comes from the older store, which is opened for it: a node may have lost some blocks of an object
// that it has not pinned yet.
type fallbackBlocks struct {
	Blocks
	older  Store
	root   cid.Cid
	opened Blocks // of the older store; nil before the first miss
	err    error  // of opening it
}

func (b *fallbackBlocks) Get(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	data, err := b.Blocks.Get(ctx, c, buf)
	if errors.Is(err, ErrNotFound) && b.open(ctx) {
		return b.opened.Get(ctx, c, buf)
	}
	return data, err
}

func (b *fallbackBlocks) GetPart(ctx context.Context, c cid.Cid, off int64, p []byte) error {
	err := b.Blocks.GetPart(ctx, c, off, p)
	if errors.Is(err, ErrNotFound) && b.open(ctx) {
		return b.opened.GetPart(ctx, c, off, p)
	}
	return err
}

// open reports whether the older store has the object.
func (b *fallbackBlocks) open(ctx context.Context) bool {
	if b.opened == nil && b.err == nil {
		b.opened, b.err = b.older.Open(ctx, b.root)
	}
	return b.opened != nil
}

func (b *fallbackBlocks) Close() error {
	err := b.Blocks.Close()
	if b.opened != nil {
		err = errors.Join(err, b.opened.Close())
	}
	return err
}
