package ipfs

import (
	"context"

	"github.com/ipfs/go-cid"
)

// Walk gets and verifies every block of an object, and gives each to add: children before parents,
// and the root last, as Put wants them. So it copies an object from one store to another, and with
// an add that does nothing it verifies that the object is whole. It checks the sizes that parents
// state, as File does. A block that stands at two places of the object is added twice.
//
// Walk needs the memory of a leaf, which it takes from b's budget, and of a node for each level.
// Errors: those of b, ErrCorrupt, and those of add, unchanged.
func Walk(ctx context.Context, b Blocks, root cid.Cid, add AddFunc) error {
	if !isRaw(root) && !isNode(root) {
		return errForm(root)
	}
	if err := b.Memory().Acquire(ctx, ChunkSize); err != nil {
		return err
	}
	defer b.Memory().Release(ChunkSize)
	w := walker{ctx: ctx, blocks: b, add: add, buf: GetBuffer()}
	defer PutBuffer(w.buf)
	return w.walk(child{c: root, size: -1})
}

type walker struct {
	ctx    context.Context
	blocks Blocks
	add    AddFunc
	buf    []byte // of one leaf
}

func (w *walker) walk(at child) error {
	if isRaw(at.c) {
		return w.leaf(at)
	}
	if at.depth == maxDepth {
		return errTooDeep
	}
	data, err := w.get(at.c, nil)
	if err != nil {
		return err
	}
	children, err := at.children(data)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := w.walk(c); err != nil {
			return err
		}
	}
	return w.add(Block{at.c, data})
}

func (w *walker) leaf(at child) error {
	data, err := w.get(at.c, w.buf)
	if err != nil {
		return err
	}
	if err := checkSize(at.c, int64(len(data)), at.size); err != nil {
		return err
	}
	return w.add(Block{at.c, data})
}

// get returns a verified block.
func (w *walker) get(c cid.Cid, buf []byte) ([]byte, error) {
	data, err := w.blocks.Get(w.ctx, c, buf)
	if err == nil {
		err = Verify(c, data)
	}
	return data, err
}
