// Package spool keeps the bytes of a mail while it passes through: the first MiB in memory, the
// rest in an unlinked file. A [Space] bounds the memory of all its spools together, and likewise
// their files: a spool that gets no memory uses its file from the first byte on.
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
	fileBuffer = 32 << 10
)

// starts and slabs hold memory for spools. Growing a slice to the full size would allocate and copy
// several times as much.
var (
	starts = sync.Pool{New: func() any { return new([startMemory]byte) }}
	slabs  = sync.Pool{New: func() any { return new([maxMemory]byte) }}
)

// A Spool keeps bytes in the order they were written: the first in memory, the rest in an unlinked
// temporary file, so a crash leaves no mail on the disk. It is not safe for concurrent use.
type Spool struct {
	space *Space
	size  int64

	mem   []byte             // grows only while nothing follows it
	start *[startMemory]byte // exactly one of start and slab backs mem;
	slab  *[maxMemory]byte   // both nil: mem has its own array

	file *os.File // the bytes after mem
	tail []byte   // the bytes after those in the file, which are not written yet

	memory int   // taken from the space
	disk   int64 // taken from the space
}

// New returns an empty spool. A nil space has no limits.
func New(space *Space) *Spool { return &Spool{space: space} }

// Size returns the number of bytes in the spool.
func (s *Spool) Size() int64 { return s.size }

// Write appends p. It returns an error that wraps ErrFull if there is no disk space for it.
func (s *Spool) Write(p []byte) (int, error) {
	n := 0
	if s.size == int64(len(s.mem)) {
		n = s.remember(p)
		s.size += int64(n)
	}
	if n == len(p) {
		return n, nil
	}
	if err := s.writeTail(p[n:]); err != nil {
		return n, err
	}
	s.size += int64(len(p) - n)
	return len(p), nil
}

// remember appends to mem as much of p as fits there, and returns how much that was.
func (s *Spool) remember(p []byte) int {
	n := min(len(p), maxMemory-len(s.mem))
	if len(s.mem)+n > cap(s.mem) && !s.grow(len(s.mem)+n) {
		n = cap(s.mem) - len(s.mem)
	}
	s.mem = append(s.mem, p[:n]...)
	return n
}

// grow moves the bytes in memory to an array of at least size bytes, if the space has the memory.
func (s *Spool) grow(size int) bool {
	need := startMemory
	if size > startMemory {
		need = maxMemory
	}
	if !s.space.takeMemory(need - s.memory) {
		return false
	}
	s.memory = need
	if need == startMemory {
		s.start = starts.Get().(*[startMemory]byte)
		s.mem = append(s.start[:0], s.mem...)
		return true
	}
	slab := slabs.Get().(*[maxMemory]byte)
	s.mem = append(slab[:0], s.mem...)
	s.releaseArrays()
	s.slab = slab
	return true
}

// writeTail appends p to the bytes after mem. Without memory for a buffer it writes p to the file.
func (s *Spool) writeTail(p []byte) error {
	if s.tail == nil && s.space.takeMemory(fileBuffer) {
		s.tail = make([]byte, 0, fileBuffer)
	}
	if len(s.tail)+len(p) > cap(s.tail) {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if len(p) > cap(s.tail) {
		return s.writeFile(p, s.size)
	}
	s.tail = append(s.tail, p...)
	return nil
}

func (s *Spool) flush() error {
	if len(s.tail) == 0 {
		return nil
	}
	err := s.writeFile(s.tail, s.size-int64(len(s.tail)))
	s.tail = s.tail[:0]
	return err
}

// writeFile writes p to the file. off is its offset in the spool.
func (s *Spool) writeFile(p []byte, off int64) (err error) {
	off -= int64(len(s.mem))
	end := off + int64(len(p))
	if missing := end - s.disk; missing > 0 {
		missing += diskStep - 1
		missing -= missing % diskStep
		if err := s.space.takeDisk(missing, end); err != nil {
			return err
		}
		s.disk += missing
	}
	if s.file == nil {
		if s.file, err = s.space.create(); err != nil {
			return err
		}
	}
	_, err = s.file.WriteAt(p, off)
	return err
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
		s.releaseArrays()
		s.space.giveMemory(s.memory - cap(s.mem))
		s.memory = cap(s.mem)
	}
	s.releaseTail()
	if s.file == nil {
		return nil
	}
	rest := size - int64(len(s.mem))
	if rest == 0 {
		return s.closeFile()
	}
	return s.file.Truncate(rest)
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
		m, err := s.file.ReadAt(p[n:want], off+int64(n)-int64(len(s.mem)))
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

// releaseArrays gives back the array that backed mem.
func (s *Spool) releaseArrays() {
	if s.start != nil {
		starts.Put(s.start)
		s.start = nil
	}
	if s.slab != nil {
		slabs.Put(s.slab)
		s.slab = nil
	}
}

func (s *Spool) releaseTail() {
	if s.tail != nil {
		s.tail = nil
		s.space.giveMemory(fileBuffer)
	}
}

func (s *Spool) closeFile() error {
	s.space.giveDisk(s.disk)
	s.disk = 0
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}

// Close gives back the memory and the file. The spool must not be used afterwards.
func (s *Spool) Close() error {
	s.mem = nil
	s.releaseArrays()
	s.releaseTail()
	s.space.giveMemory(s.memory)
	s.memory = 0
	return s.closeFile()
}
