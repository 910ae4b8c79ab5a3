package spool

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
)

// spoolMemory is how much of a spool stays in memory. Nine mails in ten are
// smaller without their attachments and never touch the disk.
const spoolMemory = 1 << 20

// spoolStart is what a spool begins with. Few mails without their attachments are larger.
const spoolStart = 32 << 10

// starts and slabs are the memory of spools, small ones and others. A spool that grew by itself to its full size would allocate,
// and copy, several times as much.
var (
	starts = sync.Pool{New: func() any { return new([spoolStart]byte) }}
	slabs  = sync.Pool{New: func() any { return new([spoolMemory]byte) }}
)

// spoolBuffer gathers small writes to the file.
const spoolBuffer = 64 << 10

// A Spool keeps bytes in the order they were written: the first spoolMemory of
// them in memory, the rest in a temporary file that has no name, so that no
// crash leaves a mail behind on the disk.
type Spool struct {
	dir   string
	mem   []byte
	start *[spoolStart]byte  // what mem is in, or
	slab  *[spoolMemory]byte // this; neither: memory of its own
	file  *os.File
	tail  []byte // the end of the file's part, not in the file yet
	size  int64
}

// New returns an empty spool. Its file, if it comes to need one, is made in
// dir, or in the system's directory for temporary files if dir is empty.
func New(dir string) *Spool { return &Spool{dir: dir} }

// Size is the number of bytes in the spool.
func (s *Spool) Size() int64 { return s.size }

// Write appends p.
func (s *Spool) Write(p []byte) (int, error) {
	n := min(len(p), spoolMemory-len(s.mem))
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
	if len(s.tail) >= spoolBuffer {
		return len(p), s.flush()
	}
	return len(p), nil
}

// grow moves what is in memory to where there is room for size bytes.
func (s *Spool) grow(size int) {
	if size <= spoolStart {
		s.start = starts.Get().(*[spoolStart]byte)
		s.mem = append(s.start[:0], s.mem...)
		return
	}
	slab := slabs.Get().(*[spoolMemory]byte)
	s.mem = append(slab[:0], s.mem...)
	s.release()
	s.slab = slab
}

// flush puts the tail into the file.
func (s *Spool) flush() error {
	if len(s.tail) == 0 {
		return nil
	}
	if err := s.openFile(); err != nil {
		return err
	}
	_, err := s.file.WriteAt(s.tail, s.size-int64(len(s.tail))-spoolMemory)
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

// Truncate forgets all but the first size bytes.
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
		// An attachment stood there, which may take hours to arrive: its memory is not kept so long.
		s.mem = bytes.Clone(s.mem)
		s.release()
	}
	s.tail = nil
	if s.file != nil {
		return s.file.Truncate(max(0, size-spoolMemory))
	}
	return nil
}

// ReadAt reads as io.ReaderAt says.
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
		m, err := s.file.ReadAt(p[n:want], off+int64(n)-spoolMemory)
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

// WriteSection writes the bytes from off up to end. Those in memory are not
// copied on their way.
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

// release gives the memory back that nothing is in any more.
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

// Close gives the memory and the file back.
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
