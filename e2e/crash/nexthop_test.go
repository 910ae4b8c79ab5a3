package crash

import (
	"bufio"
	"bytes"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// hop is a next hop that a test can stop before any answer and cut at any time. Only CRLF . CRLF
// ends a message.
type hop struct {
	addr string

	mu    sync.Mutex
	gates map[string]*gate // by verb, "body" and "." for the final dot
	held  []*gate          // also those that were reached
	conns map[*net.TCPConn]bool
	whole []string // messages that came with their final dot
}

// gate holds the next answer of one kind.
type gate struct {
	t       *testing.T
	reached chan struct{} // closed when the answer is due
	answer  chan string
}

// hangUp, as an answer, closes the connection.
const hangUp = "hang up"

// bodyGate is how much of a message is read before a gate at "body". The rest must not fit into the
// kernel's buffers.
const bodyGate = 64 << 10

var hopAnswers = map[string]string{
	"greeting": "220 next.example ESMTP",
	"EHLO":     "250-next.example\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 8BITMIME",
	"DATA":     "354 Go on",
	".":        "250 2.0.0 Ok: queued as 4Xhop",
	"QUIT":     "221 2.0.0 Bye",
}

func startHop(t *testing.T) *hop {
	t.Helper()
	h := &hop{gates: make(map[string]*gate), conns: make(map[*net.TCPConn]bool)}
	h.addr = servers.Accept(t, func(c *net.TCPConn) {
		h.mu.Lock()
		h.conns[c] = true
		h.mu.Unlock()
		h.serve(c)
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.conns, c)
	})
	t.Cleanup(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, g := range h.held {
			g.open(hangUp)
		}
	})
	return h
}

// hold makes the next answer of that kind wait for the test.
func (h *hop) hold(t *testing.T, kind string) *gate {
	g := &gate{t: t, reached: make(chan struct{}), answer: make(chan string, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gates[kind], h.held = g, append(h.held, g)
	return g
}

// wait waits until the next hop has reached the gate.
func (g *gate) wait() {
	g.t.Helper()
	select {
	case <-g.reached:
	case <-time.After(servers.Patience):
		g.t.Fatal("the next hop was not asked for the answer that is held")
	}
}

// open lets the next hop go on with an answer, or with the usual one if it is empty. Only the first
// call counts.
func (g *gate) open(answer string) {
	select {
	case g.answer <- answer:
	default:
	}
}

// answer gives one answer, and reports whether the session goes on.
func (h *hop) answer(c *net.TCPConn, kind string) (string, bool) {
	h.mu.Lock()
	g := h.gates[kind]
	delete(h.gates, kind)
	h.mu.Unlock()
	text := ""
	if g != nil {
		close(g.reached)
		text = <-g.answer
	}
	switch text {
	case hangUp:
		return "", false
	case "":
		if text = hopAnswers[kind]; text == "" {
			text = "250 2.0.0 Ok"
		}
	}
	if kind == "body" {
		return "", true
	}
	_, err := c.Write([]byte(text + "\r\n"))
	return text, err == nil
}

func (h *hop) serve(c *net.TCPConn) {
	r := bufio.NewReader(c)
	_, ok := h.answer(c, "greeting")
	for ok {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSuffix(line, "\r\n"), " ")
		var text string
		if text, ok = h.answer(c, verb); ok && verb == "DATA" && text[0] == '3' {
			ok = h.message(c, r)
		}
		ok = ok && verb != "QUIT"
	}
}

// message reads a message and answers its final dot.
func (h *hop) message(c *net.TCPConn, r *bufio.Reader) bool {
	var data bytes.Buffer
	for gated := false; !endsMessage(data.Bytes()); {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return false
		}
		data.Write(line)
		if data.Len() > bodyGate && !gated {
			gated = true
			if _, ok := h.answer(c, "body"); !ok {
				return false
			}
		}
	}
	h.mu.Lock()
	h.whole = append(h.whole, unstuff(data.String()))
	h.mu.Unlock()
	_, ok := h.answer(c, ".")
	return ok
}

func endsMessage(data []byte) bool {
	return bytes.HasSuffix(data, []byte("\r\n.\r\n")) || string(data) == ".\r\n"
}

// unstuff returns the message of the bytes on the wire that follow DATA, to the final dot.
func unstuff(wire string) string {
	wire = strings.ReplaceAll("\r\n"+strings.TrimSuffix(wire, ".\r\n"), "\r\n.", "\r\n")
	return strings.TrimPrefix(wire, "\r\n")
}

// cut closes all connections, or resets them as a crash does.
func (h *hop) cut(crash bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		if crash {
			c.SetLinger(0)
		}
		c.Close()
	}
}

// waitIdle waits until no connection is open. Then all sessions have cleaned up.
func (h *hop) waitIdle(t *testing.T) {
	t.Helper()
	servers.Eventually(t, servers.Patience, "the sessions to end", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.conns) == 0
	})
}

// letters returns the messages that came with their final dot.
func (h *hop) letters() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.whole)
}
