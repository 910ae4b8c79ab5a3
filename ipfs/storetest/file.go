package storetest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// PutFile stores a file as an object of its own.
func PutFile(t testing.TB, s ipfs.Store, r io.Reader) cid.Cid {
	t.Helper()
	root, err := s.Put(t.Context(), "detach test", fileOf(r))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func fileOf(r io.Reader) func(ipfs.AddFunc) (cid.Cid, error) {
	return func(add ipfs.AddFunc) (cid.Cid, error) {
		n, err := ipfs.AddFile(add, r)
		return n.CID, err
	}
}

// TryPutFile is PutFile for a Put that may fail.
func TryPutFile(ctx context.Context, s ipfs.Store, r io.Reader) (cid.Cid, error) {
	return s.Put(ctx, "detach test", fileOf(r))
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

// ReadFile reads what PutFile stored. Beside an error it returns the bytes before it.
func ReadFile(t testing.TB, s ipfs.Store, root cid.Cid) ([]byte, error) {
	t.Helper()
	blocks, err := s.Open(t.Context(), root)
	if err != nil {
		return nil, err
	}
	defer blocks.Close()
	f, err := OpenFile(t, blocks, root)
	if err != nil {
		return nil, err
	}
	data := make([]byte, f.Size())
	n, err := io.ReadFull(f, data)
	return data[:n], err
}

// Recorder is an [ipfs.Blocks] that records what it was asked for.
type Recorder struct {
	Blocks map[cid.Cid][]byte
	Asked  []cid.Cid
	Budget *memory.Budget
}

// NewRecorder returns a Recorder without blocks.
func NewRecorder() *Recorder { return &Recorder{Blocks: map[cid.Cid][]byte{}} }

// Add is an [ipfs.AddFunc].
func (m *Recorder) Add(b ipfs.Block) error {
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

// Memory implements [ipfs.Blocks].
func (m *Recorder) Memory() *memory.Budget { return m.Budget }

// Close implements [ipfs.Blocks].
func (m *Recorder) Close() error { return nil }
