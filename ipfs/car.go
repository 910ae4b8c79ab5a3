package ipfs

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
)

// A CARv1 is a header with the root, then one section for each block: its length, its CID, its
// bytes (https://ipld.io/specs/transport/car/carv1/). The header is DAG-CBOR, which has only one
// encoding: with one root of our form it always has the same 59 bytes, except for the CID, so it
// can be written before the root is known and patched later.
const (
	carBefore = "\x3a\xa2\x65roots\x81\xd8\x2a\x58\x25\x00"
	carAfter  = "\x67version\x01"
	// CARHeaderSize is the size of a CAR's header.
	CARHeaderSize  = len(carBefore) + cidLen + len(carAfter)
	maxSectionHead = binary.MaxVarintLen32 + cidLen
)

// noRoot is the placeholder for a root that is not known yet: the CID of an empty raw block.
var noRoot = newBlock(cid.Raw, nil).CID

// CARHeader returns the header of a CAR. The root must be of our form.
func CARHeader(root cid.Cid) []byte {
	return []byte(carBefore + root.KeyString() + carAfter)
}

// parseCARHeader returns the root, which is of our form.
func parseCARHeader(h []byte) (cid.Cid, error) {
	if len(h) == CARHeaderSize {
		root, err := parseCID(h[len(carBefore) : len(carBefore)+cidLen])
		if err == nil && string(h) == string(CARHeader(root)) {
			return root, nil
		}
	}
	return cid.Undef, fmt.Errorf("%w: not a CARv1 with one root of our form", ErrCorrupt)
}

func parseCID(b []byte) (cid.Cid, error) {
	n, c, err := cid.CidFromBytes(b)
	if err != nil || n != len(b) || !isRaw(c) && !isNode(c) {
		return cid.Undef, fmt.Errorf("%w: CID not of our form", ErrCorrupt)
	}
	return c, nil
}

// parseSection reads the head of a section: its block's CID, and start and size of its bytes.
func parseSection(h []byte) (c cid.Cid, start, size int, err error) {
	n, k := binary.Uvarint(h)
	if k <= 0 || n < cidLen || n > cidLen+MaxBlock || len(h) < k+cidLen {
		return cid.Undef, 0, 0, fmt.Errorf("%w: CAR section cut or of a bad length", ErrCorrupt)
	}
	c, err = parseCID(h[k : k+cidLen])
	return c, k + cidLen, int(n) - cidLen, err
}

// CARWriter writes the sections of a CAR and counts them. It writes no header.
type CARWriter struct {
	// Count is the number of blocks written, and Size the sum of their sizes, without CIDs.
	Count, Size uint64

	w    io.Writer
	head []byte
	last cid.Cid
}

// NewCARWriter returns a writer to w.
func NewCARWriter(w io.Writer) *CARWriter {
	return &CARWriter{w: w, head: make([]byte, 0, maxSectionHead)}
}

// WriteHeader writes a header with a placeholder for the root. Once the root is known, the writer
// of a file overwrites the header with [CARHeader].
func (cw *CARWriter) WriteHeader() error {
	_, err := cw.w.Write(CARHeader(noRoot))
	return err
}

// Write writes a section. It returns the underlying writer's error.
func (cw *CARWriter) Write(b Block) error {
	if err := cw.writeHead(b.CID, len(b.Data)); err != nil {
		return err
	}
	if _, err := cw.w.Write(b.Data); err != nil {
		return err
	}
	cw.Count++
	cw.Size += uint64(len(b.Data))
	cw.last = b.CID
	return nil
}

// CheckRoot returns an error unless root is the last block written. AddFile and AddDirectory write
// children before parents.
func (cw *CARWriter) CheckRoot(root cid.Cid) error {
	if cw.Count == 0 || cw.last != root {
		return fmt.Errorf("ipfs: the root %s is not the last block of the object", root)
	}
	return nil
}

// writeHead writes the head of a section: the part before the block's bytes.
func (cw *CARWriter) writeHead(c cid.Cid, size int) error {
	cw.head = binary.AppendUvarint(cw.head[:0], uint64(cidLen+size))
	cw.head = append(cw.head, c.KeyString()...)
	_, err := cw.w.Write(cw.head)
	return err
}

// ExportCAR writes an object as a CARv1, depth first, in the order in which OpenDirectory and
// OpenFile read it, and verifies every block. It writes a block at each of its places in the object
// ("dups=y" in the terms of trustless gateways), so readers need not remember blocks. It leaves out
// the blocks of a file that end before the offset from: a File that is read from there does not get
// them.
//
// With an entry, the CAR has only that entry of the directory root. The CAR's root is the entry,
// and the directory comes first, as proof that the entry exists. If it does not exist, the error is
// ErrNotFound.
//
// An error within the first 64 KiB leaves w untouched; after a later one the CAR is incomplete.
func ExportCAR(ctx context.Context, w io.Writer, b Blocks, root cid.Cid, entry string, from int64) error {
	out := bufio.NewWriterSize(w, exportBuffer)
	x := exporter{ctx: ctx, out: out, car: NewCARWriter(out), blocks: b, from: from, leaf: leaf{blocks: b}}
	defer x.leaf.release()
	if err := x.exportPath(root, entry); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return writeError(err)
	}
	return nil
}

// exportBuffer is the unit in which ExportCAR writes.
const exportBuffer = 32 << 10

// childMemory is what a child takes: itself, and the bytes of its CID.
const childMemory = 80

// ExportMemory returns about how many bytes ExportCAR keeps while it writes a file of this size,
// besides a leaf: its buffer, and the links of a node for each level.
func ExportMemory(size int64) int64 {
	links := min(size/ChunkSize+1, maxLinks)
	if size > maxLinks*ChunkSize {
		links += min(size/(maxLinks*ChunkSize)+1, maxLinks)
	}
	return exportBuffer + links*childMemory
}

type exporter struct {
	ctx    context.Context
	out    *bufio.Writer
	car    *CARWriter
	blocks Blocks
	from   int64
	leaf   leaf
}

func (x *exporter) exportPath(root cid.Cid, entry string) error {
	c := root
	var proof []byte
	if entry != "" {
		var err error
		if proof, err = x.get(root); err != nil {
			return err
		}
		if c, err = lookUp(proof, entry); err != nil {
			return err
		}
	}
	if !isRaw(c) && !isNode(c) {
		return errForm(c)
	}
	if _, err := x.out.Write(CARHeader(c)); err != nil {
		return writeError(err)
	}
	if proof != nil {
		if err := x.car.Write(Block{root, proof}); err != nil {
			return writeError(err)
		}
	}
	return x.export(child{c: c, size: -1, isEntry: entry != ""})
}

// get returns a verified node.
func (x *exporter) get(c cid.Cid) ([]byte, error) {
	data, err := x.blocks.Get(x.ctx, c, nil)
	if err == nil {
		err = Verify(c, data)
	}
	return data, err
}

// export writes a block and the DAG below it. It checks sizes as File does, so the output is never
// larger than the root declares.
func (x *exporter) export(at child) error {
	if isRaw(at.c) {
		return x.exportLeaf(at.c, at.size)
	}
	if at.depth == maxDepth {
		return errTooDeep
	}
	data, err := x.get(at.c)
	if err != nil {
		return err
	}
	children, err := at.children(data)
	if err != nil {
		return err
	}
	if err := x.car.Write(Block{at.c, data}); err != nil {
		return writeError(err)
	}
	for _, child := range children {
		if child.size >= 0 && child.start+child.size <= x.from {
			continue
		}
		if err := x.export(child); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) exportLeaf(c cid.Cid, want int64) error {
	if err := x.leaf.move(x.ctx, c, want); err != nil {
		return err
	}
	if err := x.car.writeHead(c, int(x.leaf.size)); err != nil {
		return writeError(err)
	}
	for off := int64(0); off < x.leaf.size; {
		if x.out.Available() == 0 {
			if err := x.out.Flush(); err != nil {
				return writeError(err)
			}
		}
		piece := x.out.AvailableBuffer()
		n, err := x.leaf.read(x.ctx, piece[:cap(piece)], off)
		if err != nil {
			return err
		}
		if _, err := x.out.Write(piece[:n]); err != nil {
			return writeError(err)
		}
		off += int64(n)
	}
	return nil
}

func writeError(err error) error { return fmt.Errorf("write CAR: %w", err) }

// child is the root of what is exported, or a link of a node.
type child struct {
	c       cid.Cid
	start   int64 // offset in the file
	size    int64 // according to the parent; -1 in a directory, which states no sizes
	depth   int   // nodes of the same file above it
	isEntry bool  // of a directory, so it must not be one
}

// children returns the links of the node with this content.
func (at child) children(data []byte) ([]child, error) {
	var children []child
	if at.size < 0 && !at.isEntry {
		entries, err := decodeDirectory(data)
		for _, e := range entries {
			children = append(children, child{c: e.Node.CID, size: -1, isEntry: true})
		}
		if !errors.Is(err, errNotDirectory) {
			return children, err
		}
	}
	node, err := decodeFileNode(data)
	if err != nil {
		return nil, err
	}
	start := int64(0)
	for i, end := range node.ends {
		children = append(children, child{c: node.link(i), start: at.start + start, size: end - start, depth: at.depth + 1})
		start = end
	}
	return children, checkSize(at.c, node.size(), at.size)
}

// ReadCAR reads a depth-first CARv1 stream as it arrives. Its Blocks gives the blocks only in the
// order of the stream: the error of a Get of another block wraps ErrCorrupt. The error of a stream
// that ends early wraps ErrCorrupt and io.ErrUnexpectedEOF. Other errors of r are wrapped. Closing
// the Blocks does not close r. Readers of a stream have no budget.
func ReadCAR(r io.Reader) (root cid.Cid, b Blocks, err error) {
	s := &carStream{r: bufio.NewReaderSize(r, 64<<10)}
	head := make([]byte, CARHeaderSize)
	if _, err := io.ReadFull(s.r, head); err != nil {
		return cid.Undef, nil, carReadError(err)
	}
	if root, err = parseCARHeader(head); err != nil {
		return cid.Undef, nil, err
	}
	return root, s, nil
}

// carStream is a Blocks over a CAR that is still arriving.
type carStream struct {
	r *bufio.Reader
}

func (s *carStream) Get(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	// At the end of the stream Peek may give less than maxSectionHead: parseSection checks whether it
	// is enough.
	head, err := s.r.Peek(maxSectionHead)
	if len(head) == 0 || err != nil && err != io.EOF {
		return nil, carReadError(err)
	}
	next, start, size, err := parseSection(head)
	if err != nil {
		return nil, err
	}
	if next != c {
		return nil, fmt.Errorf("%w: CAR has block %s where %s is due", ErrCorrupt, next, c)
	}
	if _, err := s.r.Discard(start); err != nil {
		return nil, carReadError(err)
	}
	data := resize(buf, size)
	if _, err := io.ReadFull(s.r, data); err != nil {
		return nil, carReadError(err)
	}
	return data, nil
}

// GetPart implements [Blocks]. No reader calls it, because no reader's memory is taken without a
// budget.
func (s *carStream) GetPart(_ context.Context, c cid.Cid, _ int64, _ []byte) error {
	return fmt.Errorf("%w: block %s has passed in the CAR", ErrNotFound, c)
}

func (s *carStream) Memory() *memory.Budget { return nil }

func (s *carStream) Close() error { return nil }

func carReadError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: CAR ends early: %w", ErrCorrupt, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read CAR: %w", err)
}
