package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// nextHop is the connection to the mail server behind us. Once a message has begun, only its final
// dot or closing the connection ends it: QUIT or RSET would become a part of it, and a client
// library that sends the dot first would deliver half a mail.
//
// It is used by one goroutine at a time, but for abandon.
type nextHop struct {
	conn   *conn
	in     *bufio.Reader
	inData bool // the message has begun and its end has not been answered
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
	case n.speaks():
		// Nobody asked for this answer. If it says why the next hop leaves, it is for this command
		// too; any other would make each command get the answer of the one before.
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

// speaks tells whether the next hop has said something that nobody has read, or has left.
func (n *nextHop) speaks() bool { return n.in.Buffered() > 0 || heard(n.conn.Conn) }

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

// data begins the message. If the next hop refuses it, there is no writer but its answer.
func (n *nextHop) data() (*dotWriter, answer, error) {
	a, err := n.command([]byte("DATA"))
	switch {
	case err != nil:
		return nil, answer{}, err
	case a.negative():
		return nil, a, nil
	case a.code != 354:
		// A 250 passed on here would accept a mail that nobody has.
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

// unasked is what the next hop says to a message before its final dot: nothing, if all is well. A refusal is the answer, and the
// message stays without an end. Anything else is none: taken for the answer to the dot, it would accept a mail that nobody has.
func (n *nextHop) unasked() (answer, error) {
	if !n.speaks() {
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

// finish sends the final dot and returns the answer to it. After an error nobody knows whether the
// next hop has the message.
func (n *nextHop) finish(w *dotWriter) (answer, error) {
	if err := w.Close(); err != nil {
		return answer{}, n.lose(err)
	}
	a, err := n.answer()
	if err != nil {
		return answer{}, err
	}
	if !a.positive() && !a.negative() {
		return answer{}, n.lose(errBadReply)
	}
	n.inData = false
	return a, nil
}

// keepAwake says NOOP from time to time until stop is called, for the next hop hears nothing while
// a slow client sends. If that fails, lost is called. After stop the connection is the caller's.
func (n *nextHop) keepAwake(every time.Duration, lost func(error)) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			a, err := n.command([]byte("NOOP"))
			if err == nil && a.closing() {
				err = errLost
			}
			if err != nil {
				lost(err)
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(quit)
		<-done
	})
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

// abandon closes the connection under whoever is using it.
func (n *nextHop) abandon() { n.conn.Close() }
