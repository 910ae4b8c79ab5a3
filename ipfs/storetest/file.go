package storetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// AddFile is [ipfs.AddFile] of data.
func AddFile(t testing.TB, add ipfs.AddFunc, data []byte) ipfs.Node {
	t.Helper()
	n, err := ipfs.AddFile(add, bytes.NewReader(data))
	must.Succeed(t, err)
	return n
}

// PutFile stores a file as an object of its own.
func PutFile(t testing.TB, s ipfs.Store, r io.Reader) cid.Cid {
	t.Helper()
	root, err := TryPutFile(t.Context(), s, r)
	must.Succeed(t, err)
	return root
}

// TryPutFile is PutFile for a Put that may fail.
func TryPutFile(ctx context.Context, s ipfs.Store, r io.Reader) (cid.Cid, error) {
	return s.Put(ctx, "detach test", func(add ipfs.AddFunc) (cid.Cid, error) {
		n, err := ipfs.AddFile(add, r)
		return n.CID, err
	})
}

// OpenFile opens a file until the test ends.
func OpenFile(t testing.TB, b ipfs.Blocks, c cid.Cid) (*ipfs.File, error) {
	t.Helper()
	f, err := ipfs.OpenFile(t.Context(), b, c)
	if err == nil {
		t.Cleanup(func() { f.Close() })
	}
	return f, err
}

// ReadFile reads a file that PutFile stored. With an error it returns the bytes read before the
// error.
func ReadFile(t testing.TB, s ipfs.Store, root cid.Cid) ([]byte, error) {
	t.Helper()
	blocks, err := s.Open(t.Context(), root)
	if err != nil {
		return nil, err
	}
	defer blocks.Close()
	return ReadBlocks(t.Context(), blocks, root)
}

// ReadBlocks reads the file c. With an error it returns the bytes read before the error.
func ReadBlocks(ctx context.Context, b ipfs.Blocks, c cid.Cid) ([]byte, error) {
	f, err := ipfs.OpenFile(ctx, b, c)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// Recorder is an [ipfs.Blocks] in memory that records the blocks added and requested, in order.
type Recorder struct {
	Blocks map[cid.Cid][]byte
	Added  []cid.Cid
	Asked  []cid.Cid
	Parts  int // calls of GetPart
	Budget *memory.Budget
}

// NewRecorder returns a Recorder without blocks.
func NewRecorder() *Recorder { return &Recorder{Blocks: map[cid.Cid][]byte{}} }

// Add is an [ipfs.AddFunc].
func (m *Recorder) Add(b ipfs.Block) error {
	m.Added = append(m.Added, b.CID)
	m.Blocks[b.CID] = slices.Clone(b.Data)
	return nil
}

// Get implements [ipfs.Blocks].
func (m *Recorder) Get(_ context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	m.Asked = append(m.Asked, c)
	data, ok := m.Blocks[c]
	if !ok {
		return nil, fmt.Errorf("%w: block %s", ipfs.ErrNotFound, c)
	}
	return append(buf[:0], data...), nil
}

// GetPart implements [ipfs.Blocks].
func (m *Recorder) GetPart(_ context.Context, c cid.Cid, off int64, p []byte) error {
	m.Parts++
	data, ok := m.Blocks[c]
	if !ok {
		return fmt.Errorf("%w: block %s", ipfs.ErrNotFound, c)
	}
	if off+int64(len(p)) > int64(len(data)) {
		return fmt.Errorf("%w: block %s has %d bytes", ipfs.ErrCorrupt, c, len(data))
	}
	copy(p, data[off:])
	return nil
}

// Memory implements [ipfs.Blocks].
func (m *Recorder) Memory() *memory.Budget { return m.Budget }

// Close implements [ipfs.Blocks].
func (m *Recorder) Close() error { return nil }
