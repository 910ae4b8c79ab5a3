package proxy

import (
	"bufio"
	"bytes"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
)

// dotReader reads one message as its author wrote it: without the dots that the transfer added, and
// without the dot that ends the message (RFC 5321 section 4.5.2).
//
// Only CRLF . CRLF ends a message. A receiver that also accepts LF . LF, or anything similar, reads
// the rest of the body as commands: SMTP smuggling. Bare CR, bare LF and NUL are data.
type dotReader struct {
	src *bufio.Reader
	bol bool // at the beginning of a line: the two bytes before were CRLF
	cr  bool // the byte before was CR
	err error
}

func newDotReader(src *bufio.Reader) *dotReader {
	return &dotReader{src: src, bol: true} // the DATA command ended with CRLF
}

// Read returns io.EOF after the final dot only: a connection that ends earlier is an
// io.ErrUnexpectedEOF. It consumes nothing of the bufio.Reader beyond the final CRLF.
func (d *dotReader) Read(p []byte) (n int, err error) {
	for n < len(p) && d.err == nil {
		// Three bytes decide about a dot. What is there is returned before waiting for them.
		if n > 0 && d.src.Buffered() < len(endOfData) {
			break
		}
		n += d.step(p[n:])
	}
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, d.err
}

var (
	endOfData = []byte(".\r\n")
	crlf      = []byte("\r\n")
)

// step copies what comes before the next line that begins with a dot, or removes that dot.
func (d *dotReader) step(p []byte) int {
	b, err := d.src.Peek(1)
	if err != nil {
		return d.fail(err)
	}
	if d.bol && b[0] == '.' {
		// The rest of a message has at least three bytes, so Peek waits for no byte after its end.
		if b, err = d.src.Peek(len(endOfData)); err != nil {
			return d.fail(err)
		}
		if bytes.Equal(b, endOfData) {
			d.err = io.EOF
			d.src.Discard(len(endOfData))
			return 0
		}
		d.bol = false
		d.src.Discard(1)
		return 0
	}
	b, _ = d.src.Peek(min(d.src.Buffered(), len(p)))
	if d.cr && b[0] == '\n' {
		b = b[:1]
	} else if i := indexDot(b); i >= 0 {
		b = b[:i]
	}
	copy(p, b)
	d.bol, d.cr = endsLine(b, d.cr), b[len(b)-1] == '\r'
	d.src.Discard(len(b))
	return len(b)
}

// indexDot returns where the first line of b begins with a dot, or -1. A line begins after CRLF.
func indexDot(b []byte) int {
	for n := 0; ; n++ {
		i := lines.Index(b[n:], '.')
		if i < 0 {
			return -1
		}
		if n += i; n >= len(crlf) && b[n-len(crlf)] == '\r' {
			return n
		}
	}
}

func (d *dotReader) fail(err error) int {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	d.err = err
	return 0
}

// endsLine reports whether b, which came after a CR if cr is set, ends with CRLF.
func endsLine(b []byte, cr bool) bool {
	if len(b) == 1 {
		return cr && b[0] == '\n'
	}
	return bytes.HasSuffix(b, crlf)
}

// dotWriter is the opposite of dotReader: it doubles the dots that begin a line.
//
// Bytes go out as they came in, with one exception: a bare CR or a bare LF before a dot is sent as
// CRLF, and the dot is doubled. Receivers disagree on whether either ends a line (Postfix takes LF,
// some gateways clean both to CRLF, RFC 5321 section 2.3.8 forbids it), and LF . LF or CR . CR sent
// verbatim would end the message for some of them. Changed in this way, it is the same message for
// all of them.
//
// The caller must call Flush before it waits for more of the message. Close ends the message.
type dotWriter struct {
	dst  *bufio.Writer
	bol  bool // at the beginning of a line: the two bytes before were CRLF, or there were none
	cr   bool // the byte before was CR
	held byte // a bare LF, or a CR, that is not written yet because a dot may follow; 0: none
}

func newDotWriter(dst *bufio.Writer) *dotWriter { return &dotWriter{dst: dst, bol: true} }

// Write returns the destination's error, and every later Write returns it again.
func (d *dotWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		d.release(p[n] == '.')
		if d.bol && p[n] == '.' {
			d.dst.WriteByte('.')
		}
		b := p[n:]
		if i := nextDot(b); i >= 0 {
			b = b[:i]
		}
		d.bol = endsLine(b, d.cr)
		last := b[len(b)-1]
		d.cr = last == '\r'
		n += len(b)
		if d.cr || last == '\n' && !d.bol {
			d.held = last
			b = b[:len(b)-1]
		}
		if _, err := d.dst.Write(b); err != nil {
			return n, err
		}
	}
	return n, nil
}

// nextDot returns the offset of the first dot that CR or LF precedes in b, or -1. Like lines.Index,
// it makes only a few searches for each line.
func nextDot(b []byte) int {
	for n := 0; ; {
		i := bytes.IndexByte(b[n:], '.')
		if i < 0 {
			return -1
		}
		n += i
		if n > 0 && (b[n-1] == '\r' || b[n-1] == '\n') {
			return n
		}
		line, whole := lines.First(b[n:])
		if i = bytes.IndexByte(line, '\r'); i >= 0 {
			n += i + 1
		} else if n += len(line); !whole {
			return -1
		}
	}
}

// release writes the byte that was held back, as CRLF if it has to end a line.
func (d *dotWriter) release(endLine bool) {
	switch {
	case d.held == 0:
		return
	case endLine:
		d.dst.Write(crlf)
		d.bol = true
	default:
		d.dst.WriteByte(d.held)
	}
	d.held = 0
}

// Flush sends what is buffered. The message can still be abandoned.
func (d *dotWriter) Flush() error { return d.dst.Flush() }

// Close sends the final dot, on a line of its own: it ends the message's last line if necessary.
func (d *dotWriter) Close() error {
	d.release(d.held == '\n')
	if !d.bol {
		d.dst.Write(crlf)
	}
	d.dst.Write(endOfData)
	return d.dst.Flush()
}
