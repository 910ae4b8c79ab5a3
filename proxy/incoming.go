package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// incoming is a message as it comes from the client. The first failure stays: Read returns it ever
// after, and only drain gets to the message's end.
type incoming struct {
	dots  *dotReader
	limit int64 // 0: none
	hops  hopCounter

	beforeWait func()        // called before waiting for the client
	atEnd      func()        // called at the final dot
	patience   *time.Timer   // runs while the client waits for us, and not while we wait for it
	allowance  time.Duration // what patience is set to
	original   *spool.Spool  // what was read so far, if it may have to be passed on unchanged

	size  int64
	ended bool // the final dot was read
	err   error
}

// newIncoming reads a message from src. tooSlow is called when whoever takes the message in leaves
// the client waiting for longer than allowance, between two reads or after the last.
func newIncoming(src *bufio.Reader, limit int64, allowance time.Duration, tooSlow func()) *incoming {
	return &incoming{
		dots: newDotReader(src), limit: limit,
		beforeWait: func() {}, atEnd: func() {},
		patience: time.AfterFunc(allowance, tooSlow), allowance: allowance,
	}
}

func (in *incoming) Read(p []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	if in.dots.src.Buffered() < len(endOfData) {
		in.beforeWait()
	}
	in.patience.Stop()
	n, err := in.dots.Read(p)
	in.patience.Reset(in.allowance)
	in.size += int64(n)
	in.hops.scan(p[:n])
	switch {
	case err == io.EOF:
		in.ended, in.err = true, io.EOF
		in.atEnd()
	case err != nil:
		in.err = clientError(err)
	case in.limit > 0 && in.size > in.limit:
		in.err = errTooBig
	case in.hops.count > maxHops:
		in.err = errLoop
	}
	if in.err != nil {
		return 0, in.err
	}
	if in.original != nil {
		if _, err := in.original.Write(p[:n]); err != nil {
			in.forget() // there is no second chance then, but the first one is still open
		}
	}
	return n, nil
}

// failed tells whether the message itself could not be read, or must not be.
func (in *incoming) failed() bool { return in.err != nil && in.err != io.EOF }

// close leaves nothing running.
func (in *incoming) close() {
	in.patience.Stop()
	in.forget()
}

// forget gives up the copy of the original.
func (in *incoming) forget() {
	if in.original != nil {
		in.original.Close()
		in.original = nil
	}
}

// drain reads on to the real end of the message. Nothing else may follow a failure inside data: what
// comes next in the stream is the message's text, and whoever reads it as commands is attacked.
func (in *incoming) drain() error {
	if in.ended {
		return nil
	}
	in.patience.Stop()
	if _, err := io.Copy(io.Discard, in.dots); err != nil {
		return clientError(err)
	}
	in.ended = true
	return nil
}

// clientError names a failed read from the client. There is nobody left to answer, or nobody who
// could be understood: the session ends.
func clientError(err error) error {
	if isTimeout(err) {
		return fmt.Errorf("%w: %w", errStalled, err)
	}
	return fmt.Errorf("%w: %w", errGone, err)
}

// maxHops is Postfix's hopcount_limit. A next hop that leads back to us adds a Received line each
// time round, so a loop ends here (RFC 5321 section 6.3).
const maxHops = 50

var received = []byte("received:")

// hopCounter counts the Received lines of a message's header.
type hopCounter struct {
	count int
	line  []byte // the beginning of the current line, as far as it matters
	body  bool   // the header is over
}

func (h *hopCounter) scan(p []byte) {
	for len(p) > 0 && !h.body {
		n := min(len(p), len(received)-len(h.line))
		eol := bytes.IndexByte(p, '\n')
		if eol >= 0 {
			n = min(n, eol)
		}
		h.line = append(h.line, p[:n]...)
		if eol < 0 {
			return
		}
		if bytes.EqualFold(h.line, received) {
			h.count++
		}
		h.body = len(bytes.TrimSuffix(h.line, []byte("\r"))) == 0
		h.line = h.line[:0]
		p = p[eol+1:]
	}
}
