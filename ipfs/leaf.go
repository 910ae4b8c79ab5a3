package ipfs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
)

// pieceSize is what a reader whose memory was taken reads at a time.
const pieceSize = 32 << 10

// leaf is one verified block of a file, for as long as it is read. Between two reads its memory is
// lent to other readers. A reader whose memory was taken is a slow one in a crowd. It verifies the
// block once more, keeps the hashes of its pieces, and then reads piece by piece: so the store and
// the processor handle each byte a few times, and not the whole block for each read. A leaf is not
// safe for concurrent use.
type leaf struct {
	blocks Blocks
	c      cid.Cid
	size   int64

	buf    []byte       // verified; nil if the leaf is not in memory
	loan   *memory.Loan // of buf, between two reads
	pieces []digest     // of the verified block; nil until its memory is taken
}

type digest = [sha256.Size]byte

// read reads the leaf at off. If the leaf was released, read gets it again.
func (l *leaf) read(ctx context.Context, p []byte, off int64) (int, error) {
	taken := !l.recall()
	if l.buf == nil && l.pieces == nil {
		if err := l.load(ctx); err != nil {
			l.release()
			return 0, err
		}
	}
	if taken {
		l.pieces = digests(l.buf)
		l.giveMemory()
	}
	if l.pieces != nil {
		return l.readPiece(ctx, p, off)
	}
	n := copy(p, l.buf[off:])
	l.lend()
	return n, nil
}

// readPiece reads within one piece, which it gets and verifies.
func (l *leaf) readPiece(ctx context.Context, p []byte, off int64) (int, error) {
	buf := pieceBuffers.Get().(*[pieceSize]byte)
	defer pieceBuffers.Put(buf)
	i := off / pieceSize
	start := i * pieceSize
	piece := buf[:min(pieceSize, l.size-start)]
	if err := l.blocks.GetPart(ctx, l.c, start, piece); err != nil {
		return 0, err
	}
	if sha256.Sum256(piece) != l.pieces[i] {
		return 0, fmt.Errorf("%w: block %s has changed", ErrCorrupt, l.c)
	}
	return copy(p, piece[off-start:]), nil
}

func digests(data []byte) []digest {
	var of []digest
	for piece := range slices.Chunk(data, pieceSize) {
		of = append(of, sha256.Sum256(piece))
	}
	return of
}

// move replaces l with the leaf c. size is that in c's parent, and -1 for a root. If move fails, it
// releases l: no byte of a bad block stays.
func (l *leaf) move(ctx context.Context, c cid.Cid, size int64) error {
	l.recall()
	l.c, l.size, l.pieces = c, size, nil
	if err := l.load(ctx); err != nil {
		l.release()
		return err
	}
	l.lend()
	return nil
}

// load gets the block l.c into l's memory.
func (l *leaf) load(ctx context.Context) error {
	if l.buf == nil {
		if err := l.blocks.Memory().Acquire(ctx, ChunkSize); err != nil {
			return err
		}
		l.buf = GetBuffer()
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
	l.size = int64(len(data))
	return Verify(l.c, data)
}

func sameBuffer(a, b []byte) bool { return cap(a) > 0 && cap(b) > 0 && &a[:1][0] == &b[:1][0] }

// lend lets other readers take the memory until recall.
func (l *leaf) lend() {
	l.loan = l.blocks.Memory().Lend(ChunkSize, func() {
		PutBuffer(l.buf)
		l.buf = nil
	})
}

// recall ends the loan, and reports whether the memory is still the leaf's.
func (l *leaf) recall() bool {
	loan := l.loan
	l.loan = nil
	return loan.Recall()
}

func (l *leaf) giveMemory() {
	PutBuffer(l.buf)
	l.buf = nil
	l.blocks.Memory().Release(ChunkSize)
}

// release gives back the leaf's memory.
func (l *leaf) release() {
	if l.recall(); l.buf != nil {
		l.giveMemory()
	}
	l.pieces = nil
}

// pieceBuffers holds buffers for readPiece.
var pieceBuffers = sync.Pool{New: func() any { return new([pieceSize]byte) }}

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
