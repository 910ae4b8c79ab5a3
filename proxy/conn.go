package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// lineSize bounds a command and a line of a reply. RFC 5321 section 4.5.3.1 asks for 512 bytes
	// and more with extensions; Postfix takes 2,048. An idle connection buffers no more than this.
	lineSize = 4096
	// dataSize is the buffer for message data, borrowed while a message passes.
	dataSize = 32 << 10
	// socketSize bounds how far a client can run ahead of us. Given megabytes, it would have sent
	// its final dot and started its timeout while we still had those megabytes to store.
	socketSize = 256 << 10
)

// conn is a connection whose deadlines follow progress: a peer may take as long as it likes, but
// must not be silent for longer than idle.
type conn struct {
	net.Conn
	idle time.Duration

	mu  sync.Mutex
	cut bool
}

func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if !c.cut {
		c.Conn.SetReadDeadline(time.Now().Add(c.idle))
	}
	c.mu.Unlock()
	return c.Conn.Read(p)
}

// Write counts every part that the peer takes as progress, so that a large buffer may trickle.
func (c *conn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		c.Conn.SetWriteDeadline(time.Now().Add(c.idle))
		m, err := c.Conn.Write(p[n:])
		n += m
		if err != nil && (m == 0 || !isTimeout(err)) {
			return n, err
		}
	}
	return n, nil
}

// interrupt makes the Read in progress, and every Read until resume, fail with a timeout.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	c.Conn.SetReadDeadline(time.Unix(1, 0))
}

func (c *conn) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = false
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

var (
	lineReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, lineSize) }}
	dataReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, dataSize) }}
	dataWriters = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, dataSize) }}
)

// borrow takes a reader out of a pool, and makes it read from src.
func borrow(pool *sync.Pool, src io.Reader) *bufio.Reader {
	r := pool.Get().(*bufio.Reader)
	r.Reset(src)
	return r
}

// giveBack returns a borrowed reader.
func giveBack(pool *sync.Pool, r *bufio.Reader) {
	r.Reset(nil)
	pool.Put(r)
}

// rebuffer makes to read what from has buffered, and then src. It returns the new source of to.
func rebuffer(to, from *bufio.Reader, src io.Reader) io.Reader {
	rest, _ := from.Peek(from.Buffered())
	if len(rest) > 0 {
		src = io.MultiReader(bytes.NewReader(bytes.Clone(rest)), src)
	}
	to.Reset(src)
	return src
}

var errLongLine = errors.New("line too long")

// readLine reads one line and returns it without its end, CRLF or LF. The line is valid until the
// next read. A line that is longer than the buffer is read to its end and reported as errLongLine,
// or as errEndlessLine beyond maxLongLine.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		return nil, skipLine(r)
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// maxLongLine bounds how much is read of a line that will be refused anyway.
const maxLongLine = 64 << 10

func skipLine(r *bufio.Reader) error {
	for range maxLongLine / lineSize {
		if _, err := r.ReadSlice('\n'); err == nil {
			return errLongLine
		} else if err != bufio.ErrBufferFull {
			return err
		}
	}
	return errEndlessLine
}
