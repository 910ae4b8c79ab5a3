package kubo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

const (
	// maxAhead bounds the read-ahead of a file that is read from front to back, in blocks. A node
	// takes longer for a request than for the bytes of its answer.
	maxAhead = 3
	// slowLeaf is the time for a leaf above which a reader is too slow to need read-ahead.
	slowLeaf = 50 * time.Millisecond
	// leafSize is the memory of a block of read-ahead.
	leafSize = 1 << 20
)

// blocks reads the blocks that the node has. When a reader has taken two leaves in the order of the
// node above them, blocks requests the next leaves as well.
type blocks struct {
	s    *Store
	root ipfs.Block // which Open has read

	leaves []cid.Cid // of the last node, in order
	last   int       // index in leaves of the last one that the reader got; -1 if it got none
	got    time.Time // when Get last returned a block
	ahead  []*fetch  // the requests for the leaves after last, in order
}

func (b *blocks) Memory() *memory.Budget { return b.s.memory }

func (b *blocks) Get(ctx context.Context, c cid.Cid, buf []byte) (data []byte, err error) {
	slow := time.Since(b.got) > slowLeaf
	if c == b.root.CID {
		data = append(buf[:0], b.root.Data...)
	} else if data = b.take(ctx, c); data == nil {
		b.drop()
		if data, err = b.s.getSmall(ctx, c, buf); err != nil {
			return nil, err
		}
	}
	b.got = time.Now()
	b.lookAhead(ctx, c, data, slow)
	return data, nil
}

// take returns the block c if it is the next one in b.ahead, and waits for it. Otherwise, or if
// that request failed, it returns nil: Get then requests the block with its own context.
func (b *blocks) take(ctx context.Context, c cid.Cid) []byte {
	if len(b.ahead) == 0 || b.ahead[0].c != c {
		return nil
	}
	f := b.ahead[0]
	b.ahead = b.ahead[1:]
	select {
	case <-f.done:
	case <-ctx.Done():
	}
	data, err := b.end(f)
	if err != nil {
		ipfs.PutBuffer(data)
		return nil
	}
	return data
}

// lookAhead follows the reader, and requests the next leaves unless the reader is slow.
func (b *blocks) lookAhead(ctx context.Context, c cid.Cid, data []byte, slow bool) {
	if c.Type() == cid.DagProtobuf {
		b.leaves, b.last = ipfs.LeavesOf(data), -1
		return
	}
	next := b.last + 1
	if b.last < 0 || next >= len(b.leaves) || b.leaves[next] != c {
		b.last = slices.Index(b.leaves, c)
		return
	}
	b.last = next
	for !slow && len(b.ahead) < maxAhead && next+len(b.ahead)+1 < len(b.leaves) {
		if !b.s.memory.TryAcquire(leafSize) {
			return
		}
		b.ahead = append(b.ahead, b.fetch(ctx, b.leaves[next+len(b.ahead)+1]))
	}
}

// fetch is a request for a block. Its memory counts in the budget until end.
type fetch struct {
	c      cid.Cid
	cancel context.CancelFunc
	done   chan struct{} // closed when buf and err are set
	buf    []byte
	err    error
}

func (b *blocks) fetch(ctx context.Context, c cid.Cid) *fetch {
	ctx, cancel := context.WithCancel(ctx)
	f := &fetch{c: c, cancel: cancel, done: make(chan struct{}), buf: ipfs.GetBuffer()}
	go func() {
		defer close(f.done)
		var data []byte
		if data, f.err = b.s.getBlock(ctx, c, f.buf); f.err == nil {
			f.buf = data
		}
	}()
	return f
}

// end cancels the fetch if it is still under way, and returns its buffer.
func (b *blocks) end(f *fetch) ([]byte, error) {
	f.cancel()
	<-f.done
	b.s.memory.Release(leafSize)
	return f.buf, f.err
}

// drop cancels the read-ahead: the reader went elsewhere.
func (b *blocks) drop() {
	for _, f := range b.ahead {
		f.cancel()
	}
	for _, f := range b.ahead {
		buf, _ := b.end(f)
		ipfs.PutBuffer(buf)
	}
	b.ahead = nil
}

func (b *blocks) Close() error {
	b.drop()
	return nil
}

const (
	maxSmall       = 64 << 10 // 1,024 links to leaves are 51 KB
	maxSmallBlocks = 64       // 4 MiB together
)

// getSmall gets a block from the node or from the cache of small blocks: nodes above the leaves,
// and metadata. A browser's request for 64 KiB needs three of them before the leaf, and its next
// request needs the same three. Open does not use the cache for an object's root: so a reader finds
// out early that the node is gone or has lost the object. A block that does not match its CID is
// not cached: the next answer may be right.
func (s *Store) getSmall(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	if data, ok := s.small.Get(c); ok {
		return append(buf[:0], data...), nil
	}
	data, err := s.getBlock(ctx, c, buf)
	if err == nil && len(data) <= maxSmall && ipfs.Verify(c, data) == nil {
		s.small.Add(c, bytes.Clone(data))
	}
	return data, err
}

// getBlock reads a block into buf, or into a larger slice.
func (s *Store) getBlock(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	var data []byte
	err := s.get(ctx, "block/get", c, options{"offline": true}, func(r io.Reader) (err error) {
		data, err = readBlock(r, buf)
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// GetPart implements [ipfs.Blocks]. The node's cat of a leaf gives a range of its bytes.
func (b *blocks) GetPart(ctx context.Context, c cid.Cid, off int64, p []byte) error {
	opts := options{"offline": true, "offset": off, "length": len(p)}
	return b.s.get(ctx, "cat", c, opts, func(r io.Reader) error {
		data, err := readBlock(r, p[:0:len(p)])
		if err == nil && len(data) != len(p) {
			err = fmt.Errorf("%w: %d bytes of block %s, want %d", ipfs.ErrCorrupt, len(data), c, len(p))
		}
		return err
	})
}

// get sends a command that reads a block, and gives the answer to read.
func (s *Store) get(ctx context.Context, command string, c cid.Cid, opts options, read func(io.Reader) error) error {
	select {
	case s.reads <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-s.reads }()
	watched, watch := s.watch(ctx)
	defer watch.end()
	err := s.receive(watched, command, c.String(), opts, nil, read)
	switch {
	case err == nil || errors.Is(err, ipfs.ErrCorrupt):
		return err
	case ctx.Err() == nil && strings.Contains(err.Error(), "could not find "+c.String()):
		return fmt.Errorf("%w: block %s", ipfs.ErrNotFound, c)
	case ctx.Err() == nil && strings.Contains(err.Error(), hashOnReadError):
		return fmt.Errorf("%w: block %s: %w", ipfs.ErrCorrupt, c, err)
	}
	return fail(ctx, watched, command, err)
}

// hashOnReadError is the error of a node with Datastore.HashOnRead for a damaged block.
const hashOnReadError = "block in storage has different hash than requested"

// readBlock reads r to its end into buf, or into a larger slice if buf is too small.
func readBlock(r io.Reader, buf []byte) ([]byte, error) {
	buf = buf[:0]
	for {
		var n int
		var err error
		if len(buf) < cap(buf) {
			n, err = r.Read(buf[len(buf):min(cap(buf), ipfs.MaxBlock+1)])
			buf = buf[:len(buf)+n]
		} else { // a whole leaf fills buf: do not grow it just to find the end
			var more [512]byte
			n, err = r.Read(more[:])
			buf = append(buf, more[:n]...)
		}
		switch {
		case len(buf) > ipfs.MaxBlock:
			return nil, fmt.Errorf("%w: the node's block is larger than %d bytes", ipfs.ErrCorrupt, ipfs.MaxBlock)
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, err
		}
	}
}
