package e2e

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// wire is the connection between detach and a real node, with a test's hand on it: it counts, holds answers, and can be cut.
type wire struct {
	addr, node string

	mu    sync.Mutex
	sent  int64 // bytes to the node
	conns []net.Conn
	down  bool  // new connections are cut at once
	limit int64 // cut, and down, when so much was sent; 0: no limit
	hold  *held
}

// held is an answer of the node that does not reach detach.
type held struct {
	request []byte
	caught  bool
	came    chan struct{} // closed when the node has begun to answer
	end     chan struct{}
}

func startWire(t *testing.T, k *servers.KuboNode) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{addr: l.Addr().String(), node: strings.TrimPrefix(k.URL(), "http://")}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { w.connect(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.cut(true)
		w.release()
		running.Wait()
	})
	return w
}

// api is its address as the configuration takes it.
func (w *wire) api() string {
	host, port, _ := net.SplitHostPort(w.addr)
	return "/ip4/" + host + "/tcp/" + port
}

func (w *wire) connect(c net.Conn) {
	defer c.Close()
	node, err := net.Dial("tcp", w.node)
	if err != nil {
		return
	}
	defer node.Close()
	w.mu.Lock()
	down := w.down
	w.conns = append(w.conns, c, node)
	w.mu.Unlock()
	if down {
		return
	}
	held := make(chan *held, 1)
	var back sync.WaitGroup
	back.Go(func() {
		w.answer(c, node, held)
		c.Close()
		node.Close()
	})
	w.request(node, c, held)
	c.Close()
	node.Close()
	back.Wait()
}

// request copies to the node.
func (w *wire) request(node, c net.Conn, found chan<- *held) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil || !w.count(buf[:n], found) {
			return
		}
		if _, err := node.Write(buf[:n]); err != nil {
			return
		}
	}
}

// count notes what goes to the node, and tells whether it may.
func (w *wire) count(b []byte, found chan<- *held) bool {
	w.mu.Lock()
	w.sent += int64(len(b))
	over := w.limit > 0 && w.sent > w.limit
	if h := w.hold; h != nil && !h.caught && bytes.Contains(b, h.request) {
		h.caught = true
		found <- h
	}
	w.mu.Unlock()
	if over {
		w.cut(true)
	}
	return !over
}

// answer copies from the node.
func (w *wire) answer(c, node net.Conn, found <-chan *held) {
	buf := make([]byte, 64<<10)
	for {
		n, err := node.Read(buf)
		if err != nil {
			return
		}
		select {
		case h := <-found:
			close(h.came)
			<-h.end
		default:
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// catch holds the answer to the next request of that command. It returns what waits for it.
func (w *wire) catch(t *testing.T, command string) (wait func()) {
	h := &held{request: []byte("/api/v0/" + command), came: make(chan struct{}), end: make(chan struct{})}
	w.mu.Lock()
	w.hold = h
	w.mu.Unlock()
	return func() {
		t.Helper()
		select {
		case <-h.came:
		case <-time.After(servers.Patience):
			t.Fatal("the node has not answered " + command)
		}
	}
}

// release lets a held answer go.
func (w *wire) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hold != nil {
		close(w.hold.end)
		w.hold = nil
	}
}

// cut breaks all connections; if it stays down, also those to come.
func (w *wire) cut(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	w.conns, w.down = nil, down
}

// mend ends what cut and limit have begun.
func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down, w.limit = false, 0
}

func (w *wire) bytesSent() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent
}
