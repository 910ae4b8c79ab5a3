package ipfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
)

// maxAhead is how many blocks of a file that is read from front to back are asked for before they are due. A node takes
// longer for a request than for its bytes.
const maxAhead = 3

// kuboBlocks reads blocks one by one, from what the node has itself. When one leaf has followed another, as the node above
// them has it, those after them are asked for as well.
type kuboBlocks struct {
	k    *Kubo
	buf  []byte
	have cid.Cid // what buf holds

	leaves []cid.Cid // of the last node, in their order
	last   int       // which of them was got last; -1: none
	ahead  []*fetch  // of those after it, in their order
	spare  [][]byte  // buffers of fetches that are over
}

// fetch is a block on its way.
type fetch struct {
	c      cid.Cid
	cancel context.CancelFunc
	done   chan struct{} // closed when buf and err are set
	buf    []byte
	err    error
}

func (b *kuboBlocks) Get(ctx context.Context, c cid.Cid) ([]byte, error) {
	if b.have.Defined() && c == b.have {
		return b.buf, nil // the root, when the object has just been opened
	}
	b.have = cid.Undef
	if !b.take(ctx, c) {
		b.drop()
		var err error
		if b.buf, err = b.k.getBlock(ctx, c, b.buf); err != nil {
			return nil, err
		}
	}
	b.have = c
	b.lookAhead(ctx, c)
	return b.buf, nil
}

// take waits for a block that was asked for ahead, if it is the one that is due. One that has failed is asked for again: then
// the error is that of the caller's own context.
func (b *kuboBlocks) take(ctx context.Context, c cid.Cid) bool {
	if len(b.ahead) == 0 || b.ahead[0].c != c {
		return false
	}
	f := b.ahead[0]
	b.ahead = b.ahead[1:]
	select {
	case <-f.done:
	case <-ctx.Done():
	}
	f.cancel()
	<-f.done
	b.buf, f.buf = f.buf, b.buf
	b.spare = append(b.spare, f.buf)
	return f.err == nil
}

// lookAhead follows where the reader is, and asks for what it will want next.
func (b *kuboBlocks) lookAhead(ctx context.Context, c cid.Cid) {
	if isNode(c) {
		b.leaves, b.last = leavesOf(b.buf), -1
		return
	}
	next := b.last + 1
	if b.last < 0 || next >= len(b.leaves) || b.leaves[next] != c {
		b.last = slices.Index(b.leaves, c)
		return
	}
	b.last = next
	for len(b.ahead) < maxAhead && next+len(b.ahead)+1 < len(b.leaves) {
		b.ahead = append(b.ahead, b.fetch(ctx, b.leaves[next+len(b.ahead)+1]))
	}
}

// leavesOf are the raw blocks that a node links to. It is not verified yet, so it may be anything: then it has none, or the
// reader will not want them.
func leavesOf(node []byte) (leaves []cid.Cid) {
	pb, _, err := decodeNode(node)
	if err != nil {
		return nil
	}
	for _, l := range pb.Links() {
		if isRaw(l.Cid) {
			leaves = append(leaves, l.Cid)
		}
	}
	return leaves
}

func (b *kuboBlocks) fetch(ctx context.Context, c cid.Cid) *fetch {
	ctx, cancel := context.WithCancel(ctx)
	f := &fetch{c: c, cancel: cancel, done: make(chan struct{})}
	if n := len(b.spare); n > 0 {
		f.buf, b.spare = b.spare[n-1], b.spare[:n-1]
	}
	go func() {
		defer close(f.done)
		f.buf, f.err = b.k.getBlock(ctx, c, f.buf)
	}()
	return f
}

// drop gives up what was asked for ahead: the reader went elsewhere.
func (b *kuboBlocks) drop() {
	for _, f := range b.ahead {
		f.cancel()
	}
	for _, f := range b.ahead {
		<-f.done
		b.spare = append(b.spare, f.buf)
	}
	b.ahead = nil
}

func (b *kuboBlocks) Close() error {
	b.drop()
	return nil
}

// getBlock reads a block into buf, or into a larger one.
func (k *Kubo) getBlock(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	watched, watch := k.watch(ctx)
	defer watch.end()
	req := k.api.Request("block/get", c.String()).Option("offline", true)
	err := receive(watched, req, func(r io.Reader) (err error) {
		buf, err = readBlock(r, buf)
		return err
	})
	switch {
	case err == nil:
		return buf, nil
	case errors.Is(err, ErrCorrupt):
		return buf, err
	case ctx.Err() == nil && strings.Contains(err.Error(), format.ErrNotFound{Cid: c}.Error()):
		return buf, fmt.Errorf("%w: block %s", ErrNotFound, c)
	case ctx.Err() == nil && strings.Contains(err.Error(), hashOnReadError):
		return buf, fmt.Errorf("%w: block %s: %w", ErrCorrupt, c, err)
	}
	return buf, fail(ctx, watched, "block/get", err)
}

// hashOnReadError is what a node with Datastore.HashOnRead says about a damaged block.
const hashOnReadError = "block in storage has different hash than requested"

// readBlock reads r to its end into buf, which it makes larger only if it must.
func readBlock(r io.Reader, buf []byte) ([]byte, error) {
	buf = slices.Grow(buf[:0], chunkSize+1) // one byte more than a leaf, to see its end
	for {
		n, err := r.Read(buf[len(buf):min(cap(buf), MaxBlock+1)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > MaxBlock:
			return buf, fmt.Errorf("%w: the node's block is larger than any", ErrCorrupt)
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf, err
		case len(buf) == cap(buf):
			buf = slices.Grow(buf, chunkSize)
		}
	}
}
