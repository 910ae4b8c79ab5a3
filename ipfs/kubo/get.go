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

	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// maxAhead is how many blocks of a file that is read from front to back are asked for before they are due. A node takes
// longer for a request than for its bytes.
const maxAhead = 3

// slowLeaf is how long a reader may have been busy with a leaf and still have others asked for ahead. For one who takes longer
// the node is quick enough.
const slowLeaf = 50 * time.Millisecond

// aheadRoom bounds the memory of what all readers together have asked for ahead, to 16 MiB. Who finds no room does without.
var aheadRoom = make(chan struct{}, 16)

// blocks reads blocks one by one, from what the node has itself. When one leaf has followed another, as the node above
// them has it, those after them are asked for as well.
type blocks struct {
	s    *Store
	root ipfs.Block // when the object has just been opened

	leaves []cid.Cid // of the last node, in their order
	last   int       // which of them was got last; -1: none
	got    time.Time // when the last block was
	ahead  []*fetch  // of those after it, in their order
}

// fetch is a block on its way. It has its place in aheadRoom until it is over.
type fetch struct {
	c      cid.Cid
	cancel context.CancelFunc
	done   chan struct{} // closed when buf and err are set
	buf    []byte
	err    error
}

func (b *blocks) Get(ctx context.Context, c cid.Cid, buf []byte) (data []byte, err error) {
	slow := time.Since(b.got) > slowLeaf
	if c == b.root.CID {
		data = append(buf[:0], b.root.Data...)
	} else if data = b.take(ctx, c, buf); data == nil {
		b.drop()
		if data, err = b.s.getSmall(ctx, c, buf); err != nil {
			return nil, err
		}
	}
	b.got = time.Now()
	b.lookAhead(ctx, c, data, slow)
	return data, nil
}

// take waits for a block that was asked for ahead, if it is the one that is due, and keeps buf for another. One that has failed
// is asked for again: then the error is that of the caller's own context.
func (b *blocks) take(ctx context.Context, c cid.Cid, buf []byte) []byte {
	if len(b.ahead) == 0 || b.ahead[0].c != c {
		return nil
	}
	f := b.ahead[0]
	b.ahead = b.ahead[1:]
	select {
	case <-f.done:
	case <-ctx.Done():
	}
	data, err := f.end()
	if err != nil {
		ipfs.PutChunk(data)
		return nil
	}
	ipfs.PutChunk(buf)
	return data
}

// lookAhead follows where the reader is, and asks for what it will want next, unless it is slow.
func (b *blocks) lookAhead(ctx context.Context, c cid.Cid, data []byte, slow bool) {
	if ipfs.IsNode(c) {
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
		select {
		case aheadRoom <- struct{}{}:
			b.ahead = append(b.ahead, b.fetch(ctx, b.leaves[next+len(b.ahead)+1]))
		default:
			return
		}
	}
}

func (b *blocks) fetch(ctx context.Context, c cid.Cid) *fetch {
	ctx, cancel := context.WithCancel(ctx)
	f := &fetch{c: c, cancel: cancel, done: make(chan struct{}), buf: ipfs.GetChunk()}
	go func() {
		defer close(f.done)
		var data []byte
		if data, f.err = b.s.getBlock(ctx, c, f.buf); f.err == nil {
			f.buf = data
		}
	}()
	return f
}

// end gives up the fetch if it is still under way.
func (f *fetch) end() ([]byte, error) {
	f.cancel()
	<-f.done
	<-aheadRoom
	return f.buf, f.err
}

// drop gives up what was asked for ahead: the reader went elsewhere.
func (b *blocks) drop() {
	for _, f := range b.ahead {
		f.cancel()
	}
	for _, f := range b.ahead {
		buf, _ := f.end()
		ipfs.PutChunk(buf)
	}
	b.ahead = nil
}

func (b *blocks) Close() error {
	b.drop()
	return nil
}

const (
	maxSmall       = 64 << 10 // 1,024 links to leaves are 51 KB
	maxSmallBlocks = 64       // and so all are 4 MiB
)

// getSmall gets a block from the node, unless it is one of the small ones that were got last: those above the leaves, and
// metadata. Between a browser's request for 64 KiB and the leaf that has it lie three of them, which are the same for its next
// request. An object's root is not among them: it is asked for each time, so that what the node has lost, or a node that is gone, is
// found out first. What does not fit its CID is not kept: the next time the node may give what does.
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

// getBlock reads a block into buf, or into a larger one.
func (s *Store) getBlock(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	select {
	case s.reads <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-s.reads }()
	watched, watch := s.watch(ctx)
	defer watch.end()
	var data []byte
	err := s.receive(watched, "block/get", c.String(), options{"offline": true}, nil, func(r io.Reader) (err error) {
		data, err = readBlock(r, buf)
		return err
	})
	switch {
	case err == nil:
		return data, nil
	case errors.Is(err, ipfs.ErrCorrupt):
		return nil, err
	case ctx.Err() == nil && strings.Contains(err.Error(), "could not find "+c.String()):
		return nil, fmt.Errorf("%w: block %s", ipfs.ErrNotFound, c)
	case ctx.Err() == nil && strings.Contains(err.Error(), hashOnReadError):
		return nil, fmt.Errorf("%w: block %s: %w", ipfs.ErrCorrupt, c, err)
	}
	return nil, fail(ctx, watched, "block/get", err)
}

// hashOnReadError is what a node with Datastore.HashOnRead says about a damaged block.
const hashOnReadError = "block in storage has different hash than requested"

// readBlock reads r to its end into buf, which it makes larger only if it must.
func readBlock(r io.Reader, buf []byte) ([]byte, error) {
	buf = buf[:0]
	for {
		var n int
		var err error
		if len(buf) < cap(buf) {
			n, err = r.Read(buf[len(buf):min(cap(buf), ipfs.MaxBlock+1)])
			buf = buf[:len(buf)+n]
		} else { // a leaf has filled it, and there should be no more
			var more [512]byte
			n, err = r.Read(more[:])
			buf = append(buf, more[:n]...)
		}
		switch {
		case len(buf) > ipfs.MaxBlock:
			return nil, fmt.Errorf("%w: the node's block is larger than any", ipfs.ErrCorrupt)
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, err
		}
	}
}
