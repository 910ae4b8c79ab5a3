package ipfs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/race"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// adders build the same files.
var adders = map[string]func(ipfs.AddFunc, io.Reader) (ipfs.Node, error){
	"AddFile": ipfs.AddFile,
	"AddFileSlowly": func(add ipfs.AddFunc, r io.Reader) (ipfs.Node, error) {
		scratch := spool.New(nil)
		defer scratch.Close()
		return ipfs.AddFileSlowly(context.Background(), add, r, nil, scratch)
	},
}

func TestAddFileVectors(t *testing.T) {
	for name, addFile := range adders {
		for _, v := range storetest.Vectors() {
			n, err := addFile(storetest.Discard, io.LimitReader(storetest.Chacha(uint64(v.Size)), v.Size))
			must.Succeed(t, err)
			if n.CID.String() != v.CID || n.Size != uint64(v.Size) {
				t.Errorf("%s, %d bytes: got %s of %d bytes, want %s", name, v.Size, n.CID, n.Size, v.CID)
			}
		}
	}
	for _, size := range []int{0, 1, 1000, ipfs.ChunkSize} {
		data := storetest.Content(52, size)
		if n, err := ipfs.AddLeaf(storetest.Discard, data); err != nil || n != storetest.AddFile(t, storetest.Discard, data) {
			t.Errorf("AddLeaf of %d bytes: %v, %v", size, n, err)
		}
	}
}

// A file whose source is slow takes memory only for a full block, and waits for it.
func TestAddFileSlowlyHoldsNoMemory(t *testing.T) {
	budget := memory.New(ipfs.ChunkSize)
	scratch := spool.New(nil)
	defer scratch.Close()
	blocks := 0
	add := func(ipfs.Block) error {
		if used := budget.Used(); used != ipfs.ChunkSize && blocks < 3 { // the last is their parent
			t.Errorf("%d bytes are taken while a block is added", used)
		}
		blocks++
		return nil
	}
	src := readFunc(func(p []byte) (int, error) {
		if used := budget.Used(); used != 0 {
			t.Errorf("%d bytes are taken while the source is read", used)
		}
		return len(p), nil
	})
	_, err := ipfs.AddFileSlowly(t.Context(), add, io.LimitReader(src, 2<<20+1), budget, scratch)
	if err != nil || blocks != 4 || scratch.Size() != 0 {
		t.Errorf("%v after %d blocks, %d bytes are left", err, blocks, scratch.Size())
	}
	must.Succeed(t, budget.Acquire(t.Context(), 1))
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := ipfs.AddFileSlowly(ctx, add, bytes.NewReader([]byte("x")), budget, scratch); err != gone {
		t.Errorf("without memory: got %v, want %v", err, gone)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// The sizes of the source's reads do not change the file.
func TestAddFileIsTheSameFromEveryReader(t *testing.T) {
	data := storetest.Content(50, 2<<20+3)
	want := storetest.AddFile(t, storetest.Discard, data)
	for name, r := range map[string]io.Reader{
		"half":     iotest.HalfReader(bytes.NewReader(data)),
		"data err": iotest.DataErrReader(bytes.NewReader(data)),
		"one byte": iotest.OneByteReader(bytes.NewReader(data)),
	} {
		if got, err := ipfs.AddFile(storetest.Discard, r); err != nil || got != want {
			t.Errorf("%s: got %v %v, want %v", name, got, err, want)
		}
		if got, err := adders["AddFileSlowly"](storetest.Discard, iotest.HalfReader(bytes.NewReader(data))); err != nil || got != want {
			t.Errorf("%s: got %v %v, want %v", name, got, err, want)
		}
	}
}

// Every error except io.EOF is a failure of the source, even if other readers take it for an end.
func TestAddFileReturnsTheErrorItMet(t *testing.T) {
	for name, addFile := range adders {
		t.Run(name, func(t *testing.T) { addFileReturnsTheErrorItMet(t, addFile) })
	}
}

func addFileReturnsTheErrorItMet(t *testing.T, addFile func(ipfs.AddFunc, io.Reader) (ipfs.Node, error)) {
	data := storetest.Content(51, 2<<20)
	for _, want := range []error{io.ErrUnexpectedEOF, io.ErrClosedPipe, fmt.Errorf("wrapped: %w", io.EOF)} {
		for _, at := range []int{0, 1, 1 << 20, 1<<20 + 1, 2 << 20} {
			_, err := addFile(storetest.Discard, io.MultiReader(bytes.NewReader(data[:at]), iotest.ErrReader(want)))
			if err != want {
				t.Errorf("at %d: got %v, want %v", at, err, want)
			}
		}
	}
	if _, err := addFile(storetest.Discard, iotest.ErrReader(nil)); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("reader that gives nothing: got %v", err)
	}
	full := errors.New("full")
	for _, refuse := range []int{0, 1, 2} { // two leaves and their parent
		n := 0
		_, err := addFile(func(ipfs.Block) error {
			if n++; n > refuse {
				return full
			}
			return nil
		}, bytes.NewReader(data))
		if err != full || n != refuse+1 {
			t.Errorf("block %d refused: got %v after %d blocks", refuse, err, n)
		}
	}
}

func TestAddDirectoryRefusesBadNames(t *testing.T) {
	n := storetest.AddFile(t, storetest.Discard, []byte("x"))
	for _, names := range [][]string{{""}, {"."}, {".."}, {"a/b"}, {"a\x00"}, {"a", "b", "a"}, make([]string, 2000)} {
		var entries []ipfs.Entry
		for _, name := range names {
			entries = append(entries, ipfs.Entry{Name: name, Node: n})
		}
		if _, err := ipfs.AddDirectory(storetest.Discard, entries...); err == nil {
			t.Errorf("%q: got no error", names)
		}
	}
}

// A file of any size takes the memory of one chunk.
func TestAddFileReusesItsBuffer(t *testing.T) {
	if race.Enabled {
		t.Skip("under the race detector, a sync.Pool forgets buffers at random")
	}
	per := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = ipfs.AddFile(storetest.Discard, io.LimitReader(storetest.Chacha(1), 32<<20))
		}
	})
	if got := per.AllocedBytesPerOp() / 32; got > 16<<10 {
		t.Errorf("allocates %d bytes for each MiB", got)
	}
}

func BenchmarkAddFile(b *testing.B) {
	data := storetest.Content(60, 64<<20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		storetest.AddFile(b, storetest.Discard, data)
	}
}
