package e2e

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

// hop is a next hop that a test holds in its hand: it can be stopped before any answer, and cut at any time. It ends a
// message at CRLF . CRLF and at nothing else.
type hop struct {
	addr string

	mu    sync.Mutex
	gates map[string]*gate // by verb, "body" and "." for the final dot
	conns map[net.Conn]bool
	said  []string // commands, of all connections
	whole []letter // messages that came with their final dot
}

// letter is a message with its final dot, and how it was answered.
type letter struct {
	data   string
	answer string
}

// gate holds the next answer of one kind.
type gate struct {
	t       *testing.T
	reached chan struct{} // closed when the answer is due
	answer  chan string
}

// Instead of an answer.
const (
	hangUp = "hang up"
	reset  = "reset"
)

// bodyGate is how much of a message is read before a gate at "body": more than what the kernel holds in between is behind it.
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	h := &hop{addr: l.Addr().String(), gates: make(map[string]*gate), conns: make(map[net.Conn]bool)}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.mu.Lock()
			h.conns[c] = true
			h.mu.Unlock()
			running.Go(func() {
				h.serve(c)
				h.mu.Lock()
				delete(h.conns, c)
				h.mu.Unlock()
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		h.mu.Lock()
		for _, g := range h.gates {
			g.open(hangUp)
		}
		h.mu.Unlock()
		h.cut(false)
		running.Wait()
	})
	return h
}

// hold makes the next answer of that kind wait for the test.
func (h *hop) hold(t *testing.T, kind string) *gate {
	g := &gate{t: t, reached: make(chan struct{}), answer: make(chan string, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gates[kind] = g
	return g
}

// wait returns when the next hop stands before the gate.
func (g *gate) wait() {
	g.t.Helper()
	select {
	case <-g.reached:
	case <-time.After(servers.Patience):
		g.t.Fatal("the next hop was not asked for the answer that is held")
	}
}

// open lets it go on, with that answer; empty for the usual one. Only the first call counts.
func (g *gate) open(answer string) {
	select {
	case g.answer <- answer:
	default:
	}
}

// answer gives one answer, and tells whether the session goes on.
func (h *hop) answer(c net.Conn, kind string) (string, bool) {
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
	case reset:
		c.(*net.TCPConn).SetLinger(0)
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

func (h *hop) serve(c net.Conn) {
	r := bufio.NewReader(c)
	_, ok := h.answer(c, "greeting")
	for ok {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		h.mu.Lock()
		h.said = append(h.said, line)
		h.mu.Unlock()
		verb, _, _ := strings.Cut(line, " ")
		var text string
		if text, ok = h.answer(c, verb); ok && verb == "DATA" && text[0] == '3' {
			ok = h.message(c, r)
		}
		ok = ok && verb != "QUIT"
	}
}

// message reads a message and answers its final dot.
func (h *hop) message(c net.Conn, r *bufio.Reader) bool {
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
	h.whole = append(h.whole, letter{data: unstuff(data.String())})
	mine := len(h.whole) - 1
	h.mu.Unlock()
	text, ok := h.answer(c, ".")
	h.mu.Lock()
	h.whole[mine].answer = text
	h.mu.Unlock()
	return ok
}

func endsMessage(data []byte) bool {
	return bytes.HasSuffix(data, []byte("\r\n.\r\n")) || string(data) == ".\r\n"
}

// unstuff is what a message is that stands on the wire so, from behind the CRLF of DATA to its final dot.
func unstuff(wire string) string {
	wire = strings.ReplaceAll("\r\n"+strings.TrimSuffix(wire, ".\r\n"), "\r\n.", "\r\n")
	return strings.TrimPrefix(wire, "\r\n")
}

// cut ends all connections: as a server does that leaves, or as one that crashes.
func (h *hop) cut(crash bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		if crash {
			c.(*net.TCPConn).SetLinger(0)
		}
		c.Close()
	}
}

// waitIdle waits until no connection is open: the sessions before have cleaned up by then.
func (h *hop) waitIdle(t *testing.T) {
	t.Helper()
	servers.Eventually(t, servers.Patience, "the sessions to end", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.conns) == 0
	})
}

func (h *hop) letters() []letter {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.whole)
}
