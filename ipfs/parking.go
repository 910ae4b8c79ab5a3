package ipfs

import (
	"errors"
	"io"
	"os"
	"sync"
)

// parking is the file of this process in which leaves are that have no memory. It has no name, so nothing of it stays,
// and it is there while a leaf is.
var parking struct {
	mu    sync.Mutex
	file  *os.File
	used  int
	size  int64   // in places
	empty []int64 // those of them that are free
}

// place is room in the file for one block.
type place struct {
	file *os.File
	n    int64
}

func takePlace() (*place, error) {
	parking.mu.Lock()
	defer parking.mu.Unlock()
	if parking.file == nil {
		f, err := os.CreateTemp("", "detach-*")
		if err != nil {
			return nil, err
		}
		if err := os.Remove(f.Name()); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		parking.file = f
	}
	parking.used++
	p := &place{file: parking.file, n: parking.size}
	if last := len(parking.empty) - 1; last >= 0 {
		p.n, parking.empty = parking.empty[last], parking.empty[:last]
	} else {
		parking.size++
	}
	return p, nil
}

// give gives the place back. With the last one the file goes.
func (p *place) give() {
	parking.mu.Lock()
	defer parking.mu.Unlock()
	parking.empty = append(parking.empty, p.n)
	if parking.used--; parking.used == 0 {
		_ = parking.file.Close() // what was in it is not wanted any more
		parking.file, parking.size, parking.empty = nil, 0, nil
	}
}

func (p *place) write(block []byte) error {
	_, err := p.file.WriteAt(block, p.n*MaxBlock)
	return err
}

// readAt fills b. If less is there than was written, it is the disk's fault.
func (p *place) readAt(b []byte, off int64) (int, error) {
	if n, err := p.file.ReadAt(b, p.n*MaxBlock+off); n < len(b) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, Unavailable("read parked block", err)
	}
	return len(b), nil
}
