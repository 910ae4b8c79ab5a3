package stage

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// Wire carries the connections between a client and a server. It counts their bytes, and a test can
// slow, hold and break them at any byte. Bytes pass unchanged and in order, and after a cut no byte
// passes. When one side closes, half-closes or resets its end, the other side sees it.
type Wire struct {
	Addr   string // host:port to connect to
	target string // host:port of the server behind

	came      [2]atomic.Int64 // bytes, whether they passed or not
	perSecond atomic.Int64    // bytes that may pass to the server; 0: any number

	mu    sync.Mutex
	traps [2][]*Trap
	each  [2][]Trap
	conns map[*Conn]bool
	down  bool // new connections are cut

	done chan struct{} // closed when the test ends
}

// Way is the direction of the bytes on a wire.
type Way int

// There is the way from the client to the server, Back the way from the server.
const (
	There Way = iota
	Back
)

// A Trap springs once: before the byte that follows After bytes in its direction, or, if Words is
// not empty, before those words. Then decides how that connection goes on.
type Trap struct {
	After int64
	Words string
	Then  func(*Conn) Fate
}

// Fate is how a connection goes on.
type Fate int

// The fates of a connection.
const (
	GoesOn Fate = iota
	Cut         // both ends are closed, as by a peer that leaves
	Reset       // both ends are reset, as by a network that breaks
)

// springs returns how much of a chunk passes before the trap springs, and whether it does.
func (t *Trap) springs(chunk []byte) (int, bool) {
	if t.Words != "" {
		at := bytes.Index(chunk, []byte(t.Words))
		return at, at >= 0
	}
	return int(t.After), t.After < int64(len(chunk))
}

// NewWire lays a wire to a server until the test ends.
func NewWire(t servers.T, target string) *Wire {
	t.Helper()
	w := &Wire{target: target, conns: make(map[*Conn]bool), done: make(chan struct{})}
	w.Addr = servers.Accept(t, w.carry)
	t.Cleanup(func() {
		close(w.done)
		w.Cut()
	})
	return w
}

// Came returns how many bytes have come so far from one side, whether they passed or not.
func (w *Wire) Came(way Way) int64 { return w.came[way].Load() }

// Slow limits the bytes a second that pass to the server on each future connection.
func (w *Wire) Slow(perSecond int64) { w.perSecond.Store(perSecond) }

// Set sets a trap, which counts the bytes of all connections.
func (w *Wire) Set(way Way, t Trap) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.traps[way] = append(w.traps[way], &t)
}

// SetOnEach sets a trap on each future connection, which counts that connection's bytes.
func (w *Wire) SetOnEach(way Way, t Trap) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.each[way] = append(w.each[way], t)
}

// Disarm removes the traps that have not sprung, except those on single connections.
func (w *Wire) Disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.traps = [2][]*Trap{}
}

// Cut breaks all connections, and every new one until Mend.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	for c := range w.conns {
		c.end(Reset)
	}
}

// Mend ends a Cut.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
}

// Conn is a connection on a wire.
type Conn struct {
	wire           *Wire
	client, server *net.TCPConn
	traps          [2][]*Trap
}

// Set sets a trap on this connection.
func (c *Conn) Set(way Way, t Trap) {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	c.traps[way] = append(c.traps[way], &t)
}

// Hold lets nothing pass in the direction whose trap has sprung until the channel is ready or the
// test ends.
func Hold[T any](c *Conn, until <-chan T) {
	select {
	case <-until:
	case <-c.wire.done:
	}
}

// carry joins a client and the server.
func (w *Wire) carry(client *net.TCPConn) {
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		client.SetLinger(0) // a reset is the closest to a refused connection
		return
	}
	defer server.Close()
	c := &Conn{wire: w, client: client, server: server.(*net.TCPConn)}
	if !w.add(c) {
		return
	}
	perSecond := w.perSecond.Load()
	if perSecond > 0 {
		client.SetReadBuffer(64 << 10)
	}
	var ways sync.WaitGroup
	ways.Go(func() { c.pass(c.server, client, There, perSecond) })
	ways.Go(func() { c.pass(client, c.server, Back, 0) })
	ways.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}

// add registers a connection, or ends it and returns false while the wire is cut.
func (w *Wire) add(c *Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		c.end(Reset)
		return false
	}
	w.conns[c] = true
	for way, traps := range w.each {
		for _, t := range traps {
			c.traps[way] = append(c.traps[way], &t)
		}
	}
	return true
}

// pass copies one direction to its end. After a half-close the other direction goes on.
func (c *Conn) pass(dst, src *net.TCPConn, way Way, perSecond int64) {
	buf := make([]byte, 32<<10)
	if perSecond > 0 {
		buf = buf[:min(int64(len(buf)), perSecond/50)]
	}
	for {
		n, err := src.Read(buf)
		c.wire.came[way].Add(int64(n))
		if perSecond > 0 {
			time.Sleep(time.Duration(n) * time.Second / time.Duration(perSecond))
		}
		if !c.forward(dst, buf[:n], way) {
			return
		}
		if err == io.EOF {
			dst.CloseWrite()
			return
		} else if err != nil {
			c.end(Reset) // the other side learns that this one has died
			return
		}
	}
}

// forward writes a chunk up to the trap that ends the connection. It reports whether the connection
// goes on.
func (c *Conn) forward(dst *net.TCPConn, chunk []byte, way Way) bool {
	for len(chunk) > 0 {
		n, sprung := c.step(way, chunk)
		if _, err := dst.Write(chunk[:n]); err != nil {
			c.end(Reset)
			return false
		}
		chunk = chunk[n:]
		if sprung == nil {
			continue
		}
		if fate := sprung.Then(c); fate != GoesOn {
			c.end(fate)
			return false
		}
	}
	return true
}

// step returns how many bytes of a chunk may pass, and the trap that springs after them.
func (c *Conn) step(way Way, chunk []byte) (n int, first *Trap) {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	n = len(chunk)
	lists := []*[]*Trap{&c.wire.traps[way], &c.traps[way]}
	for _, list := range lists {
		for _, t := range *list {
			if at, ok := t.springs(chunk); ok && (first == nil || at < n) {
				n, first = at, t
			}
		}
	}
	for _, list := range lists {
		*list = slices.DeleteFunc(*list, func(t *Trap) bool { return t == first })
		for _, t := range *list {
			t.After -= int64(n)
		}
	}
	return n, first
}

// end ends both sides.
func (c *Conn) end(fate Fate) {
	for _, side := range []*net.TCPConn{c.client, c.server} {
		if fate == Reset {
			side.SetLinger(0)
		}
		side.Close()
	}
}
