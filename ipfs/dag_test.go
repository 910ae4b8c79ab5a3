package ipfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/race"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// vectors are the CIDs that kubo gives to so many bytes of chacha(size).
var vectors = []struct {
	size int64
	cid  string
}{
	{0, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},
	{1, "bafkreiayt5aags7hugm7d6uysfti5y5lmbe7qljyy2f6od2zn2vs4gcxw4"},
	{1<<20 - 1, "bafkreif4fopi43wlfdnm4sfvgt5gnh6bwcu5rc4tso2pc3xg7gcybudwsq"},
	{1 << 20, "bafkreidyiolecebspp6kpbylvrz5vqkxoqymzhaaearyh5tzd7smhkgmzy"},
	{1<<20 + 1, "bafybeibg2qb6u2lt3pu62m6fseimbg4sk7oxhjhkomtri5ad4oasdfsksy"},
	{5<<20 + 77, "bafybeid65qrgwbh6t5bqoarghi4qp2h4plfee7fu7ail5qfosojyqhfybq"},
	{1 << 30, "bafybeiaycbljxuoom3vuot4h7n26765hukegd5z247c6w2eojdz4flji6q"},   // one node, full
	{1<<30 + 1, "bafybeievb6mr45sqw2pszmkodeuapxufghfxwh3jqt3cfolcsp46cddpmu"}, // a third level, and a node with one link
	{1.3e9, "bafybeihe6p4s3qsvutwjndxc5xt4snobikcvvwwbuw3fiqgnhrgkd5toru"},
}

// skipped are the large sizes where they take too long.
func skipped(size int64) bool { return size >= 1<<30 && (testing.Short() || race.Enabled) }

func TestAddFileVectors(t *testing.T) {
	for _, v := range vectors {
		if skipped(v.size) {
			continue
		}
		n, err := ipfs.AddFile(discard, io.LimitReader(chacha(uint64(v.size)), v.size))
		must(t, err)
		if n.CID.String() != v.cid || n.Size != uint64(v.size) {
			t.Errorf("%d bytes: got %s of %d bytes, want %s", v.size, n.CID, n.Size, v.cid)
		}
	}
}

// The vectors are kubo's, and so are a directory's CID and the sizes in it.
func testKuboCIDs(t *testing.T, node *servers.KuboNode) {
	form := []string{"add", "-Q", "--cid-version=1", "--raw-leaves", "--chunker=size-1048576", "--max-file-links=1024", "--only-hash"}
	for _, v := range vectors {
		// Of the large ones, which take kubo longer than us, one.
		if skipped(v.size) || v.size >= 1<<30 && v.size != 1.3e9 {
			continue
		}
		got := strings.TrimSpace(node.RunInput(io.LimitReader(chacha(uint64(v.size)), v.size), form...))
		if got != v.cid {
			t.Errorf("%d bytes: kubo says %s, the vector is %s", v.size, got, v.cid)
		}
	}

	dir := t.TempDir()
	data, meta := content(40, 5<<20+77), content(41, 300)
	must(t, os.WriteFile(filepath.Join(dir, "data"), data, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "meta.jwe"), meta, 0o600))
	want := strings.TrimSpace(node.Run(append(form, "-r", dir)...))
	d, err := ipfs.AddFile(discard, bytes.NewReader(data))
	must(t, err)
	m, err := ipfs.AddFile(discard, bytes.NewReader(meta))
	must(t, err)
	got, err := ipfs.AddDirectory(discard, ipfs.Entry{Name: "meta.jwe", Node: m}, ipfs.Entry{Name: "data", Node: d})
	must(t, err)
	if got.CID.String() != want {
		t.Errorf("directory: got %s, kubo says %s", got.CID, want)
	}
}

// However the bytes come, the file is the same.
func TestAddFileReaders(t *testing.T) {
	data := content(50, 2<<20+3)
	want, err := ipfs.AddFile(discard, bytes.NewReader(data))
	must(t, err)
	for name, r := range map[string]io.Reader{
		"half":     iotest.HalfReader(bytes.NewReader(data)),
		"data err": iotest.DataErrReader(bytes.NewReader(data)),
		"one byte": iotest.OneByteReader(bytes.NewReader(data)),
	} {
		if got, err := ipfs.AddFile(discard, r); err != nil || got != want {
			t.Errorf("%s: got %v %v, want %v", name, got, err, want)
		}
	}
}

// Every error but io.EOF is the source's failure, even one that means an end to others.
func TestAddFileErrors(t *testing.T) {
	data := content(51, 2<<20)
	for _, want := range []error{io.ErrUnexpectedEOF, io.ErrClosedPipe, fmt.Errorf("wrapped: %w", io.EOF)} {
		for _, at := range []int{0, 1, 1 << 20, 1<<20 + 1, 2 << 20} {
			_, err := ipfs.AddFile(discard, io.MultiReader(bytes.NewReader(data[:at]), iotest.ErrReader(want)))
			if err != want {
				t.Errorf("at %d: got %v, want %v", at, err, want)
			}
		}
	}
	if _, err := ipfs.AddFile(discard, stuck{}); !errors.Is(err, io.ErrNoProgress) {
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

func TestAddDirectoryRefuses(t *testing.T) {
	n, err := ipfs.AddFile(discard, strings.NewReader("x"))
	must(t, err)
	for _, names := range [][]string{{""}, {"."}, {".."}, {"a/b"}, {"a\x00"}, {"a", "b", "a"}, make([]string, 2000)} {
		var entries []ipfs.Entry
		for _, name := range names {
			entries = append(entries, ipfs.Entry{Name: name, Node: n})
		}
		if _, err := ipfs.AddDirectory(discard, entries...); err == nil {
			t.Errorf("%q: got no error", names)
		}
	}
}

// The memory that a file of any size takes is one chunk, which is used again.
func TestAddFileAllocates(t *testing.T) {
	per := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = ipfs.AddFile(discard, io.LimitReader(zeros{}, 32<<20))
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
	data := content(60, 64<<20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ipfs.AddFile(discard, bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
