package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// store makes batches that keep nothing but what happened to them.
type store struct {
	mu      sync.Mutex
	now     mood
	batches []*batch
}

// mood is what a store does to the batches that begin.
type mood struct {
	failure   error // of Detach, after failAfter bytes
	failAfter int64
	commit    error         // of Commit
	panics    bool          // in Detach
	hangs     bool          // Detach returns only when ctx ends; with failure, after failAfter bytes
	slow      bool          // Commit returns only when ctx ends
	begun     chan struct{} // receives at each Detach
}

func (s *store) set(m mood) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = m
}

func (s *store) begin() Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &batch{store: s, mood: s.now}
	s.batches = append(s.batches, b)
	return b
}

// last is the last batch's fate.
func (s *store) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.batches) == 0 {
		return "none"
	}
	return s.batches[len(s.batches)-1].fate
}

type batch struct {
	mood
	store *store
	fate  string
	size  int64

	closed bool
}

var errStoreDown = errors.New("store is down")

func (b *batch) Detach(ctx context.Context, _, _ string, r io.Reader) (link.Link, error) {
	if b.begun != nil {
		b.begun <- struct{}{}
	}
	if b.panics {
		panic("a secret")
	}
	limit := int64(1 << 62)
	if b.failure != nil {
		limit = b.failAfter
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r, limit))
	b.size += n
	if err != nil {
		return link.Link{}, fmt.Errorf("store: %w", err)
	}
	if b.hangs {
		<-ctx.Done()
		return link.Link{}, ctx.Err()
	}
	if b.failure != nil {
		return link.Link{}, b.failure
	}
	return link.Link{Base: "https://files.example", CID: testCID}, nil
}

func (b *batch) Open(context.Context, link.Link) (io.ReadCloser, error) { return nil, errStoreDown }
func (b *batch) Drop(context.Context, link.Link) error                  { return errStoreDown }
func (b *batch) Expires() time.Time                                     { return time.Time{} }
func (b *batch) CIDs() []cid.Cid                                        { return []cid.Cid{testCID} }
func (b *batch) Discard(ctx context.Context) error                      { return b.become("discarded", ctx.Err()) }

func (b *batch) Close() error {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	if b.closed {
		return errors.New("closed twice")
	}
	b.closed = true
	return nil
}

func (b *batch) Commit(ctx context.Context) error {
	if b.slow {
		<-ctx.Done()
		return ctx.Err()
	}
	return b.become("committed", b.commit)
}

func (b *batch) become(fate string, err error) error {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	if err == nil {
		b.fate += fate + " "
	}
	return err
}

var testCID = func() cid.Cid {
	sum, err := multihash.Sum([]byte("x"), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.DagProtobuf, sum)
}()
