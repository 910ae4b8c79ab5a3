package ipfs

import (
	"context"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
)

// maxHold is how long a block stays in memory between two reads. A reader that takes longer is
// slow: from then on it leaves the memory to the fast readers, which need it only for an instant.
const maxHold = 5 * time.Second

// leaf is one verified block of a file, for as long as it is read. It is in memory, or, when too
// many readers hold memory, in the budget's spill file: so 500 slow readers cost disk and not
// memory, and get each block from the store once. The readers that get no slot there keep nothing
// between two reads, and get the block again for each. A leaf is not safe for concurrent use.
type leaf struct {
	blocks Blocks
	c      cid.Cid
	size   int64

	buf     []byte       // verified; nil if the leaf is not in memory
	held    bool         // buf may stay in memory between two reads
	since   time.Time    // when the block got into memory
	slow    bool         // the reader has kept a block for longer than maxHold
	spilled *memory.Slot // nil if the leaf is not in the spill file
}

// read reads the leaf at off. If the leaf was released, read gets it again.
func (l *leaf) read(ctx context.Context, p []byte, off int64) (int, error) {
	// Without a budget there is nobody to leave the memory to, and a CAR that arrives cannot give a
	// block again.
	if l.held && l.blocks.Memory() != nil && time.Since(l.since) > maxHold {
		l.slow = true
		if l.spill(); l.buf != nil {
			l.giveMemory()
		}
	}
	if l.buf == nil && l.spilled == nil {
		if err := l.move(ctx, l.c, l.size); err != nil {
			return 0, err
		}
	}
	if l.buf != nil {
		n := copy(p, l.buf[off:])
		if !l.held {
			l.giveMemory()
		}
		return n, nil
	}
	n, err := l.spilled.ReadAt(p[:min(int64(len(p)), l.size-off)], off)
	if err != nil {
		return 0, Unavailable("read spilled block", err)
	}
	return n, nil
}

// move replaces l with the leaf c. size is that in c's parent, and -1 for a root. If move fails, it
// releases l: no byte of a bad block stays.
func (l *leaf) move(ctx context.Context, c cid.Cid, size int64) error {
	l.c, l.size = c, size
	if err := l.load(ctx); err != nil {
		l.release()
		return err
	}
	l.freeSlot()
	if !l.held {
		l.spill()
	}
	return nil
}

// load gets the block l.c into l's memory.
func (l *leaf) load(ctx context.Context) error {
	if l.buf == nil {
		if err := l.takeMemory(ctx); err != nil {
			return err
		}
	}
	data, err := l.blocks.Get(ctx, l.c, l.buf)
	if err != nil {
		return err
	}
	if !sameBuffer(data, l.buf) {
		PutBuffer(l.buf)
	}
	l.buf = data
	if err := checkSize(l.c, int64(len(data)), l.size); err != nil {
		return err
	}
	l.size, l.since = int64(len(data)), time.Now()
	return Verify(l.c, data)
}

func sameBuffer(a, b []byte) bool { return cap(a) > 0 && cap(b) > 0 && &a[:1][0] == &b[:1][0] }

// takeMemory may wait until another leaf has moved to the disk or was released.
func (l *leaf) takeMemory(ctx context.Context) error {
	if err := l.blocks.Memory().Acquire(ctx, ChunkSize); err != nil {
		return err
	}
	l.held = !l.slow && l.blocks.Memory().Hold(ChunkSize)
	l.buf = GetBuffer()
	return nil
}

// spill moves the leaf to the disk. If that fails, the leaf stays in memory until its next read.
func (l *leaf) spill() {
	if slot, err := l.blocks.Memory().Spill(l.buf); err == nil {
		l.spilled = slot
		l.giveMemory()
	}
}

func (l *leaf) giveMemory() {
	PutBuffer(l.buf)
	l.buf = nil
	if l.held {
		l.blocks.Memory().Unhold(ChunkSize)
		l.held = false
	}
	l.blocks.Memory().Release(ChunkSize)
}

// release gives back the leaf's memory or slot.
func (l *leaf) release() {
	if l.buf != nil {
		l.giveMemory()
	}
	l.freeSlot()
}

func (l *leaf) freeSlot() {
	if l.spilled != nil {
		l.spilled.Free()
		l.spilled = nil
	}
}

// GetBuffer returns a buffer of a leaf's size.
func GetBuffer() []byte { return chunks.Get().(*[ChunkSize]byte)[:] }

// PutBuffer gives a buffer to a later GetBuffer. It ignores a buffer of another size, which may
// hold another program's block.
func PutBuffer(buf []byte) {
	if cap(buf) == ChunkSize {
		chunks.Put((*[ChunkSize]byte)(buf[:ChunkSize]))
	}
}

// resize returns a slice of n bytes, in buf if its capacity suffices.
func resize(buf []byte, n int) []byte { return slices.Grow(buf[:0], n)[:n] }
