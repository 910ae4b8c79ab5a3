package proxy

import (
	"bytes"
	"fmt"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/transaction"
)

// incoming is a message as it comes from the client. After a failure every Read returns that
// failure, and only drain reads on to the message's end.
type incoming struct {
	dots  *dotReader
	limit int64 // 0: none
	size  int64
	hops  hopCounter
	ended bool       // the final dot was read
	atEnd func()     // called at the final dot
	sink  *dotWriter // nil, or flushed before we wait for the client: the next hop gets all we have
	err   error
}

func (in *incoming) Read(p []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	if in.sink != nil && in.dots.src.Buffered() < len(endOfData) {
		in.sink.Flush()
	}
	n, err := in.dots.Read(p)
	in.size += int64(n)
	in.hops.scan(p[:n])
	switch {
	case err == io.EOF:
		in.ended, in.err = true, io.EOF
		in.atEnd()
	case err != nil:
		in.err = clientError(err)
	case in.limit > 0 && in.size > in.limit:
		in.err = fmt.Errorf("%w: %w", transaction.ErrRejected, errTooBig)
	case in.hops.count > maxHops:
		in.err = fmt.Errorf("%w: %w", transaction.ErrRejected, errLoop)
	}
	if in.err != nil {
		return 0, in.err
	}
	return n, nil
}

// drain reads on to the real end of the message. After a failure inside data it must be called:
// otherwise the rest of the message's text would be read as commands.
func (in *incoming) drain() error {
	if in.ended {
		return nil
	}
	if _, err := io.Copy(io.Discard, in.dots); err != nil {
		return clientError(err)
	}
	in.ended = true
	return nil
}

// clientError names a failed read from the client. The reply to it is a 421: the session ends.
func clientError(err error) error {
	own := errGone
	if isTimeout(err) {
		own = errStalled
	}
	return fmt.Errorf("%w: %w: %w", transaction.ErrAbandoned, own, err)
}

// maxHops is Postfix's hopcount_limit. It ends a mail loop, in which the next hop leads back to us:
// each round adds a Received line (RFC 5321 section 6.3).
const maxHops = 50

var received = []byte("received:")

// hopCounter counts the Received lines of a message's header.
type hopCounter struct {
	count int
	line  []byte // the beginning of the current line, as far as it matters
	body  bool   // the header has ended
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
