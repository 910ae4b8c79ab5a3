package ipfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

func TestAddFileVectors(t *testing.T) {
	for _, v := range storetest.Vectors() {
		n, err := ipfs.AddFile(storetest.Discard, io.LimitReader(storetest.Chacha(uint64(v.Size)), v.Size))
		must.Succeed(t, err)
		if n.CID.String() != v.CID || n.Size != uint64(v.Size) {
			t.Errorf("%d bytes: got %s of %d bytes, want %s", v.Size, n.CID, n.Size, v.CID)
		}
	}
}

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
	}
}

// Every error except io.EOF is a failure of the source, even if other readers take it for an end.
func TestAddFileReturnsTheErrorItMet(t *testing.T) {
	data := storetest.Content(51, 2<<20)
	for _, want := range []error{io.ErrUnexpectedEOF, io.ErrClosedPipe, fmt.Errorf("wrapped: %w", io.EOF)} {
		for _, at := range []int{0, 1, 1 << 20, 1<<20 + 1, 2 << 20} {
			_, err := ipfs.AddFile(storetest.Discard, io.MultiReader(bytes.NewReader(data[:at]), iotest.ErrReader(want)))
			if err != want {
				t.Errorf("at %d: got %v, want %v", at, err, want)
			}
		}
	}
	if _, err := ipfs.AddFile(storetest.Discard, iotest.ErrReader(nil)); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("reader that gives nothing: got %v", err)
	}
	full := errors.New("full")
	for _, refuse := range []int{0, 1, 2} { // two leaves and their parent
		n := 0
		_, err := ipfs.AddFile(func(ipfs.Block) error {
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
