// Package readahead reads from a source while the bytes before are still being worked on: of two
// that would wait for each other, such as a decoder and a hash, or a disk and a socket, each gets a
// core.
//
// The invariant: bytes, errors and panics reach the caller as the source gave them, in their order.
package readahead

import (
	"errors"
	"io"
	"sync"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
)

const (
	// BufferSize is the unit of reading: large enough for the cost of handing over not to count, and
	// small enough for a core's own cache.
	BufferSize = 128 << 10
	// maxBuffers are for one reader: one is filled, one is worked on, and one is between them.
	maxBuffers = 3
)

var buffers = sync.Pool{New: func() any { return new([BufferSize]byte) }}

// Reader reads its source on a goroutine of its own, which Close ends. If the budget has no memory
// for that, it has one buffer, and reads when bytes are due: in a crowd there is work for all cores
// anyway. It is not safe for concurrent use.
type Reader struct {
	budget *memory.Budget
	source io.Reader              // nil if a goroutine reads it
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

// NewReader begins to read from src. Nothing else may use src until Close has returned.
func NewReader(src io.Reader, budget *memory.Budget) *Reader {
	if !budget.TryAcquire(maxBuffers * BufferSize) {
		return &Reader{source: src}
	}
	r := &Reader{
		budget: budget,
		filled: make(chan piece, maxBuffers), free: make(chan *[BufferSize]byte, maxBuffers),
		quit: make(chan struct{}), ended: make(chan struct{}),
	}
	for range maxBuffers {
		r.free <- nil
	}
	go r.fill(until{src, r.quit})
	return r
}

// until is a source that ends when quit is closed.
type until struct {
	io.Reader
	quit <-chan struct{}
}

var errQuit = errors.New("readahead: closed")

func (u until) Read(p []byte) (int, error) {
	select {
	case <-u.quit:
		return 0, errQuit
	default:
		return u.Reader.Read(p)
	}
}

// fill runs until the source has ended, or Close was called.
func (r *Reader) fill(src until) {
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
		p.read(src)
		r.filled <- p // it has room for all buffers
		if p.err != nil || p.panicked != nil {
			return
		}
	}
}

// read fills the buffer as far as the source goes. A panic is kept for the caller of Next, which
// may expect it.
func (p *piece) read(src io.Reader) {
	defer func() { p.panicked = recover() }()
	p.n, p.err = Fill(src, p.buf[:])
}

// Fill fills buf as AtLeast does.
func Fill(r io.Reader, buf []byte) (n int, err error) { return AtLeast(r, buf, len(buf)) }

// AtLeast is io.ReadAtLeast, except that it does not turn the reader's end into
// io.ErrUnexpectedEOF: the two stay apart. At the end it returns the bytes it read, with io.EOF.
// For a reader that a hundred times gives neither a byte nor an error it returns io.ErrNoProgress.
func AtLeast(r io.Reader, buf []byte, min int) (n int, err error) {
	for empty := 0; n < min && err == nil; {
		var m int
		m, err = r.Read(buf[n:])
		n += m
		if m > 0 {
			empty = 0
		} else if empty++; empty == 100 && err == nil {
			return n, io.ErrNoProgress
		}
	}
	return n, err
}

// Next returns the next bytes, or else the source's error. The caller may change the bytes; they
// are valid until the next call.
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

// advance moves to the next piece, if there is one.
func (r *Reader) advance() {
	if r.err != nil {
		return
	}
	if r.source != nil {
		if r.buf == nil {
			r.buf = buffers.Get().(*[BufferSize]byte)
		}
		r.piece = piece{buf: r.buf}
		r.piece.read(r.source)
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

// Close ends the reader. If the source is in a Read, Close waits for it to return.
func (r *Reader) Close() {
	if r.source == nil {
		close(r.quit)
		<-r.ended
		r.budget.Release(maxBuffers * BufferSize)
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
