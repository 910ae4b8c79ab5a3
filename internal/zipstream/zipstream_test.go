package zipstream

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

var date = time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)

// source has the files of an archive, and notes which are opened and how many are open.
type source struct {
	names    []string
	contents [][]byte
	opened   []int
	open     int
}

func (s *source) Open(entry int, offset int64) (io.ReadCloser, error) {
	s.opened = append(s.opened, entry)
	s.open++
	return &opened{Reader: bytes.NewReader(s.contents[entry][offset:]), s: s}, nil
}

type opened struct {
	io.Reader
	s *source
}

func (o *opened) Close() error { o.s.open--; return nil }

func (s *source) entries() []Entry {
	var es []Entry
	for i, name := range s.names {
		es = append(es, Entry{name, int64(len(s.contents[i])), crc32.ChecksumIEEE(s.contents[i])})
	}
	return es
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// sources returns archives of no, one and many files.
func sources() map[string]*source {
	many := &source{}
	for i := range 300 {
		many.names = append(many.names, fmt.Sprintf("file %d.bin", i))
		many.contents = append(many.contents, noise(i*7))
	}
	return map[string]*source{
		"none":  {},
		"one":   {names: []string{"a.pdf"}, contents: [][]byte{noise(1000)}},
		"empty": {names: []string{"a", "b"}, contents: [][]byte{{}, {}}},
		"three": {names: []string{"Übersicht 報告.pdf", "a (2).txt", "z"}, contents: [][]byte{noise(100_000), {}, noise(1)}},
		"many":  many,
	}
}

// Go, Python, Info-ZIP and 7-Zip read every file, without a warning.
func TestOtherProgramsReadTheArchive(t *testing.T) {
	for name, s := range sources() {
		t.Run(name, func(t *testing.T) {
			a := New(s.entries(), date, s.Open)
			path := filepath.Join(t.TempDir(), "files.zip")
			f, err := os.Create(path)
			must.Succeed(t, err)
			n, err := io.Copy(f, a)
			must.Succeed(t, err)
			must.Succeed(t, f.Close())
			if n != a.Size() {
				t.Errorf("got %d bytes, want the size %d", n, a.Size())
			}
			if s.open != 0 {
				t.Errorf("%d files are left open", s.open)
			}
			readWithGo(t, path, s)
			readWithPython(t, path, s)
			if len(s.names) > 0 { // unzip warns about an empty archive
				run(t, "unzip", "-tq", path)
			}
			if _, err := exec.LookPath("7z"); err == nil {
				run(t, "7z", "t", path)
			}
		})
	}
}

func readWithGo(t *testing.T, path string, s *source) {
	t.Helper()
	z, err := zip.OpenReader(path)
	must.Succeed(t, err)
	defer z.Close()
	if len(z.File) != len(s.names) {
		t.Fatalf("%d files, want %d", len(z.File), len(s.names))
	}
	for i, f := range z.File {
		r, err := f.Open()
		must.Succeed(t, err)
		got, err := io.ReadAll(r)
		must.Succeed(t, err)
		if f.Name != s.names[i] || f.NonUTF8 || !bytes.Equal(got, s.contents[i]) {
			t.Errorf("file %d: got %q and %d bytes", i, f.Name, len(got))
		}
		if !f.Modified.Equal(date) || f.Mode() != 0o644 || f.Method != zip.Store {
			t.Errorf("file %d: of %v, with mode %v and method %d", i, f.Modified, f.Mode(), f.Method)
		}
		if f.Flags&8 != 0 {
			t.Errorf("file %d: has a data descriptor", i)
		}
	}
}

// The script also checks the local headers, on which streaming readers depend.
const python = `
import sys, zipfile, zlib
z = zipfile.ZipFile(sys.argv[1])
assert z.testzip() is None
for i in z.infolist():
    head = open(sys.argv[1], "rb")
    head.seek(i.header_offset)
    b = head.read(30)
    sizes = int.from_bytes(b[14:18], "little"), int.from_bytes(b[22:26], "little")
    assert sizes == (i.CRC, i.file_size), sizes
    print(i.filename.encode("utf-8").hex(), i.file_size, "%08x" % zlib.crc32(z.read(i)), *i.date_time)
`

func readWithPython(t *testing.T, path string, s *source) {
	t.Helper()
	var want strings.Builder
	for i, e := range s.entries() {
		fmt.Fprintf(&want, "%x %d %08x 2026 11 22 20 0 0\n", s.names[i], e.Size, e.CRC32)
	}
	if got := run(t, "python3", "-c", python, path); got != want.String() {
		t.Errorf("Python reads\n%swant\n%s", got, want.String())
	}
}

// run runs another program. In CI it must be installed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, out, stderr.Bytes())
	}
	return string(out)
}

func TestArchiveIsTheSameFromEveryOffset(t *testing.T) {
	s := sources()["three"]
	s.contents[0] = noise(100)
	whole, err := io.ReadAll(New(s.entries(), date, s.Open))
	must.Succeed(t, err)
	a := New(s.entries(), date, s.Open)
	must.Succeed(t, iotest.TestReader(a, whole))
	for from := range len(whole) + 1 {
		for _, n := range []int{1, 37, len(whole)} {
			_, err := a.Seek(int64(from), io.SeekStart)
			must.Succeed(t, err)
			got, err := io.ReadAll(iotest.HalfReader(io.LimitReader(a, int64(n))))
			must.Succeed(t, err)
			if want := whole[from:min(from+n, len(whole))]; !bytes.Equal(got, want) {
				t.Fatalf("%d bytes from %d: got %x, want %x", n, from, got, want)
			}
		}
	}
	must.Succeed(t, a.Close())
	if s.open != 0 {
		t.Errorf("%d files are left open", s.open)
	}
}

func TestOnlyFilesThatAreReadAreOpened(t *testing.T) {
	s := sources()["many"]
	a := New(s.entries(), date, s.Open)
	for _, tt := range []struct {
		from, n int64
		want    string
	}{
		{0, 10, "[]"}, // the header of an empty file
		{a.starts[2*100+1] + 5, 10, "[100]"},
		{a.starts[2*100+1] + 5, 1000, "[100 101]"},
		{a.starts[2*300], a.Size(), "[]"},
	} {
		s.opened = nil
		_, err := a.Seek(tt.from, io.SeekStart)
		must.Succeed(t, err)
		_, err = io.CopyN(io.Discard, a, min(tt.n, a.Size()-tt.from))
		must.Succeed(t, err)
		if got := fmt.Sprint(s.opened); got != tt.want {
			t.Errorf("%d bytes from %d: opened %s, want %s", tt.n, tt.from, got, tt.want)
		}
	}
}

// The error comes before the last byte of the file, so the archive never looks complete.
func TestFileThatDiffersFromItsEntryIsAnError(t *testing.T) {
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		alter func(content []byte) (io.Reader, error)
		want  error
	}{
		"changed": {func(c []byte) (io.Reader, error) { c[50] ^= 1; return bytes.NewReader(c), nil }, ErrEntry},
		"short":   {func(c []byte) (io.Reader, error) { return bytes.NewReader(c[1:]), nil }, ErrEntry},
		"long":    {func(c []byte) (io.Reader, error) { return bytes.NewReader(append(c, 0)), nil }, ErrEntry},
		"empty":   {func([]byte) (io.Reader, error) { return strings.NewReader(""), nil }, ErrEntry},
		"gone":    {func([]byte) (io.Reader, error) { return nil, broken }, broken},
		"breaks off": {func(c []byte) (io.Reader, error) {
			return io.MultiReader(bytes.NewReader(c[:50]), iotest.ErrReader(broken)), nil
		}, broken},
		"breaks off at its end": {func(c []byte) (io.Reader, error) {
			return io.MultiReader(bytes.NewReader(c), iotest.ErrReader(broken)), nil
		}, broken},
	} {
		entries := []Entry{{"a", 100, crc32.ChecksumIEEE(noise(100))}}
		a := New(entries, date, func(int, int64) (io.ReadCloser, error) {
			r, err := tt.alter(noise(100))
			return io.NopCloser(r), err
		})
		got, err := io.ReadAll(a)
		if !errors.Is(err, tt.want) || int64(len(got)) >= a.starts[2] {
			t.Errorf("%s: %d bytes, the file's last is the %dth; error %v, want %v", name, len(got), a.starts[2], err, tt.want)
		}
		if again, err := a.Read(make([]byte, 10)); again > 0 || !errors.Is(err, tt.want) {
			t.Errorf("%s: reading goes on after the error: %d bytes, error %v", name, again, err)
		}
	}
}

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// sparse writes a file with holes in place of zeros.
type sparse struct{ *os.File }

var hole = make([]byte, 1<<20)

func (s sparse) Write(p []byte) (int, error) {
	if !bytes.Equal(p, hole[:len(p)]) {
		return s.File.Write(p)
	}
	_, err := s.Seek(int64(len(p)), io.SeekCurrent)
	return len(p), err
}

// One file is larger than 4 GiB, and one begins after that.
func TestLargeFilesNeedZIP64(t *testing.T) {
	const huge = 4<<30 + 77
	sum := uint32(0)
	for left := int64(huge); left > 0; left -= int64(len(hole)) {
		sum = crc32.Update(sum, crc32.IEEETable, hole[:min(left, int64(len(hole)))])
	}
	after := noise(1000)
	entries := []Entry{{"huge.img", huge, sum}, {"after.txt", 1000, crc32.ChecksumIEEE(after)}}
	a := New(entries, date, func(i int, offset int64) (io.ReadCloser, error) {
		if i == 0 {
			return io.NopCloser(io.LimitReader(zeros{}, huge-offset)), nil
		}
		return io.NopCloser(bytes.NewReader(after[offset:])), nil
	})
	path := filepath.Join(t.TempDir(), "huge.zip")
	f, err := os.Create(path)
	must.Succeed(t, err)
	n, err := io.CopyBuffer(sparse{f}, a, make([]byte, len(hole)))
	must.Succeed(t, err)
	must.Succeed(t, f.Close())
	if n != a.Size() {
		t.Errorf("got %d bytes, want the size %d", n, a.Size())
	}
	z, err := zip.OpenReader(path)
	must.Succeed(t, err)
	defer z.Close()
	if len(z.File) != 2 || z.File[0].UncompressedSize64 != huge || z.File[1].UncompressedSize64 != 1000 {
		t.Fatalf("Go reads %+v", z.File)
	}
	r, err := z.File[1].Open()
	must.Succeed(t, err)
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, after) {
		t.Errorf("the file after it: %d bytes, error %v", len(got), err)
	}
	const sizes = `import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); print(*[i.file_size for i in z.infolist()], len(z.read("after.txt")))`
	if got, want := run(t, "python3", "-c", sizes, path), fmt.Sprintln(huge, 1000, 1000); got != want {
		t.Errorf("Python reads %q, want %q", got, want)
	}
	run(t, "unzip", "-tq", path, "after.txt")
}

func TestZIP64BeginsWhereTheUsualFieldsEnd(t *testing.T) {
	for _, tt := range []struct {
		size int64
		n    int
		want bool
	}{{large - 1000, 1, false}, {large, 1, true}, {large/2 - 1000, 2, false}, {large / 2, 2, true}, {0, manyFiles - 1, false}, {0, manyFiles, true}} {
		entries := make([]Entry, tt.n)
		for i := range entries {
			entries[i] = Entry{Name: "x", Size: tt.size}
		}
		a := New(entries, date, nil)
		if got := len(a.end()) > 22; got != tt.want {
			t.Errorf("%d files of %d bytes: with an end for ZIP64: %v", tt.n, tt.size, got)
		}
		// A reader finds the directory from the end of the archive.
		_, err := a.Seek(a.starts[2*tt.n], io.SeekStart)
		must.Succeed(t, err)
		tail, err := io.ReadAll(a)
		must.Succeed(t, err)
		z, err := zip.NewReader(offsetReader{tail, a.starts[2*tt.n]}, a.Size())
		must.Succeed(t, err)
		if len(z.File) != tt.n || int64(z.File[tt.n-1].UncompressedSize64) != tt.size {
			t.Errorf("%d files of %d bytes: Go finds %d", tt.n, tt.size, len(z.File))
		}
	}
}

// offsetReader has the end of a file only.
type offsetReader struct {
	b  []byte
	at int64
}

func (o offsetReader) ReadAt(p []byte, off int64) (int, error) {
	n := int(max(0, min(o.at-off, int64(len(p)))))
	clear(p[:n])
	if n == len(p) {
		return n, nil
	}
	got, err := bytes.NewReader(o.b).ReadAt(p[n:], off+int64(n)-o.at)
	return n + got, err
}
