package ipfs

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"github.com/ipfs/go-cid"
)

// CARIndex maps CIDs to their places in a CAR. It takes 24 bytes for each block.
type CARIndex struct {
	sections []section // sorted by key
}

// section is a block in a CAR. The key is the last 8 bytes of its hash: two blocks may share them,
// so Get compares the CID in the CAR as well.
type section struct {
	key  uint64
	off  int64 // of the CID; the block's bytes follow it
	size int32 // of the CID and the bytes together
}

func keyOf(c cid.Cid) uint64 {
	return binary.BigEndian.Uint64([]byte(c.KeyString()[cidLen-8:]))
}

// find returns the sections that may hold c.
func (x *CARIndex) find(c cid.Cid) []section {
	key := keyOf(c)
	i := sort.Search(len(x.sections), func(i int) bool { return x.sections[i].key >= key })
	j := i
	for j < len(x.sections) && x.sections[j].key == key {
		j++
	}
	return x.sections[i:j]
}

// ScanCAR indexes a CAR of size bytes. It reads only the heads of the sections, a few bytes for
// each MiB. If r is not a whole CAR with that root, the error wraps ErrCorrupt. An error of r other
// than io.EOF wraps ErrUnavailable.
func ScanCAR(r io.ReaderAt, size int64, root cid.Cid) (*CARIndex, error) {
	head := make([]byte, CARHeaderSize)
	if err := readAt(r, head, 0); err != nil {
		return nil, err
	}
	if got, err := parseCARHeader(head); err != nil {
		return nil, err
	} else if got != root {
		return nil, fmt.Errorf("%w: object %s has another root", ErrCorrupt, root)
	}
	x := new(CARIndex)
	for off := int64(CARHeaderSize); off < size; {
		h := head[:min(maxSectionHead, size-off)]
		if err := readAt(r, h, off); err != nil {
			return nil, err
		}
		c, start, n, err := parseSection(h)
		if err != nil {
			return nil, err
		}
		x.sections = append(x.sections, section{keyOf(c), off + int64(start) - cidLen, int32(cidLen + n)})
		off += int64(start + n)
		if off > size {
			return nil, fmt.Errorf("%w: object %s is cut short", ErrCorrupt, root)
		}
	}
	x.sections = slices.Clip(x.sections)
	slices.SortFunc(x.sections, func(a, b section) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.off, b.off))
	})
	// The root is the last block, so a file that was cut between two sections has no root.
	if len(x.find(root)) == 0 {
		return nil, fmt.Errorf("%w: object %s has lost its root", ErrCorrupt, root)
	}
	return x, nil
}

// Get reads a block from the indexed CAR, as [Blocks] describes.
func (x *CARIndex) Get(r io.ReaderAt, c cid.Cid, buf []byte) ([]byte, error) {
	start, size, err := x.locate(r, c)
	if err != nil {
		return nil, err
	}
	data := resize(buf, size)
	return data, readAt(r, data, start)
}

// GetPart reads a part of a block from the indexed CAR, as [Blocks] describes.
func (x *CARIndex) GetPart(r io.ReaderAt, c cid.Cid, off int64, p []byte) error {
	start, size, err := x.locate(r, c)
	if err == nil && off+int64(len(p)) > int64(size) {
		err = fmt.Errorf("%w: block %s has %d bytes", ErrCorrupt, c, size)
	}
	if err != nil {
		return err
	}
	return readAt(r, p, start+off)
}

// locate returns where a block's bytes are in the CAR, and how many they are.
func (x *CARIndex) locate(r io.ReaderAt, c cid.Cid) (start int64, size int, err error) {
	if !isRaw(c) && !isNode(c) {
		return 0, 0, errForm(c)
	}
	for _, s := range x.find(c) {
		var name [cidLen]byte
		if err := readAt(r, name[:], s.off); err != nil {
			return 0, 0, err
		}
		if string(name[:]) == c.KeyString() {
			return s.off + cidLen, int(s.size) - cidLen, nil
		}
	}
	return 0, 0, fmt.Errorf("%w: block %s", ErrNotFound, c)
}

func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: CAR is cut short", ErrCorrupt)
	}
	return Unavailable("read object", err)
}
