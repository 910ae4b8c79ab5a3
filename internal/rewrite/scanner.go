package rewrite

import (
	"bytes"
	"io"
	"strings"
	"sync"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
	"github.com/nkirchhoffer/detach-mta/internal/readahead"
)

const (
	// scanBuffer bounds one read, and also one content chunk.
	scanBuffer = 32 << 10
	// maxBoundary is Postfix's limit; RFC 2046 section 5.1.1 says 70.
	maxBoundary = 2048
	// maxDelimiterLine allows for transport padding after a boundary (RFC 2046 section 5.1.1). A
	// longer line is content.
	maxDelimiterLine = maxBoundary + 1024
)

// A delimiter is one delimiter line of the message (RFC 2046 section 5.1.1).
type delimiter struct {
	line    []byte // whole, with its line end
	level   int    // of its boundary among the open ones; 0 is the outermost
	closing bool
}

// cut reports whether the message ends within the line. Some programs then take the line for
// content, unless it closes a multipart.
func (d *delimiter) cut() bool {
	return d != nil && !d.closing && !bytes.HasSuffix(d.line, []byte("\n"))
}

// A scanner splits a message into chunks of content and the delimiter lines of open boundaries.
// Chunks are as large as the reads allow and may end within a line. Joined, they are the same bytes
// for any sizes of reads.
//
// A delimiter line is "--", the boundary, optionally "--", and then only blanks: all mail programs
// agree about such lines. "--b-x" is not a delimiter of "b".
type scanner struct {
	src   io.Reader
	buf   []byte
	r, w  int
	err   error // of src, once it has ended
	bol   bool  // buf[r] is the first byte of a line
	open  map[string]int
	total int64 // read from src
}

// scanBuffers holds buffers of finished messages. Most messages are smaller than one buffer.
var scanBuffers = sync.Pool{New: func() any { return new([scanBuffer]byte) }}

func newScanner(src io.Reader) *scanner {
	buf := scanBuffers.Get().(*[scanBuffer]byte)
	return &scanner{src: src, buf: buf[:], bol: true, open: map[string]int{}}
}

// close gives the buffer back, and invalidates the bytes that next returned.
func (s *scanner) close() {
	if s.buf != nil {
		scanBuffers.Put((*[scanBuffer]byte)(s.buf))
	}
	s.buf, s.r, s.w, s.err = nil, 0, 0, io.ErrClosedPipe
}

// push opens a boundary on the next level. It refuses a boundary that no delimiter line can have.
// If the boundary cannot be distinguished from an open one, mail programs differ about the
// structure of the rest of the message, so push also ends the walk.
func (s *scanner) push(boundary string) bool {
	if boundary == "" || len(boundary) > maxBoundary || strings.TrimRight(boundary, " \t\r\n") != boundary {
		return false
	}
	for b := range s.open {
		if b == boundary || b == boundary+"--" || boundary == b+"--" {
			s.closeAll()
			return false
		}
	}
	s.open[boundary] = len(s.open)
	return true
}

func (s *scanner) pop(boundary string) { delete(s.open, boundary) }

// closeAll ends the walk: the rest of the message is content.
func (s *scanner) closeAll() { clear(s.open) }

// next returns the next chunk of content or the next delimiter, and at the end the source's error,
// which is io.EOF for a complete message. The bytes are valid until the next call.
func (s *scanner) next() ([]byte, *delimiter, error) {
	for {
		content, d, more := s.split(s.buf[s.r:s.w])
		if more && s.err == nil {
			s.fill()
			continue
		}
		if d != nil {
			s.consume(len(d.line))
			return nil, d, nil
		}
		if content == nil {
			return nil, nil, s.err
		}
		s.consume(len(content))
		return content, nil, nil
	}
}

// split returns the content or the delimiter at the start of the window. more reports that the
// result depends on the bytes that follow.
func (s *scanner) split(win []byte) (content []byte, d *delimiter, more bool) {
	if len(win) == 0 {
		return nil, nil, true
	}
	if len(s.open) == 0 {
		return win, nil, false
	}
	skip := 0
	if s.bol && win[0] == '-' {
		line, whole := lines.First(win)
		whole = whole || s.err != nil
		if !whole && len(win) <= maxDelimiterLine && (len(win) < 2 || win[1] == '-') {
			return nil, nil, true
		}
		if d := s.match(line); whole && d != nil {
			return nil, d, false
		}
		skip = 1
	}
	return win[:skip+beforeDashes(win[skip:])], nil, false
}

// beforeDashes returns the length of b before the next line that begins, or may begin, with "--",
// or the length of b if there is no such line.
func beforeDashes(b []byte) int {
	for n := 0; ; n++ {
		i := lines.Index(b[n:], '-')
		if i < 0 {
			return len(b)
		}
		if n += i; n+1 == len(b) || b[n+1] == '-' {
			return n
		}
	}
}

// match returns line as a delimiter of an open boundary, or nil.
func (s *scanner) match(line []byte) *delimiter {
	if !bytes.HasPrefix(line, []byte("--")) || len(line) > maxDelimiterLine {
		return nil
	}
	b := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	b = bytes.TrimRight(b[2:], " \t")
	if level, ok := s.open[string(b)]; ok {
		return &delimiter{line: line, level: level}
	}
	if b, closing := bytes.CutSuffix(b, []byte("--")); closing {
		if level, ok := s.open[string(b)]; ok {
			return &delimiter{line: line, level: level, closing: true}
		}
	}
	return nil
}

func (s *scanner) consume(n int) {
	s.bol = s.buf[s.r+n-1] == '\n'
	s.r += n
}

// unread makes next return the last n bytes of the latest chunk again. They must begin a line.
func (s *scanner) unread(n int) {
	s.r -= n
	s.bol = true
}

// fill reads at least one byte, or notes the source's error.
func (s *scanner) fill() {
	if s.r > 0 {
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.r = 0
	}
	n, err := readahead.AtLeast(s.src, s.buf[s.w:], 1)
	s.w += n
	s.total += int64(n)
	s.err = err
}
