package ipfs_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/ipfs"
)

const carHeaderLen = 59

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func appendUvarint(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

// chacha gives bytes that look like ciphertext, without end, the same for the same seed.
func chacha(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

func content(seed uint64, size int) []byte {
	data := make([]byte, size)
	_, _ = io.ReadFull(chacha(seed), data)
	return data
}

// putFile stores a file as an object of its own.
func putFile(t testing.TB, s ipfs.Store, r io.Reader) cid.Cid {
	t.Helper()
	root, err := s.Put(t.Context(), "detach test", func(add ipfs.AddFunc) (cid.Cid, error) {
		n, err := ipfs.AddFile(add, r)
		return n.CID, err
	})
	must(t, err)
	return root
}

// openFile opens a file until the test ends.
func openFile(t testing.TB, b ipfs.Blocks, c cid.Cid) (*ipfs.File, error) {
	t.Helper()
	f, err := ipfs.OpenFile(t.Context(), b, c)
	if err == nil {
		t.Cleanup(func() { f.Close() })
	}
	return f, err
}

func readFile(t testing.TB, s ipfs.Store, root cid.Cid) ([]byte, error) {
	t.Helper()
	blocks, err := s.Open(t.Context(), root)
	if err != nil {
		return nil, err
	}
	defer blocks.Close()
	f, err := openFile(t, blocks, root)
	if err != nil {
		return nil, err
	}
	data := make([]byte, f.Size())
	n, err := io.ReadFull(f, data)
	return data[:n], err
}

// memory is a Blocks that also records what has been asked for.
type memory struct {
	blocks map[cid.Cid][]byte
	asked  []cid.Cid
}

func newMemory() *memory { return &memory{blocks: map[cid.Cid][]byte{}} }

func (m *memory) add(b ipfs.Block) error {
	m.blocks[b.CID] = slices.Clone(b.Data)
	return nil
}

func (m *memory) Get(_ context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	m.asked = append(m.asked, c)
	data, ok := m.blocks[c]
	if !ok {
		return nil, fmt.Errorf("%w: block %s", ipfs.ErrNotFound, c)
	}
	return append(buf[:0], data...), nil
}

func (m *memory) Close() error { return nil }

func discard(ipfs.Block) error { return nil }
