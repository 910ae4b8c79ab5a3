package ipfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
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

// The file is the same, whatever pieces its bytes come in.
func TestAddFileIsTheSameFromEveryReader(t *testing.T) {
	data := storetest.Content(50, 2<<20+3)
	want, err := ipfs.AddFile(storetest.Discard, bytes.NewReader(data))
	must.Succeed(t, err)
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

// Every error but io.EOF is the source's failure, even one that others take for an end.
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
	if _, err := ipfs.AddFile(storetest.Discard, stuck{}); !errors.Is(err, io.ErrNoProgress) {
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

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestAddDirectoryRefusesBadNames(t *testing.T) {
	n, err := ipfs.AddFile(storetest.Discard, strings.NewReader("x"))
	must.Succeed(t, err)
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

// A file of any size takes the memory of one chunk, which is used again.
func TestAddFileReusesItsBuffer(t *testing.T) {
	per := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = ipfs.AddFile(storetest.Discard, io.LimitReader(zeros{}, 32<<20))
		}
	})
	if got := per.AllocedBytesPerOp() / 32; got > 16<<10 {
		t.Errorf("allocates %d bytes for each MiB", got)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func BenchmarkAddFile(b *testing.B) {
	data := storetest.Content(60, 64<<20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ipfs.AddFile(storetest.Discard, bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
