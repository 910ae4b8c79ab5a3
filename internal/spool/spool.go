// Package spool keeps the bytes of a mail while it passes through: the first MiB in memory, the
// rest in an unlinked file.
package spool

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
)

const (
	// maxMemory bounds the part of a spool in memory. Nine mails in ten, without their attachments,
	// are smaller and never touch the disk.
	maxMemory = 1 << 20
	// startMemory is the memory of a new spool. Few mails without their attachments are larger.
	startMemory = 32 << 10
	// fileBuffer gathers small writes to the file.
	fileBuffer = 64 << 10
)

// starts and slabs hold memory for spools. Growing a slice to the full size would allocate and copy
// several times as much.
var (
	starts = sync.Pool{New: func() any { return new([startMemory]byte) }}
	slabs  = sync.Pool{New: func() any { return new([maxMemory]byte) }}
)

// A Spool keeps bytes in the order they were written: the first MiB in memory, the rest in an
// unlinked temporary file, so a crash leaves no mail on the disk. It is not safe for concurrent
// use.
type Spool struct {
	dir   string
	mem   []byte
	start *[startMemory]byte // exactly one of start and slab backs mem;
	slab  *[maxMemory]byte   // both nil: mem has its own array
	file  *os.File
	tail  []byte // bytes that follow those in the file and are not written yet
	size  int64
}

// New returns an empty spool. If the spool needs a file, it creates the file in dir, or in the
// system's directory for temporary files if dir is empty.
func New(dir string) *Spool { return &Spool{dir: dir} }

// Size returns the number of bytes in the spool.
func (s *Spool) Size() int64 { return s.size }

// Write appends p.
func (s *Spool) Write(p []byte) (int, error) {
	n := min(len(p), maxMemory-len(s.mem))
	if len(s.mem)+n > cap(s.mem) {
		s.grow(len(s.mem) + n)
	}
	s.mem = append(s.mem, p[:n]...)
	s.size += int64(n)
	if n == len(p) {
		return n, nil
	}
	s.tail = append(s.tail, p[n:]...)
	s.size += int64(len(p) - n)
	if len(s.tail) >= fileBuffer {
		return len(p), s.flush()
	}
	return len(p), nil
}

// grow moves the bytes in memory to an array of at least size bytes.
func (s *Spool) grow(size int) {
	if size <= startMemory {
		s.start = starts.Get().(*[startMemory]byte)
		s.mem = append(s.start[:0], s.mem...)
		return
	}
	slab := slabs.Get().(*[maxMemory]byte)
	s.mem = append(slab[:0], s.mem...)
	s.release()
	s.slab = slab
}

func (s *Spool) flush() error {
	if len(s.tail) == 0 {
		return nil
	}
	if err := s.openFile(); err != nil {
		return err
	}
	_, err := s.file.WriteAt(s.tail, s.size-int64(len(s.tail))-maxMemory)
	s.tail = s.tail[:0]
	return err
}

func (s *Spool) openFile() error {
	if s.file != nil {
		return nil
	}
	f, err := os.CreateTemp(s.dir, "detach-spool-")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	s.file = f
	return nil
}

// Truncate drops all but the first size bytes.
func (s *Spool) Truncate(size int64) error {
	if size < 0 || size > s.size {
		return errors.New("truncate spool: size out of range")
	}
	if err := s.flush(); err != nil {
		return err
	}
	s.size = size
	s.mem = s.mem[:min(int64(len(s.mem)), size)]
	if len(s.mem) < cap(s.mem)/4 {
		// An attachment was here. It may take hours to arrive, so its memory is given back now.
		s.mem = bytes.Clone(s.mem)
		s.release()
	}
	s.tail = nil
	if s.file != nil {
		return s.file.Truncate(max(0, size-maxMemory))
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read spool: negative offset")
	}
	if off >= s.size {
		return 0, io.EOF
	}
	want := int(min(int64(len(p)), s.size-off))
	n := 0
	if off < int64(len(s.mem)) {
		n = copy(p[:want], s.mem[off:])
	}
	if n < want {
		if err := s.flush(); err != nil {
			return n, err
		}
		m, err := s.file.ReadAt(p[n:want], off+int64(n)-maxMemory)
		n += m
		if err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Section returns a reader of the bytes from off up to end.
func (s *Spool) Section(off, end int64) *io.SectionReader {
	return io.NewSectionReader(s, off, end-off)
}

// WriteTo writes the whole spool to w. It may be called again.
func (s *Spool) WriteTo(w io.Writer) (int64, error) {
	return s.WriteSection(w, 0, s.size)
}

// WriteSection writes the bytes from off up to end. It writes those in memory without copying them.
func (s *Spool) WriteSection(w io.Writer, off, end int64) (int64, error) {
	n := 0
	if inMemory := min(end, int64(len(s.mem))); off < inMemory {
		var err error
		if n, err = w.Write(s.mem[off:inMemory]); err != nil {
			return int64(n), err
		}
	}
	if off += int64(n); off >= end {
		return int64(n), nil
	}
	m, err := io.Copy(w, s.Section(off, end))
	return int64(n) + m, err
}

// release gives back the memory that backed mem.
func (s *Spool) release() {
	if s.start != nil {
		starts.Put(s.start)
		s.start = nil
	}
	if s.slab != nil {
		slabs.Put(s.slab)
		s.slab = nil
	}
}

// Close gives back the memory and the file.
func (s *Spool) Close() error {
	s.mem, s.tail = nil, nil
	s.release()
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}
