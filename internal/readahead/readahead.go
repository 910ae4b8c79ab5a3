// Package readahead reads from a source while its caller still works on earlier bytes. Two steps
// that would otherwise wait for each other (a decoder and a hash, a disk and a socket) overlap.
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
	// BufferSize is the unit of reading: large enough to make the cost of a channel send negligible,
	// small enough for a core's own cache.
	BufferSize = 128 << 10
	maxBuffers = 3 // for each reader: one is being filled, one waits, one is with the caller
	// crowdSize is the size of the only buffer of a Reader for which the budget has no memory. It
	// counts nowhere, so it is small.
	crowdSize = 32 << 10
)

var (
	buffers      = sync.Pool{New: func() any { return new([BufferSize]byte) }}
	crowdBuffers = sync.Pool{New: func() any { return new([crowdSize]byte) }}
)

// Reader reads its source on a goroutine of its own, which Close ends. If the budget has no memory
// for that, Reader has one small buffer and reads its source when its caller reads: with so many
// readers there is work for all cores anyway. It is not safe for concurrent use.
type Reader struct {
	budget *memory.Budget
	source io.Reader              // nil if a goroutine reads it
	alone  *[crowdSize]byte       // the buffer for source
	filled chan piece             // in the order of the source
	free   chan *[BufferSize]byte // to be filled; nil stands for a buffer that does not exist yet
	quit   chan struct{}          // closed by Close
	ended  chan struct{}          // closed when the goroutine has ended
	piece                         // what the caller reads now
	rest   []byte                 // the unread part of piece
}

// piece is the result of one read: n bytes in buf, and the source's error or panic, if any.
type piece struct {
	buf      *[BufferSize]byte
	n        int
	err      error
	panicked any
}

// NewReader begins to read from src. The caller must not use src until Close has returned.
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

// until is a reader that fails once quit is closed.
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

// fill runs until the source has ended or Close is called.
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
		p.read(src, p.buf[:])
		r.filled <- p // never blocks: its capacity is maxBuffers
		if p.err != nil || p.panicked != nil {
			return
		}
	}
}

// read fills buf, or less at the end of the source. It keeps a panic for the caller of Next, which
// may recover from it.
func (p *piece) read(src io.Reader, buf []byte) {
	defer func() { p.panicked = recover() }()
	p.n, p.err = Fill(src, buf)
}

// Fill fills buf as AtLeast does.
func Fill(r io.Reader, buf []byte) (n int, err error) { return AtLeast(r, buf, len(buf)) }

// AtLeast is io.ReadAtLeast, except that it returns the bytes it read with io.EOF at the reader's
// end, so io.ErrUnexpectedEOF is always the reader's own error. If a hundred reads in a row give
// neither a byte nor an error, it returns io.ErrNoProgress.
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

// Next returns the next bytes, or the source's error if no bytes are left. The caller may change
// the bytes; they are valid until the next call.
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
	b, err := r.Next()
	n := copy(p, b)
	r.rest = b[n:]
	return n, err
}

// advance moves to the next piece, unless the source has ended.
func (r *Reader) advance() {
	if r.err != nil {
		return
	}
	var buf []byte
	if r.source != nil {
		if r.alone == nil {
			r.alone = crowdBuffers.Get().(*[crowdSize]byte)
		}
		buf = r.alone[:]
		r.piece = piece{}
		r.piece.read(r.source, buf)
	} else {
		if r.buf != nil {
			r.free <- r.buf
			r.buf = nil
		}
		r.piece = <-r.filled
		buf = r.buf[:]
	}
	if r.panicked != nil {
		panic(r.panicked)
	}
	r.rest = buf[:r.n]
}

// Close ends the reader. It waits for a Read of the source that is under way.
func (r *Reader) Close() {
	if r.source == nil {
		close(r.quit)
		<-r.ended
		r.budget.Release(maxBuffers * BufferSize)
	}
	if r.alone != nil {
		crowdBuffers.Put(r.alone)
		r.alone = nil
	}
	for buf := r.buf; ; {
		if buf != nil {
			buffers.Put(buf)
		}
		select {
		case p := <-r.filled:
			buf = p.buf
		case buf = <-r.free:
		default:
			return
		}
	}
}
