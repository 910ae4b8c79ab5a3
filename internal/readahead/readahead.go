// Package readahead reads from a source while what came before is still being worked on: of two that wait for each other, such
// as a decoder and a hash, a disk and a socket, each gets a core.
package readahead

import (
	"io"
	"sync"
)

const (
	// BufferSize is read and handed over at once: large enough for the cost of that not to count, and small enough for a core's
	// own cache.
	BufferSize = 128 << 10
	// maxBuffers are for one reader: one is filled, one is worked on, and one is between them.
	maxBuffers = 3
	// maxReaders read ahead at once, in 12 MiB. In a larger crowd there is work enough for all cores: whoever finds no room has
	// one buffer, and reads when its bytes are due.
	maxReaders = 32
)

// room has one in it for each that reads ahead.
var room = make(chan struct{}, maxReaders)

var buffers = sync.Pool{New: func() any { return new([BufferSize]byte) }}

// Reader reads its source on a goroutine of its own, which Close ends. It is for one goroutine itself.
type Reader struct {
	late   io.Reader              // the source, if it is not read ahead
	filled chan piece             // by the source, to be read
	free   chan *[BufferSize]byte // to be filled; nil stands for one that was not needed yet
	quit   chan struct{}          // closed by Close
	ended  chan struct{}          // closed when the source is not used any more
	piece                         // what is read now
	rest   []byte                 // of it
}

// piece is what the source gave, and how it ended if it did.
type piece struct {
	buf      *[BufferSize]byte
	n        int
	err      error
	panicked any
}

// NewReader begins to read from src, which nobody else must use until Close has returned.
func NewReader(src io.Reader) *Reader {
	select {
	case room <- struct{}{}:
	default:
		return &Reader{late: src}
	}
	r := &Reader{
		filled: make(chan piece, maxBuffers), free: make(chan *[BufferSize]byte, maxBuffers),
		quit: make(chan struct{}), ended: make(chan struct{}),
	}
	for range maxBuffers {
		r.free <- nil
	}
	go r.fill(src)
	return r
}

// fill runs until the source has ended, or Close was called.
func (r *Reader) fill(src io.Reader) {
	defer close(r.ended)
	for {
		var p piece
		select {
		case p.buf = <-r.free:
		case <-r.quit:
			return
		}
		if p.buf == nil {
			p.buf = buffers.Get().(*[BufferSize]byte)
		}
		p.read(src, r.quit)
		r.filled <- p // there is room for all buffers
		if p.err != nil || p.panicked != nil {
			return
		}
	}
}

// read fills the buffer as far as the source goes, or until quit. A panic is the caller's of Next: there is someone there who
// expects it.
func (p *piece) read(src io.Reader, quit <-chan struct{}) {
	defer func() { p.panicked = recover() }()
	for empty := 0; p.n < len(p.buf) && p.err == nil; {
		select {
		case <-quit:
			return
		default:
		}
		var n int
		n, p.err = src.Read(p.buf[p.n:])
		p.n += n
		if n > 0 {
			empty = 0
		} else if empty++; empty == 100 && p.err == nil {
			p.err = io.ErrNoProgress
		}
	}
}

// Next returns the next bytes, or else the source's error. They are valid until the next call, and the caller's to change.
func (r *Reader) Next() ([]byte, error) {
	if len(r.rest) == 0 {
		r.advance()
	}
	if len(r.rest) == 0 {
		return nil, r.err
	}
	b := r.rest
	r.rest = nil
	return b, nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.rest) == 0 {
		r.advance()
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// advance goes on to the next piece, if there is one.
func (r *Reader) advance() {
	if r.err != nil {
		return
	}
	if r.late != nil {
		if r.buf == nil {
			r.buf = buffers.Get().(*[BufferSize]byte)
		}
		r.piece = piece{buf: r.buf}
		r.piece.read(r.late, nil)
	} else {
		if r.buf != nil {
			r.free <- r.buf
			r.buf = nil
		}
		r.piece = <-r.filled
	}
	if r.panicked != nil {
		panic(r.panicked)
	}
	r.rest = r.buf[:r.n]
}

// Close ends the reader. It waits for the source to return from a Read that it is in, and then gives the buffers back.
func (r *Reader) Close() {
	if r.late == nil {
		close(r.quit)
		<-r.ended
		<-room
	}
	for _, buf := range r.all() {
		if buf != nil {
			buffers.Put(buf)
		}
	}
}

func (r *Reader) all() []*[BufferSize]byte {
	all := []*[BufferSize]byte{r.buf}
	for {
		select {
		case p := <-r.filled:
			all = append(all, p.buf)
		case buf := <-r.free:
			all = append(all, buf)
		default:
			return all
		}
	}
}
