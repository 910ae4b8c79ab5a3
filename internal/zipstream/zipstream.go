package zipstream

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sort"
	"time"
)

// ErrEntry says that a file does not have the size or the CRC-32 of its entry.
var ErrEntry = errors.New("a file of the archive differs from its entry")

// An Entry is one file of an archive.
type Entry struct {
	Name  string // in UTF-8, at most 65,535 bytes, a name and not a path; see filename.Unique
	Size  int64
	CRC32 uint32 // IEEE; of an empty file 0
}

// Open opens the file of an entry at an offset. The Reader closes it.
type Open func(entry int, offset int64) (io.ReadCloser, error)

// A Reader reads an archive. It has at most one file open, and opens only files that are read. It
// is not safe for concurrent use.
//
// Read returns ErrEntry, in place of the last bytes of a file, if the file is shorter or longer
// than its entry says or has another CRC-32. The CRC-32 is not checked if reading began in the
// middle of the file.
type Reader struct {
	entries  []Entry
	modified time.Time
	open     Open
	// starts[k] is the offset of piece k. With n entries the pieces are 2n alternating local
	// headers and files, n central headers and the end record. The last element is the total size.
	starts []int64

	off  int64
	file io.ReadCloser // the open file; nil if none is open
	next int64         // offset in the archive of the next byte of file
	sum  uint32        // CRC-32 of what was read of file
	from int64         // offset in the archive where reading of file began
	err  error
}

// New returns the archive of these files. modified is the date of all of them, between 1980 and
// 2106.
func New(entries []Entry, modified time.Time, open Open) *Reader {
	a := &Reader{entries: entries, modified: modified.UTC(), open: open}
	n := len(entries)
	a.starts = make([]int64, 1, 3*n+2)
	for k := range 3*n + 1 {
		size := int64(0)
		if k < 2*n && k%2 == 1 {
			size = entries[k/2].Size
		} else {
			size = int64(len(a.piece(k)))
		}
		a.starts = append(a.starts, a.starts[k]+size)
	}
	return a
}

// Size returns the size of the archive in bytes.
func (a *Reader) Size() int64 { return a.starts[len(a.starts)-1] }

// piece returns piece k, which must not be a file.
func (a *Reader) piece(k int) []byte {
	switch n := len(a.entries); {
	case k < 2*n:
		return a.local(k / 2)
	case k < 3*n:
		return a.central(k - 2*n)
	}
	return a.end()
}

// Seek implements io.Seeker. It reads nothing.
func (a *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += a.off
	case io.SeekEnd:
		offset += a.Size()
	}
	if offset < 0 {
		return 0, errors.New("archive: seek before the start")
	}
	a.off = offset
	return offset, nil
}

// Read implements io.Reader. It reads on until it has a byte of a file, so if the first file cannot
// be opened, Read returns no byte of the archive. One call reads from one file only, because a
// source may be slow.
func (a *Reader) Read(p []byte) (n int, err error) {
	if a.err != nil {
		return 0, a.err
	}
	for n < len(p) && a.off < a.Size() {
		k := sort.Search(len(a.starts), func(i int) bool { return a.starts[i] > a.off }) - 1
		if k >= 2*len(a.entries) || k%2 == 0 {
			got := copy(p[n:], a.piece(k)[a.off-a.starts[k]:])
			n, a.off = n+got, a.off+int64(got)
			continue
		}
		got, err := a.readFile(k, p[n:])
		if err != nil {
			a.err = err
			return 0, err
		}
		a.off += int64(got)
		return n + got, nil
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// readFile reads at least one byte of the file that is piece k.
func (a *Reader) readFile(k int, p []byte) (int, error) {
	i, start, end := k/2, a.starts[k], a.starts[k+1]
	if a.file == nil || a.next != a.off {
		if err := a.Close(); err != nil {
			return 0, err
		}
		f, err := a.open(i, a.off-start)
		if err != nil {
			return 0, fmt.Errorf("open file %d of the archive: %w", i, err)
		}
		a.file, a.from, a.next, a.sum = f, a.off, a.off, 0
	}
	n, err := io.ReadAtLeast(a.file, p[:min(int64(len(p)), end-a.off)], 1)
	if err == io.EOF {
		return 0, fmt.Errorf("%w: file %d is too short", ErrEntry, i)
	}
	if err != nil {
		return 0, fmt.Errorf("read file %d of the archive: %w", i, err)
	}
	a.sum, a.next = crc32.Update(a.sum, crc32.IEEETable, p[:n]), a.next+int64(n)
	if a.next < end {
		return n, nil
	}
	return n, a.finish(i, start)
}

// finish checks and closes a file that was read to its end.
func (a *Reader) finish(i int, start int64) error {
	if a.from == start && a.sum != a.entries[i].CRC32 {
		return fmt.Errorf("%w: file %d has another CRC-32", ErrEntry, i)
	}
	if n, err := io.ReadFull(a.file, make([]byte, 1)); n > 0 {
		return fmt.Errorf("%w: file %d is too long", ErrEntry, i)
	} else if err != io.EOF {
		return fmt.Errorf("read file %d of the archive: %w", i, err)
	}
	return a.Close()
}

// Close closes the open file, if there is one.
func (a *Reader) Close() error {
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	return err
}
