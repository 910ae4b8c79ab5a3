package memory

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

const (
	// SlotSize is the largest number of bytes that Spill accepts.
	SlotSize = 2 << 20
	// MaxSlots bounds the file: 512 blocks of 1 MiB.
	MaxSlots = 512
)

// ErrFull means that all slots are in use.
var ErrFull = errors.New("memory: no slot of the spill file is free")

// spillFile is an unlinked temporary file of slots: it ends with the process at the latest, and it
// exists only while a slot is in use.
type spillFile struct {
	dir string

	mu   sync.Mutex
	file *os.File
	used int
	size int64   // in slots
	free []int64 // numbers of the slots that are not in use
}

// Slot is a place in the spill file.
type Slot struct {
	spill *spillFile
	file  *os.File
	n     int64 // its number
	size  int64 // of the bytes in it
}

// Spill writes p, of at most SlotSize bytes, to the spill file. The caller frees the slot. Spill
// returns ErrFull if MaxSlots slots are in use.
func (b *Budget) Spill(p []byte) (*Slot, error) {
	if len(p) > SlotSize {
		return nil, fmt.Errorf("memory: %d bytes are more than a slot", len(p))
	}
	s, err := b.spill.take()
	if err != nil {
		return nil, err
	}
	if _, err := s.file.WriteAt(p, s.n*SlotSize); err != nil {
		s.Free()
		return nil, err
	}
	s.size = int64(len(p))
	return s, nil
}

func (f *spillFile) take() (*Slot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.used == MaxSlots {
		return nil, ErrFull
	}
	if f.file == nil {
		file, err := os.CreateTemp(f.dir, ".spill-*")
		if err != nil {
			return nil, err
		}
		// Another process that starts may have removed the name: see spool.Clean.
		if err := os.Remove(file.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(err, file.Close())
		}
		f.file = file
	}
	f.used++
	s := &Slot{spill: f, file: f.file, n: f.size}
	if last := len(f.free) - 1; last >= 0 {
		s.n, f.free = f.free[last], f.free[:last]
	} else {
		f.size++
	}
	return s, nil
}

func (f *spillFile) inUse() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used
}

// ReadAt implements io.ReaderAt for the bytes that were spilled.
func (s *Slot) ReadAt(p []byte, off int64) (int, error) {
	n, err := io.NewSectionReader(s.file, s.n*SlotSize, s.size).ReadAt(p, off)
	if err == io.EOF && off+int64(n) < s.size {
		return n, io.ErrUnexpectedEOF // the disk has lost some bytes
	}
	return n, err
}

// Free gives the slot back. The slot must not be used afterwards.
func (s *Slot) Free() {
	f := s.spill
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free = append(f.free, s.n)
	if f.used--; f.used == 0 {
		_ = f.file.Close() // an error does not matter: no slot is read again
		f.file, f.size, f.free = nil, 0, nil
	}
}
