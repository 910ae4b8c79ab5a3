package ipfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"

	"github.com/ipfs/go-cid"
)

// index says where in a CAR file each block is.
type index struct {
	info     os.FileInfo
	sections []section // sorted by key
}

// section is a block in a CAR file. The key is the start of its hash: two blocks may share it, so
// the CID in the file is compared as well.
type section struct {
	key  uint64
	off  int64 // of the CID, which the block's bytes follow
	size int32 // of CID and bytes
}

func keyOf(c cid.Cid) uint64 {
	return binary.BigEndian.Uint64([]byte(c.KeyString()[cidLen-8:]))
}

// of tells whether the index belongs to the file as it is now.
func (x *index) of(info os.FileInfo) bool {
	return os.SameFile(x.info, info) && x.info.Size() == info.Size() && x.info.ModTime().Equal(info.ModTime())
}

// find returns the sections that may hold c.
func (x *index) find(c cid.Cid) []section {
	key := keyOf(c)
	i := sort.Search(len(x.sections), func(i int) bool { return x.sections[i].key >= key })
	j := i
	for j < len(x.sections) && x.sections[j].key == key {
		j++
	}
	return x.sections[i:j]
}

// scan reads the head of every section, a few bytes for each MiB of the file. The file must be a
// CAR from its first byte to its last, and have the root it is named after.
func scan(f io.ReaderAt, info os.FileInfo, root cid.Cid) (*index, error) {
	head := make([]byte, carHeaderLen)
	if err := readAt(f, head, 0); err != nil {
		return nil, err
	}
	if got, err := parseCARHeader(head); err != nil {
		return nil, err
	} else if got != root {
		return nil, fmt.Errorf("%w: object %s has another root", ErrCorrupt, root)
	}
	x := &index{info: info}
	for off := int64(carHeaderLen); off < info.Size(); {
		h := head[:min(maxSectionHdr, info.Size()-off)]
		if err := readAt(f, h, off); err != nil {
			return nil, err
		}
		c, start, size, err := parseSection(h)
		if err != nil {
			return nil, err
		}
		x.sections = append(x.sections, section{keyOf(c), off + int64(start) - cidLen, int32(cidLen + size)})
		off += int64(start + size)
		if off > info.Size() {
			return nil, fmt.Errorf("%w: object %s is cut short", ErrCorrupt, root)
		}
	}
	x.sections = slices.Clip(x.sections)
	slices.SortFunc(x.sections, func(a, b section) int {
		if a.key < b.key || a.key == b.key && a.off < b.off {
			return -1
		}
		return 1
	})
	// The root is written last, so this is also how a file cut between two sections shows.
	if len(x.find(root)) == 0 {
		return nil, fmt.Errorf("%w: object %s has lost its root", ErrCorrupt, root)
	}
	return x, nil
}

func readAt(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: CAR file is cut short", ErrCorrupt)
	}
	return unavailable("read object", err)
}

// carFile is the Blocks of an object in a CAR file.
type carFile struct {
	f *os.File
	*index
}

func (b *carFile) Get(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if !isRaw(c) && !isNode(c) {
		return nil, fmt.Errorf("%w: CID %s is not of our form", ErrCorrupt, c)
	}
	for _, s := range b.find(c) {
		var name [cidLen]byte
		if err := readAt(b.f, name[:], s.off); err != nil {
			return nil, err
		}
		if string(name[:]) != c.KeyString() {
			continue
		}
		data := resize(buf, int(s.size)-cidLen)
		return data, readAt(b.f, data, s.off+cidLen)
	}
	return nil, fmt.Errorf("%w: block %s", ErrNotFound, c)
}

func (b *carFile) Close() error { return b.f.Close() }
