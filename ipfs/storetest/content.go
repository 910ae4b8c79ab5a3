package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/race"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

var errSource = errors.New("the source fails")

// Chacha returns a reader of endless bytes that look like ciphertext, the same for the same seed.
func Chacha(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

func reader(seed uint64, size int64) io.Reader { return io.LimitReader(Chacha(seed), size) }

// Content returns the first size bytes of [Chacha].
func Content[N int | int64](seed uint64, size N) []byte {
	data := make([]byte, size)
	if _, err := io.ReadFull(Chacha(seed), data); err != nil {
		panic(err) // the source has no end
	}
	return data
}

// Vector is the CID that kubo gives to Size bytes of [Chacha](Size).
type Vector struct {
	Size int64
	CID  string
}

// Vectors returns the CIDs of files of all shapes. With -short or -race it omits those from 1 GiB.
func Vectors() []Vector {
	vectors := []Vector{
		{0, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},
		{1, "bafkreiayt5aags7hugm7d6uysfti5y5lmbe7qljyy2f6od2zn2vs4gcxw4"},
		{1<<20 - 1, "bafkreif4fopi43wlfdnm4sfvgt5gnh6bwcu5rc4tso2pc3xg7gcybudwsq"},
		{1 << 20, "bafkreidyiolecebspp6kpbylvrz5vqkxoqymzhaaearyh5tzd7smhkgmzy"},
		{1<<20 + 1, "bafybeibg2qb6u2lt3pu62m6fseimbg4sk7oxhjhkomtri5ad4oasdfsksy"},
		{5<<20 + 77, "bafybeid65qrgwbh6t5bqoarghi4qp2h4plfee7fu7ail5qfosojyqhfybq"},
	}
	if testing.Short() || race.Enabled {
		return vectors
	}
	return append(vectors,
		Vector{1.3e9, "bafybeihe6p4s3qsvutwjndxc5xt4snobikcvvwwbuw3fiqgnhrgkd5toru"},
		Vector{1 << 30, "bafybeiaycbljxuoom3vuot4h7n26765hukegd5z247c6w2eojdz4flji6q"},   // one node, full
		Vector{1<<30 + 1, "bafybeievb6mr45sqw2pszmkodeuapxufghfxwh3jqt3cfolcsp46cddpmu"}, // a third level, and a node with one link
	)
}

// failing returns a reader of the first n bytes of r that then fails with err.
func failing(r io.Reader, n int64, err error) io.Reader {
	return io.MultiReader(io.LimitReader(r, n), iotest.ErrReader(err))
}

// hook returns a reader of r that calls do once, after n bytes.
func hook(r io.Reader, n int64, do func()) io.Reader {
	return io.MultiReader(io.LimitReader(r, n), readerFunc(func([]byte) (int, error) {
		do()
		return 0, io.EOF
	}), r)
}

// Discard is an [ipfs.AddFunc] that stores nothing.
func Discard(ipfs.Block) error { return nil }

// CIDOf returns the CID of a file that is not stored.
func CIDOf(r io.Reader) cid.Cid {
	n, err := ipfs.AddFile(Discard, r)
	if err != nil {
		panic(err) // nothing refuses a block, and the readers of tests do not fail
	}
	return n.CID
}

// object is a stored directory with the file "data" and a small "meta.jwe".
type object struct {
	root   cid.Cid
	data   ipfs.Node
	blocks []ipfs.Block // in the order of add: those of "data", then two more
}

// directoryOf builds an object of the form that Detach stores.
func directoryOf(r io.Reader) func(ipfs.AddFunc) (cid.Cid, error) {
	return func(add ipfs.AddFunc) (cid.Cid, error) {
		_, root, err := build(add, r, 900)
		return root, err
	}
}

func build(add ipfs.AddFunc, r io.Reader, metaSeed uint64) (data ipfs.Node, root cid.Cid, err error) {
	data, err = ipfs.AddFile(add, r)
	if err != nil {
		return ipfs.Node{}, cid.Undef, err
	}
	meta, err := ipfs.AddFile(add, reader(metaSeed, 300))
	if err != nil {
		return ipfs.Node{}, cid.Undef, err
	}
	dir, err := ipfs.AddDirectory(add, ipfs.Entry{Name: "meta.jwe", Node: meta}, ipfs.Entry{Name: "data", Node: data})
	return data, dir.CID, err
}

func put(t *testing.T, s ipfs.Store, data []byte) object {
	t.Helper()
	var obj object
	root, err := s.Put(t.Context(), "detach test", func(add ipfs.AddFunc) (_ cid.Cid, err error) {
		obj = object{}
		collect := func(b ipfs.Block) error {
			obj.blocks = append(obj.blocks, ipfs.Block{CID: b.CID, Data: slices.Clone(b.Data)})
			return add(b)
		}
		obj.data, obj.root, err = build(collect, newBytesReader(data), uint64(len(data)))
		return obj.root, err
	})
	must.Succeed(t, err)
	if root != obj.root {
		t.Fatalf("put: got root %s, want %s", root, obj.root)
	}
	return obj
}

// newBytesReader returns a reader of data in pieces of an odd size.
func newBytesReader(data []byte) io.Reader {
	r := bytes.NewReader(data)
	return readerFunc(func(p []byte) (int, error) { return r.Read(p[:min(len(p), 77777)]) })
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// read reads a file of an object. With an error it returns the bytes read before the error.
func read(ctx context.Context, s ipfs.Store, root cid.Cid, name string) ([]byte, error) {
	blocks, err := s.Open(ctx, root)
	if err != nil {
		return nil, err
	}
	defer blocks.Close()
	entries, err := ipfs.OpenDirectory(ctx, blocks, root)
	if err != nil {
		return nil, err
	}
	return ReadBlocks(ctx, blocks, entries[name].CID)
}

func checkUnchanged(t *testing.T, b Backend, before []string) {
	t.Helper()
	after := b.Objects(t)
	slices.Sort(before)
	slices.Sort(after)
	if !slices.Equal(before, after) {
		t.Errorf("the store has changed: got %v, want %v", after, before)
	}
}
