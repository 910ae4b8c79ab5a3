package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
)

const (
	// smallFile is the size up to which a spool's file may use all of the disk space. A larger file
	// leaves a quarter of it, so mails of gigabytes do not stop the others. A small file also need
	// not be admitted (see Space.Admit): the small files of 200 sessions together stay below the 1
	// GiB that store.min_free keeps free.
	smallFile = 4 << 20
	// diskStep is how much disk space a spool takes at a time.
	diskStep = 256 << 10
)

// ErrFull is returned by Write when a spool needs more disk space than it may take.
var ErrFull = errors.New("no space for temporary files")

// A Space is the memory and the disk that spools share. It is safe for concurrent use. A nil *Space
// has no limits, and its directory is the system's for temporary files.
type Space struct {
	dir    string
	memory *memory.Budget
	work   *memory.Budget
	size   int64 // bytes of all files

	// Admit, if not nil, is called before a file that is no longer small grows by n bytes, and
	// returns an error if the file system must not lose so much. It must be safe for concurrent use,
	// and is set before the first New.
	Admit func(n int64) error

	mu   sync.Mutex
	used int64 // bytes of all files
}

// NewSpace returns a space whose spools take memory from the budget, which may be nil, and have
// files in dir of size bytes together.
func NewSpace(dir string, budget *memory.Budget, size int64) *Space {
	s := &Space{dir: dir, memory: budget, size: size}
	if budget != nil {
		s.work = memory.New(budget.Urgent())
	}
	return s
}

// Work returns a second budget, a quarter as large, for work on a mail during which something is
// stored: that work must not hold the memory that storing waits for. Work returns nil if there is
// no limit.
func (s *Space) Work() *memory.Budget {
	if s == nil {
		return nil
	}
	return s.work
}

// Clean makes the directory dir for temporary files, and empties it: a process that is killed while
// it makes a file leaves one. A file in use has no name, so Clean does not disturb other processes.
func Clean(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	left, err := os.ReadDir(dir)
	for _, entry := range left {
		err = errors.Join(err, ignoreMissing(os.Remove(filepath.Join(dir, entry.Name()))))
	}
	return err
}

// Memory returns the budget of the spools' memory. It is nil if there is no limit.
func (s *Space) Memory() *memory.Budget {
	if s == nil {
		return nil
	}
	return s.memory
}

// Disk returns how many bytes the spools have taken of the disk.
func (s *Space) Disk() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// create returns a new file without a name.
func (s *Space) create() (*os.File, error) {
	dir := ""
	if s != nil {
		dir = s.dir
	}
	f, err := os.CreateTemp(dir, "detach-spool-")
	if err != nil {
		return nil, err
	}
	// Another process that starts may have removed the name: see Clean.
	if err := ignoreMissing(os.Remove(f.Name())); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// takeMemory reports whether it took n bytes of memory.
func (s *Space) takeMemory(n int) bool { return s == nil || s.memory.TryAcquire(int64(n)) }

func (s *Space) giveMemory(n int) {
	if s != nil {
		s.memory.Release(int64(n))
	}
}

// takeDisk takes n bytes for a file that will then have size bytes.
func (s *Space) takeDisk(n, size int64) error {
	if s == nil {
		return nil
	}
	small := size <= smallFile
	if !s.tryDisk(n, small) {
		return fmt.Errorf("%w: %d bytes are used", ErrFull, s.Disk())
	}
	if small || s.Admit == nil {
		return nil
	}
	if err := s.Admit(n); err != nil {
		s.giveDisk(n)
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return nil
}

func (s *Space) tryDisk(n int64, small bool) bool {
	limit := s.size
	if !small {
		limit -= limit / 4
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used+n > limit {
		return false
	}
	s.used += n
	return true
}

func (s *Space) giveDisk(n int64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used -= n; s.used < 0 {
		panic("spool: more disk space given back than taken")
	}
}
