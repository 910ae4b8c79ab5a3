package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/transaction"
)

// nextHop is the connection to the mail server behind us. Once a message has begun, only its final
// dot or closing the connection ends it: QUIT or RSET would become a part of it, and a client
// library that sends the dot first would deliver half a mail.
//
// nextHop is not safe for concurrent use, except for abandon.
type nextHop struct {
	conn   *conn
	in     *bufio.Reader
	inData bool // a message has begun, and the next hop has not answered its final dot
	lost   bool
}

var errLost = errors.New("next hop lost")

// dialer returns a function that dials addr, which is host:port or unix:/path.
func dialer(addr string, timeout time.Duration) func(context.Context) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	d := net.Dialer{Timeout: timeout}
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, network, addr) }
}

// connect dials the next hop and returns the greeting. It stops waiting for it when ctx ends.
func connect(ctx context.Context, dial func(context.Context) (net.Conn, error), t Timeouts) (*nextHop, answer, error) {
	c, err := dial(ctx)
	if err != nil {
		return nil, answer{}, fmt.Errorf("dial next hop: %w", err)
	}
	conn := &conn{Conn: c, idle: t.Reply}
	n := &nextHop{conn: conn, in: borrow(&lineReaders, conn)}
	release := context.AfterFunc(ctx, n.abandon)
	defer release()
	greeting, err := n.answer()
	return n, greeting, err
}

// command sends a line and returns the answer to it. An error means that the connection is lost.
func (n *nextHop) command(line []byte) (answer, error) {
	switch {
	case n.inData:
		return answer{}, n.lose(errors.New("command inside data"))
	case n.lost:
		return answer{}, errLost
	case n.hasUnread():
		// This reply answers no command. A 421 says why the next hop leaves, and is relayed. With any
		// other, each command would get the answer of the one before.
		a, err := n.answer()
		if err == nil && a.code != 421 {
			err = n.lose(errBadReply)
		}
		return a, err
	}
	if _, err := n.conn.Write(append(line[:len(line):len(line)], crlf...)); err != nil {
		return answer{}, n.lose(err)
	}
	return n.answer()
}

// hasUnread reports whether the next hop has said something that we have not read, or has left.
func (n *nextHop) hasUnread() bool { return n.in.Buffered() > 0 || hasUnread(n.conn.Conn) }

func (n *nextHop) answer() (answer, error) {
	a, err := readAnswer(n.in)
	if err != nil {
		return answer{}, n.lose(err)
	}
	if a.closing() {
		n.close()
	}
	return a, nil
}

// data begins a message. If the next hop refuses it, data returns the refusal and no writer.
func (n *nextHop) data() (*dotWriter, answer, error) {
	a, err := n.command([]byte("DATA"))
	switch {
	case err != nil:
		return nil, answer{}, err
	case a.negative():
		return nil, a, nil
	case a.code != 354:
		return nil, answer{}, n.lose(errBadReply) // relaying a 250 would accept a mail that nobody has
	}
	n.inData = true
	buf := dataWriters.Get().(*bufio.Writer)
	buf.Reset(n.conn)
	return newDotWriter(buf), answer{}, nil
}

// release gives the writer's buffer back.
func (n *nextHop) release(w *dotWriter) {
	w.dst.Reset(nil)
	dataWriters.Put(w.dst)
	w.dst = nil
}

// early reads a reply that came before we sent the final dot. Normally the next hop is silent. A
// refusal answers the message, and the dot is never sent. Any other reply loses the connection:
// mistaken for the answer to the dot, it would accept a mail that nobody has.
func (n *nextHop) early() (answer, error) {
	if !n.hasUnread() {
		return answer{}, nil
	}
	a, err := n.answer()
	if err == nil && !a.negative() {
		err = errBadReply
	}
	if err != nil {
		return answer{}, n.lose(err)
	}
	n.close()
	return a, nil
}

// A verdict says what the client is told about a message, and whether the next hop has it.
type verdict struct {
	answer       // positive: to the final dot
	unknown bool // the final dot was sent, and not answered
}

func (v verdict) fate() transaction.Fate {
	switch {
	case v.positive():
		return transaction.Accepted
	case v.unknown:
		return transaction.Unknown
	}
	return transaction.Refused
}

// finish sends the final dot and returns the next hop's verdict, which is unknown after an error.
func (n *nextHop) finish(w *dotWriter) (verdict, error) {
	if err := w.Close(); err != nil {
		return verdict{unknown: true}, n.lose(err)
	}
	a, err := n.answer()
	if err == nil && !a.positive() && !a.negative() {
		err = n.lose(errBadReply)
	}
	if err != nil {
		return verdict{unknown: true}, err
	}
	n.inData = false
	return verdict{answer: a}, nil
}

// noop keeps the next hop from ending the idle session. It fails if the next hop has left.
func (n *nextHop) noop() error {
	a, err := n.command([]byte("NOOP"))
	if err == nil && a.closing() {
		err = errLost
	}
	return err
}

// reset makes the next hop forget the envelope of a message that it never got.
func (n *nextHop) reset() {
	if n.lost {
		return
	}
	if a, err := n.command([]byte("RSET")); err == nil && !a.positive() {
		n.close()
	}
}

func (n *nextHop) lose(err error) error {
	n.close()
	return fmt.Errorf("%w: %w", errLost, err)
}

func (n *nextHop) close() {
	n.lost = true
	n.conn.Close()
}

// abandon closes the connection, also while another goroutine uses it.
func (n *nextHop) abandon() { n.conn.Close() }
