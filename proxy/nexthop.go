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
// It is not safe for concurrent use, but for abandon.
type nextHop struct {
	conn   *conn
	in     *bufio.Reader
	inData bool // a message has begun, and its end has not been answered
	lost   bool
}

var errLost = errors.New("next hop lost")

// dialer reaches the next hop that the configuration names.
func dialer(addr string, timeout time.Duration) func(context.Context) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	d := net.Dialer{Timeout: timeout}
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, network, addr) }
}

// connect dials the next hop and returns its greeting. ctx ends the wait for it.
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
		// This reply answers no command. If it says why the next hop leaves, it answers this
		// command too; with any other, each command would get the answer of the one before.
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

// hasUnread reports whether the next hop has said something that is not read yet, or has left.
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
		// Relayed, a 250 would accept a mail that nobody has.
		return nil, answer{}, n.lose(errBadReply)
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

// early reads a reply to the message that came before we sent the final dot. Normally there is
// none. A refusal is the answer to the message, whose end is then never sent. Any other reply loses
// the connection: mistaken for the answer to the final dot, it would accept a mail that nobody has.
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

// A verdict is what became of a message: what the client is told, and who has the message now.
type verdict struct {
	answer
	accepted int  // positive answers to the final dot; SMTP has one answer for all recipients
	unknown  bool // the final dot was sent, and not answered
}

func (v verdict) fate() transaction.Fate {
	switch {
	case v.accepted > 0:
		return transaction.Accepted
	case v.unknown:
		return transaction.Unknown
	}
	return transaction.Refused
}

// finish sends the final dot and returns the verdict of the next hop. After an error it is unknown.
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
	v := verdict{answer: a}
	if a.positive() {
		v.accepted++
	}
	return v, nil
}

// noop keeps the next hop from giving up the session. It fails if the next hop leaves.
func (n *nextHop) noop() error {
	a, err := n.command([]byte("NOOP"))
	if err == nil && a.closing() {
		err = errLost
	}
	return err
}

// reset makes the next hop forget an envelope whose message it was never given.
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
