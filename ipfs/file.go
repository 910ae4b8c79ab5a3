package ipfs

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"
)

// maxDepth bounds the nodes above a leaf: five levels of 1024 links to 1 MiB leaves address 1 ZiB.
const maxDepth = 5

var errTooDeep = fmt.Errorf("%w: file nested too deeply", ErrCorrupt)

// Directory is the content of a directory: its entries by their names. A directory that was read
// knows the CIDs and the Tsizes of its entries, but no Size.
type Directory map[string]Node

// OpenDirectory returns a directory, verified. It refuses a block that AddDirectory would not have
// written, so two directories with equal entries are one, and Directory.CID returns root.
func OpenDirectory(ctx context.Context, b Blocks, root cid.Cid) (Directory, error) {
	if !isNode(root) {
		return nil, fmt.Errorf("%w: %s is not a directory", ErrCorrupt, root)
	}
	data, err := b.Get(ctx, root, nil)
	if err != nil {
		return nil, err
	}
	if err := Verify(root, data); err != nil {
		return nil, err
	}
	list, err := decodeDirectory(data)
	if err != nil {
		return nil, err
	}
	d := make(Directory, len(list))
	for _, e := range list {
		d[e.Name] = e.Node
	}
	return d, nil
}

// ReadLeaf returns the content of a small file that AddLeaf wrote: one block. The error of a larger
// or of any other file wraps ErrCorrupt.
func ReadLeaf(ctx context.Context, b Blocks, c cid.Cid, limit int) ([]byte, error) {
	if !isRaw(c) {
		return nil, fmt.Errorf("%w: %s is not a raw block", ErrCorrupt, c)
	}
	data, err := b.Get(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	if err := Verify(c, data); err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrCorrupt, len(data), limit)
	}
	return data, nil
}

// File reads a stored file. It checks every block against its CID, and the block's size against its
// parent, before it returns a byte of it. The error of a block that fails the check wraps
// ErrCorrupt, that of a missing block wraps ErrNotFound.
//
// A File that is read from front to back gets each block once, depth first, when it is needed. It
// keeps one node for each level and one leaf. It releases the leaf once its last byte is read; a
// read after a seek back gets the leaf again. Without memory for large nodes, a File gets its nodes
// again for each leaf.
type File struct {
	ctx    context.Context // of the request that reads the file
	blocks Blocks
	root   cid.Cid
	size   int64
	off    int64

	path      []frame // the nodes from the root down to the parent of leaf; empty: not kept
	claimed   int64   // bytes of the budget for path
	leaf      leaf    // the file from leafStart to leafEnd
	leafStart int64
	leafEnd   int64
}

// frame is a node on the path, and where in the file it starts.
type frame struct {
	*fileNode
	start int64
}

// OpenFile opens a file by its own CID, not that of a directory. It gets the root block to know the
// size. ctx governs every later read too. The caller closes the file and then b. Several files over
// the same Blocks may be read in turns.
func OpenFile(ctx context.Context, b Blocks, c cid.Cid) (*File, error) {
	f := &File{ctx: ctx, blocks: b, root: c, leaf: leaf{blocks: b}}
	if isRaw(c) {
		if err := f.moveLeaf(c, 0, -1); err != nil {
			return nil, err
		}
		if f.size = f.leaf.size; f.size == 0 {
			f.leaf.release()
		}
		return f, nil
	}
	if err := f.descend(c, 0, -1); err != nil {
		return nil, err
	}
	f.size = f.path[0].size()
	f.keepPath()
	return f, nil
}

// Close gives back the file's memory and returns nil. It does not close the file's Blocks.
func (f *File) Close() error {
	f.leaf.release()
	f.path = nil
	f.blocks.Memory().Release(f.claimed)
	f.claimed = 0
	return nil
}

// Size returns the file's size, which the verified root states. A child of another size is an error
// when it is read, never a short success.
func (f *File) Size() int64 { return f.size }

// Read implements io.Reader.
func (f *File) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if f.off >= f.size {
		return 0, io.EOF
	}
	if f.off < f.leafStart || f.off >= f.leafEnd {
		if err := f.find(); err != nil {
			return 0, err
		}
	}
	n, err := f.leaf.read(f.ctx, p, f.off-f.leafStart)
	if f.off += int64(n); f.off == f.size {
		f.leaf.release()
	}
	return n, err
}

// Seek implements io.Seeker. It reads nothing.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		offset += f.size
	default:
		return 0, errors.New("ipfs: seek: invalid whence")
	}
	if offset < 0 {
		return 0, errors.New("ipfs: seek before the start of the file")
	}
	f.off = offset
	return offset, nil
}

// freePath is how many bytes of nodes a File keeps without asking its budget: those of 200 leaves.
const freePath = 200 * linkMemory

// keepPath keeps the nodes for the next leaf if there is memory for them.
func (f *File) keepPath() {
	need := -int64(freePath)
	for _, node := range f.path {
		need += int64(len(node.links)) * linkMemory
	}
	if need <= f.claimed {
		return
	}
	if !f.blocks.Memory().Claim(need - f.claimed) {
		f.path = nil
		return
	}
	f.claimed = need
}

// find moves to the leaf that holds the byte at f.off: up to the first node that covers the byte,
// then down.
func (f *File) find() error {
	defer f.keepPath()
	if len(f.path) == 0 {
		if err := f.descend(f.root, 0, f.size); err != nil {
			return err
		}
	}
	for f.off < f.top().start || f.off >= f.top().start+f.top().size() {
		f.path = f.path[:len(f.path)-1] // never the root, which covers the whole file
	}
	for {
		node := f.top()
		i, start, size := node.find(f.off - node.start)
		start += node.start
		c := node.link(i)
		if isRaw(c) {
			return f.moveLeaf(c, start, size)
		}
		if err := f.descend(c, start, size); err != nil {
			return err
		}
	}
}

func (f *File) top() frame { return f.path[len(f.path)-1] }

// descend puts an interior node on the path.
func (f *File) descend(c cid.Cid, start, want int64) error {
	if len(f.path) == maxDepth {
		return errTooDeep
	}
	if !isNode(c) {
		return errForm(c)
	}
	data, err := f.blocks.Get(f.ctx, c, nil)
	if err != nil {
		return err
	}
	if err := Verify(c, data); err != nil {
		return err
	}
	node, err := decodeFileNode(data)
	if err != nil {
		return err
	}
	if err := checkSize(c, node.size(), want); err != nil {
		return err
	}
	f.path = append(f.path, frame{node, start})
	return nil
}

func (f *File) moveLeaf(c cid.Cid, start, want int64) error {
	f.leafEnd = f.leafStart // after a failure the leaf covers no byte
	if err := f.leaf.move(f.ctx, c, want); err != nil {
		return err
	}
	f.leafStart, f.leafEnd = start, start+f.leaf.size
	return nil
}

// checkSize compares a block's size with the size in its parent. want is -1 for a root.
func checkSize(c cid.Cid, got, want int64) error {
	if want >= 0 && got != want {
		return fmt.Errorf("%w: block %s covers %d bytes, its parent says %d", ErrCorrupt, c, got, want)
	}
	return nil
}
