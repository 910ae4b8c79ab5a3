package main

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// wire carries the connections between two servers, and breaks them where it is told to. Bytes that pass are those that
// came, in their order; of a connection that is cut, none passes after the cut. What one side does to its end (closing,
// half-closing, dying) the other one sees.
type wire struct {
	addr   string // host:port to connect to
	target string // host:port of the server behind

	sprung func(trap) // is told of each trap that has sprung

	mu    sync.Mutex
	traps [2][]*trap
	ends  map[net.Conn]bool

	l    net.Listener
	wg   sync.WaitGroup
	done chan struct{}
}

// direction is that of the bytes on a wire.
type direction int

const (
	there direction = iota // from who has dialled
	back                   // from the server
)

// A trap springs when so many bytes have passed in its direction, on whatever connections, and one more wants to; or when the
// words want to pass that it waits for. Then that connection is harmed.
type trap struct {
	after int64
	words string
	kind  string
	stall time.Duration
}

// springs tells how much of a chunk passes before the trap springs, if it does.
func (t *trap) springs(chunk []byte) (int, bool) {
	if t.words != "" {
		at := bytes.Index(chunk, []byte(t.words))
		return at, at >= 0
	}
	return int(t.after), t.after < int64(len(chunk))
}

// The kinds of traps.
const (
	cut     = "cut"     // both ends are closed, as by a peer that leaves
	reset   = "reset"   // both ends are reset, as by a network that breaks
	stalled = "stalled" // nothing more passes for a while
)

// newWire lays a wire to target, and takes it up at the end.
func newWire(t servers.T, target string, sprung func(trap)) *wire {
	t.Helper()
	w := &wire{addr: servers.FreeAddr(t), target: target, sprung: sprung, ends: make(map[net.Conn]bool), done: make(chan struct{})}
	var err error
	if w.l, err = net.Listen("tcp", w.addr); err != nil {
		t.Fatal(err)
	}
	w.wg.Go(w.accept)
	t.Cleanup(w.close)
	return w
}

func (w *wire) accept() {
	for {
		c, err := w.l.Accept()
		if err != nil {
			return // closed
		}
		w.wg.Go(func() { w.carry(c.(*net.TCPConn)) })
	}
}

// carry joins one client and the server.
func (w *wire) carry(client *net.TCPConn) {
	if !w.hold(client) {
		return
	}
	defer w.release(client)
	c, err := net.Dial("tcp", w.target)
	if err != nil {
		client.SetLinger(0) // as near to a refused connection as it gets
		return
	}
	server := c.(*net.TCPConn)
	if !w.hold(server) {
		return
	}
	defer w.release(server)
	var ways sync.WaitGroup
	ways.Go(func() { w.pass(server, client, there) })
	ways.Go(func() { w.pass(client, server, back) })
	ways.Wait()
}

// pass copies one direction to its end, and ends the other one too unless it was a half-close.
func (w *wire) pass(dst, src *net.TCPConn, d direction) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if !w.forward(dst, src, buf[:n], d) {
			return
		}
		switch {
		case err == io.EOF:
			dst.CloseWrite()
			return
		case err != nil:
			harm(dst, src, reset) // the one that lives learns that the other has died
			return
		}
	}
}

// forward writes a chunk as far as no trap springs. It returns false when the connection is over.
func (w *wire) forward(dst, src *net.TCPConn, chunk []byte, d direction) bool {
	for len(chunk) > 0 {
		n, t := w.step(d, chunk)
		if _, err := dst.Write(chunk[:n]); err != nil {
			harm(dst, src, reset)
			return false
		}
		chunk = chunk[n:]
		if t == nil {
			continue
		}
		w.sprung(*t)
		if t.kind != stalled {
			harm(dst, src, t.kind)
			return false
		}
		select {
		case <-time.After(t.stall):
		case <-w.done:
		}
	}
	return true
}

// step says how many bytes of a chunk may pass, and what springs after them.
func (w *wire) step(d direction, chunk []byte) (n int, first *trap) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n = len(chunk)
	for _, t := range w.traps[d] {
		if at, ok := t.springs(chunk); ok && (first == nil || at < n) {
			n, first = at, t
		}
	}
	w.traps[d] = slices.DeleteFunc(w.traps[d], func(t *trap) bool { return t == first })
	for _, t := range w.traps[d] {
		t.after -= int64(n)
	}
	return n, first
}

// set sets a trap.
func (w *wire) set(d direction, t trap) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.traps[d] = append(w.traps[d], &t)
}

// disarm takes away the traps that have not sprung.
func (w *wire) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.traps = [2][]*trap{}
}

// harm ends a connection.
func harm(a, b *net.TCPConn, kind string) {
	for _, c := range []*net.TCPConn{a, b} {
		if kind == reset {
			c.SetLinger(0)
		}
		c.Close()
	}
}

// hold keeps a connection in mind, unless the wire is being taken up.
func (w *wire) hold(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ends == nil {
		c.Close()
		return false
	}
	w.ends[c] = true
	return true
}

func (w *wire) release(c net.Conn) {
	c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.ends, c)
}

func (w *wire) close() {
	w.l.Close()
	close(w.done)
	w.mu.Lock()
	for c := range w.ends {
		c.Close()
	}
	w.ends = nil
	w.mu.Unlock()
	w.wg.Wait()
}
