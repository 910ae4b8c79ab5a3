package ipfs_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// addObject makes an object of the form that Detach stores.
func addObject(t testing.TB, m inMemory, data []byte) (root cid.Cid, order []cid.Cid) {
	t.Helper()
	file := storetest.AddFile(t, m.Add, data)
	meta := storetest.AddFile(t, m.Add, []byte("meta"))
	dir, err := ipfs.AddDirectory(m.Add, ipfs.Entry{Name: "data", Node: file}, ipfs.Entry{Name: "meta.jwe", Node: meta})
	must.Succeed(t, err)
	return dir.CID, []cid.Cid{file.CID, meta.CID}
}

func exportCAR(t testing.TB, m inMemory, root cid.Cid) []byte {
	t.Helper()
	var car bytes.Buffer
	must.Succeed(t, ipfs.ExportCAR(t.Context(), &car, m, root, "", 0))
	return car.Bytes()
}

// readCAR reads an object while it arrives, as `detach get` does.
func readCAR(t testing.TB, r io.Reader, root cid.Cid) ([]byte, error) {
	t.Helper()
	got, blocks, err := ipfs.ReadCAR(r)
	if err != nil {
		return nil, err
	}
	if got != root {
		return nil, ipfs.ErrCorrupt
	}
	entries, err := ipfs.OpenDirectory(t.Context(), blocks, root)
	if err != nil {
		return nil, err
	}
	data, err := storetest.ReadBlocks(t.Context(), blocks, entries["data"].CID)
	if err != nil {
		return data, err
	}
	meta, err := storetest.ReadBlocks(t.Context(), blocks, entries["meta.jwe"].CID)
	if err == nil && string(meta) != "meta" {
		t.Errorf("meta.jwe: %q", meta)
	}
	return data, err
}

func TestCARReadsBack(t *testing.T) {
	files := [][]byte{make([]byte, 5<<20)} // the same block five times: a reader remembers no block
	for i, size := range []int{0, 1, 1 << 20, 1<<20 + 1, 3<<20 + 5} {
		files = append(files, storetest.Content(uint64(90+i), size))
	}
	for _, data := range files {
		m := newMemory()
		root, _ := addObject(t, m, data)
		car := exportCAR(t, m, root)
		got, err := readCAR(t, iotest.HalfReader(bytes.NewReader(car)), root)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: got %d, %v", len(data), len(got), err)
		}
	}
}

// A stream that is cut or changed anywhere gives correct bytes, then an error.
func TestDamagedCARIsAnError(t *testing.T) {
	faults.Covers(t, 77)
	data := storetest.Content(95, 1<<20+3000)
	m := newMemory()
	root, _ := addObject(t, m, data)
	car := exportCAR(t, m, root)
	at := []int{0, 1, 30, 58, 59, 60, 61, 96, 97, 200, 1 << 20, len(car) - 60, len(car) - 1}
	for i := range 40 {
		at = append(at, i*len(car)/40)
	}
	for _, i := range at {
		flipped := bytes.Clone(car)
		flipped[i] ^= 4
		for what, bad := range map[string][]byte{"cut": car[:i], "flipped": flipped} {
			got, err := readCAR(t, bytes.NewReader(bad), root)
			if !errors.Is(err, ipfs.ErrCorrupt) || !bytes.HasPrefix(data, got) {
				t.Errorf("%s at %d: %d bytes, %v; want ErrCorrupt", what, i, len(got), err)
			}
		}
	}
	broken := errors.New("connection reset")
	_, err := readCAR(t, io.MultiReader(bytes.NewReader(car[:2000]), iotest.ErrReader(broken)), root)
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

func TestExportCARVerifies(t *testing.T) {
	m := newMemory()
	root, files := addObject(t, m, storetest.Content(96, 2<<20))
	m.Blocks[files[1]] = []byte("atem")
	if err := ipfs.ExportCAR(t.Context(), io.Discard, m, root, "", 0); !errors.Is(err, ipfs.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
	full := errors.New("full")
	r, w := io.Pipe()
	r.CloseWithError(full)
	if err := ipfs.ExportCAR(t.Context(), w, m, root, "", 0); !errors.Is(err, full) {
		t.Errorf("got %v, want the writer's error", err)
	}
}

// A stream gives correct bytes or an error, and takes no more memory than a block.
func FuzzReadCAR(f *testing.F) {
	m := newMemory()
	data := []byte("some data")
	root, _ := addObject(f, m, data)
	f.Add(exportCAR(f, m, root))
	f.Add([]byte("\x3a\xa2\x65roots"))
	f.Fuzz(func(t *testing.T, car []byte) {
		got, err := readCAR(t, bytes.NewReader(car), root)
		if !bytes.HasPrefix(data, got) || err == nil && len(got) != len(data) {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func BenchmarkExportCAR(b *testing.B) {
	m := newMemory()
	root, _ := addObject(b, m, storetest.Content(97, 64<<20))
	b.SetBytes(64 << 20)
	b.ReportAllocs()
	for b.Loop() {
		must.Succeed(b, ipfs.ExportCAR(b.Context(), io.Discard, m, root, "", 0))
		m.Asked = slices.Clip(m.Asked[:0])
	}
}

// A CAR from an offset has the leaves that a File reads from there, and no others.
func TestExportCARFromAnOffset(t *testing.T) {
	m := newMemory()
	data := storetest.Content(90, 3<<20+5)
	f := storetest.AddFile(t, m.Add, data)
	for _, from := range []int64{0, 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3 << 20, 3<<20 + 4, 3<<20 + 5, 9 << 20} {
		var car bytes.Buffer
		must.Succeed(t, ipfs.ExportCAR(t.Context(), &car, m, f.CID, "", from))
		leaves := max(0, 4-from>>20)
		if from >= int64(len(data)) {
			leaves = 0
		}
		if got := int64(car.Len()) / (1 << 20); leaves > 0 && got != leaves-1 || leaves == 0 && car.Len() > 4096 {
			t.Errorf("from %d: the CAR has %d bytes, want %d leaves", from, car.Len(), leaves)
		}
		_, blocks, err := ipfs.ReadCAR(&car)
		must.Succeed(t, err)
		file, err := storetest.OpenFile(t, blocks, f.CID)
		must.Succeed(t, err)
		_, err = file.Seek(from, io.SeekStart)
		must.Succeed(t, err)
		got, err := io.ReadAll(file)
		if want := data[min(from, int64(len(data))):]; err != nil || !bytes.Equal(got, want) {
			t.Errorf("from %d: read %d bytes, %v, want %d", from, len(got), err, len(want))
		}
	}
}
