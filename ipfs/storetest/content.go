package storetest

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/ipfs"
)

var (
	errSource = errors.New("the source fails")
	// errEarlyEnd is what a multipart or a chunked body cut short says; boxo's chunker would take
	// it for the end of the file.
	errEarlyEnd = io.ErrUnexpectedEOF
)

// reader gives size bytes that look like ciphertext, always the same for the same seed.
func reader(seed uint64, size int64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return io.LimitReader(rand.NewChaCha8(key), size)
}

func content(seed uint64, size int64) []byte {
	data := make([]byte, size)
	if _, err := io.ReadFull(reader(seed, size), data); err != nil {
		panic(err) // it cannot
	}
	return data
}

// failing is a reader that fails after so many bytes.
type failing struct {
	r    io.Reader
	left int64
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, f.err
	}
	n, err := f.r.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, err
}

// hook is a reader that does something once, after so many bytes.
type hook struct {
	r    io.Reader
	left int64
	do   func()
}

func (h *hook) Read(p []byte) (int, error) {
	if h.left <= 0 {
		if h.do != nil {
			h.do()
			h.do = nil
		}
		return h.r.Read(p)
	}
	n, err := h.r.Read(p[:min(int64(len(p)), h.left)])
	h.left -= int64(n)
	return n, err
}

// leafCID is the CID of a leaf that has not been stored.
func leafCID(data []byte) cid.Cid {
	n, err := ipfs.AddFile(func(ipfs.Block) error { return nil }, newBytesReader(data))
	if err != nil {
		panic(err) // it cannot
	}
	return n.CID
}

// object is what has been stored: a directory with the file "data" and a small "meta.jwe".
type object struct {
	root   cid.Cid
	data   ipfs.Node
	blocks []ipfs.Block // in the order they were made; those of "data", then two more
}

// directoryOf builds an object of the form that Detach stores.
func directoryOf(r io.Reader) func(ipfs.AddFunc) (cid.Cid, error) {
	return func(add ipfs.AddFunc) (cid.Cid, error) {
		_, root, err := build(add, r)
		return root, err
	}
}

func build(add ipfs.AddFunc, r io.Reader) (data ipfs.Node, root cid.Cid, err error) {
	data, err = ipfs.AddFile(add, r)
	if err != nil {
		return ipfs.Node{}, cid.Undef, err
	}
	meta, err := ipfs.AddFile(add, reader(data.Size, 300))
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
		obj.data, obj.root, err = build(collect, newBytesReader(data))
		return obj.root, err
	})
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	if root != obj.root {
		t.Fatalf("put: got root %s, want %s", root, obj.root)
	}
	return obj
}

// newBytesReader gives the bytes in pieces that fit nothing.
func newBytesReader(data []byte) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if len(data) == 0 {
			return 0, io.EOF
		}
		n := copy(p[:min(len(p), 77777)], data)
		data = data[n:]
		return n, nil
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// read returns what could be read of an object's "data", and the error that ended it.
func read(ctx context.Context, s ipfs.Store, root cid.Cid) ([]byte, error) {
	blocks, err := s.Open(ctx, root)
	if err != nil {
		return nil, err
	}
	defer blocks.Close()
	entries, err := ipfs.OpenDirectory(ctx, blocks, root)
	if err != nil {
		return nil, err
	}
	f, err := ipfs.OpenFile(ctx, blocks, entries["data"])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, f.Size())
	n, err := io.ReadFull(f, data)
	return data[:n], err
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
