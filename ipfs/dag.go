package ipfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/readahead"
)

const (
	ChunkSize = 1 << 20 // of a leaf: a quarter of the blocks that 256 KiB would make, half of MaxBlock
	maxLinks  = 1024    // of an interior node, which keeps it below 64 KiB
	maxDirect = 1024    // entries of a directory: far below the 256 KiB at which kubo shards it
)

// Node is a finished file or directory.
type Node struct {
	CID   cid.Cid
	Size  uint64 // bytes of content
	Tsize uint64 // bytes of all its blocks
}

// Entry is a Node with its name in a directory.
type Entry struct {
	Name string
	Node Node
}

// chunks holds buffers for leaves.
var chunks = sync.Pool{New: func() any { return new([ChunkSize]byte) }}

// AddFile builds a file from r up to io.EOF and gives each block to add as soon as it is full. It
// returns any other error of r unchanged, also io.ErrUnexpectedEOF: a source that was cut short
// must not pass for a whole one. It returns an error of add unchanged, too. It needs the memory of
// one chunk and of one unfinished node for each level, for a file of any size.
func AddFile(add AddFunc, r io.Reader) (Node, error) {
	buf := GetBuffer()
	defer PutBuffer(buf)

	t := tree{add: add}
	for {
		n, err := readahead.Fill(r, buf)
		if err != nil && err != io.EOF {
			return Node{}, err
		}
		// An empty file is one empty leaf.
		if n > 0 || len(t.levels) == 0 {
			if err := t.addLeaf(buf[:n]); err != nil {
				return Node{}, err
			}
		}
		if err == io.EOF {
			return t.finish()
		}
	}
}

// A Scratch keeps the bytes of one block until the block is full.
type Scratch interface {
	io.Writer
	io.ReaderAt
	Truncate(size int64) error
}

// scratchPiece is how much is read at a time for a Scratch.
const scratchPiece = 32 << 10

// AddFileSlowly is AddFile for when there is no memory for a chunk that a slow source fills. It
// fills each chunk in scratch, which must be empty, and takes memory from the budget only while it
// adds a full one. It may wait for that memory, until ctx ends.
func AddFileSlowly(ctx context.Context, add AddFunc, r io.Reader, budget *memory.Budget, scratch Scratch) (Node, error) {
	t := tree{add: add}
	piece := make([]byte, scratchPiece)
	for {
		size := int64(0)
		var err error
		for size < ChunkSize && err == nil {
			var n int
			n, err = readahead.AtLeast(r, piece[:min(scratchPiece, ChunkSize-size)], 1)
			size += int64(n)
			if _, writeErr := scratch.Write(piece[:n]); writeErr != nil {
				return Node{}, writeErr
			}
		}
		if err != nil && err != io.EOF {
			return Node{}, err
		}
		if size > 0 || len(t.levels) == 0 {
			if err := t.addScratch(ctx, scratch, size, budget); err != nil {
				return Node{}, err
			}
		}
		if err == io.EOF {
			return t.finish()
		}
	}
}

// addScratch adds the chunk in scratch, and empties scratch.
func (t *tree) addScratch(ctx context.Context, scratch Scratch, size int64, budget *memory.Budget) error {
	if err := budget.Acquire(ctx, ChunkSize); err != nil {
		return err
	}
	defer budget.Release(ChunkSize)
	buf := GetBuffer()
	defer PutBuffer(buf)
	if n, err := scratch.ReadAt(buf[:size], 0); int64(n) < size {
		return fmt.Errorf("read block from disk: %w", err)
	}
	if err := scratch.Truncate(0); err != nil {
		return err
	}
	return t.addLeaf(buf[:size])
}

// AddLeaf adds a small file: one block, of at most MaxBlock bytes.
func AddLeaf(add AddFunc, data []byte) (Node, error) {
	t := tree{add: add}
	if err := t.addLeaf(data); err != nil {
		return Node{}, err
	}
	return t.finish()
}

// tree is a balanced tree that grows to the right. levels holds, for each level from the leaves up,
// the nodes that have no parent yet.
type tree struct {
	add    AddFunc
	levels [][]Node
}

func (t *tree) addLeaf(data []byte) error {
	b := newBlock(cid.Raw, data)
	if err := t.add(b); err != nil {
		return err
	}
	size := uint64(len(data))
	return t.push(0, Node{CID: b.CID, Size: size, Tsize: size})
}

// push appends n to a level. A full level gets its parent only when one more node comes: until then
// the parent may be the root.
func (t *tree) push(level int, n Node) error {
	if level == len(t.levels) {
		t.levels = append(t.levels, make([]Node, 0, 1))
	}
	if len(t.levels[level]) == maxLinks {
		if err := t.fold(level); err != nil {
			return err
		}
	}
	t.levels[level] = append(t.levels[level], n)
	return nil
}

// fold gives the nodes of a level their parent.
func (t *tree) fold(level int) error {
	b, n := encodeFileNode(t.levels[level])
	if err := t.add(b); err != nil {
		return err
	}
	t.levels[level] = t.levels[level][:0]
	return t.push(level+1, n)
}

// finish folds level after level until one node is left at the top. All leaves are at the same
// depth, so the right edge of the tree may have nodes with a single child.
func (t *tree) finish() (Node, error) {
	for level := 0; ; level++ {
		if level == len(t.levels)-1 && len(t.levels[level]) == 1 {
			return t.levels[level][0], nil
		}
		if err := t.fold(level); err != nil {
			return Node{}, err
		}
	}
}

// AddDirectory builds a directory of finished nodes. Names must be unique, and not empty, ".", ".."
// or with "/" or NUL.
func AddDirectory(add AddFunc, entries ...Entry) (Node, error) {
	d := make(Directory, len(entries))
	for _, e := range entries {
		d[e.Name] = e.Node
	}
	if len(d) < len(entries) {
		return Node{}, errors.New("ipfs: directory with two entries of one name")
	}
	return d.Add(add)
}

// Add builds the directory's block. Names must not be empty, ".", ".." or with "/" or NUL.
func (d Directory) Add(add AddFunc) (Node, error) {
	b, n, err := d.encode()
	if err != nil {
		return Node{}, err
	}
	return n, add(b)
}

// CID returns the CID that Add would give to the directory. It stores nothing.
func (d Directory) CID() (cid.Cid, error) {
	b, _, err := d.encode()
	return b.CID, err
}

func (d Directory) encode() (Block, Node, error) {
	if len(d) > maxDirect {
		return Block{}, Node{}, fmt.Errorf("ipfs: directory with %d entries", len(d))
	}
	entries := make([]Entry, 0, len(d))
	for name, n := range d {
		if !validName(name) || !isRaw(n.CID) && !isNode(n.CID) {
			return Block{}, Node{}, fmt.Errorf("ipfs: directory with a bad entry %q", name)
		}
		entries = append(entries, Entry{name, n})
	}
	b, n := encodeDirectory(entries)
	return b, n, nil
}
