package ipfs

import (
	"context"
	"slices"

	"github.com/ipfs/go-cid"
)

const (
	// maxLeaves bounds the memory of all readers together, to 48 MiB.
	maxLeaves = 48
	// maxKept of them are for leaves that are being read, for as long as a client may take over that. The others are
	// for those on their way from the store.
	maxKept = 32
)

var (
	leafRoom = make(chan struct{}, maxLeaves) // has one in it for each that is in use
	keptRoom = make(chan struct{}, maxKept)   // and for each of these that is read in memory
)

// leaf is one block of a file, verified, while it is read. It has a MiB of memory, or in a crowd a place in a file
// that has no name: so five hundred slow readers cost a disk's memory, and the store is asked for each block once.
//
// It is for one goroutine.
type leaf struct {
	blocks Blocks
	c      cid.Cid
	size   int64 // what its parent says, -1 for a root, which has none; then what it is

	buf    []byte // verified; nil when it is not in memory
	kept   bool   // buf is one of maxKept
	parked *place // where it is if it is not in memory; nil: nowhere
}

// read reads the leaf at off. If it is not here any more it is got again.
func (l *leaf) read(ctx context.Context, p []byte, off int64) (int, error) {
	if l.buf == nil && l.parked == nil {
		if err := l.load(ctx); err != nil {
			return 0, err
		}
	}
	if l.buf != nil {
		return copy(p, l.buf[off:]), nil
	}
	return l.parked.readAt(p[:min(int64(len(p)), l.size-off)], off)
}

// move makes it the leaf c, in the place of the one before.
func (l *leaf) move(ctx context.Context, c cid.Cid, size int64) error {
	l.c, l.size = c, size
	return l.load(ctx)
}

// load gets the block, in the memory of the one before if that is there. Not a byte of it stays if it is not the one
// that c says.
func (l *leaf) load(ctx context.Context) error {
	if l.buf == nil {
		if err := l.takeMemory(ctx); err != nil {
			return err
		}
	}
	data, err := l.blocks.Get(ctx, l.c, l.buf)
	if err == nil {
		l.buf = data
		err = checkSize(l.c, int64(len(data)), l.size)
	}
	if err == nil {
		err = Verify(l.c, data)
	}
	if err != nil {
		l.release()
		return err
	}
	l.size = int64(len(data))
	if !l.kept {
		l.park()
	} else if l.parked != nil {
		l.parked.give()
		l.parked = nil
	}
	return nil
}

// takeMemory waits until another leaf has arrived. Whoever waits holds no memory.
func (l *leaf) takeMemory(ctx context.Context) error {
	select {
	case leafRoom <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case keptRoom <- struct{}{}:
		l.kept = true
	default:
	}
	l.buf = chunks.Get().(*[chunkSize]byte)[:]
	return nil
}

// park moves the leaf out of memory. Where that cannot be done it stays there: then the others have less.
func (l *leaf) park() {
	if l.parked == nil {
		p, err := takePlace()
		if err != nil {
			return
		}
		l.parked = p
	}
	if err := l.parked.write(l.buf); err != nil {
		l.parked.give()
		l.parked = nil
		return
	}
	l.giveMemory()
}

func (l *leaf) giveMemory() {
	keepChunk(l.buf)
	l.buf = nil
	if l.kept {
		l.kept = false
		<-keptRoom
	}
	<-leafRoom
}

// release gives back what the leaf has. It may be read again.
func (l *leaf) release() {
	if l.buf != nil {
		l.giveMemory()
	}
	if l.parked != nil {
		l.parked.give()
		l.parked = nil
	}
}

// keepChunk keeps a buffer for whoever needs one next, but for one that has grown, for a block of another
// program's.
func keepChunk(buf []byte) {
	if cap(buf) == chunkSize {
		chunks.Put((*[chunkSize]byte)(buf[:chunkSize]))
	}
}

// GetChunk returns a buffer for a leaf.
func GetChunk() []byte { return chunks.Get().(*[chunkSize]byte)[:] }

// PutChunk takes the buffer back.
func PutChunk(buf []byte) { keepChunk(buf) }

// IsNode reports whether a CID is that of a node of ours.
func IsNode(c cid.Cid) bool { return isNode(c) }

// LeavesOf returns the raw blocks that a node links to, and none if it is not a node of a file.
func LeavesOf(node []byte) (leaves []cid.Cid) {
	n, err := decodeFileNode(node)
	if err != nil {
		return nil
	}
	for i := range n.links {
		if c := n.link(i); isRaw(c) {
			leaves = append(leaves, c)
		}
	}
	return leaves
}

// resize makes a slice of n bytes, in buf if they fit.
func resize(buf []byte, n int) []byte { return slices.Grow(buf[:0], n)[:n] }
