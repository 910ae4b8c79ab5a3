package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// hop is a next hop that answers by a script. The keys of the script are verbs, "greeting", "." for
// the final dot, and "data" for a reply after 354 that does not wait for the dot. With silence for
// "data" the hop does not read the message.
type hop struct {
	mu      sync.Mutex
	replies map[string]string
	lenient bool // any LF ends a line, and CRs before the LF are dropped: Postfix before 3.9

	said  []string // commands
	mails []string // messages answered with 2xx
	conns []net.Conn
	saw   chan string // what happened, for tests to wait for
	ended chan struct{}
	once  sync.Once
}

const (
	// Instead of a reply.
	hangUp  = "hang up"
	silence = "silence"
	// Before a reply.
	later = "after a minute: "
)

const unscripted = "250 2.0.0 Ok"

func newHop() *hop {
	return &hop{saw: make(chan string, 100000), ended: make(chan struct{}), replies: map[string]string{
		"greeting": "220 next.example ESMTP",
		"EHLO":     "250-next.example\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-XFORWARD NAME ADDR\r\n250-CHUNKING\r\n250 8BITMIME",
		"DATA":     "354 go ahead",
		".":        "250 2.0.0 Ok: queued as 4X",
		"QUIT":     "221 2.0.0 Bye",
	}}
}

// script sets the answer to key.
func (h *hop) script(key, reply string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.replies[key] = reply
}

func (h *hop) scripted(key string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if reply, ok := h.replies[key]; ok {
		return reply
	}
	return unscripted
}

func (h *hop) listen(t *testing.T) string {
	addr := servers.Accept(t, func(c *net.TCPConn) { h.serve(c) })
	t.Cleanup(h.stop) // before Accept waits for the end of each serve
	return addr
}

func (h *hop) stop() {
	h.once.Do(func() { close(h.ended) })
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		c.Close()
	}
}

func (h *hop) serve(c net.Conn) {
	h.mu.Lock()
	h.conns = append(h.conns, c)
	h.mu.Unlock()
	defer func() { h.saw <- "closed" }()
	defer c.Close()
	r := bufio.NewReader(&conn{Conn: c, idle: 300 * time.Second}) // Postfix's smtpd_timeout
	if !h.answer(c, "greeting") {
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		verb, _, _ := strings.Cut(line, " ")
		h.note(line)
		if verb == "DATA" && h.scripted("data") == silence { // the message is not read
			h.answer(c, "DATA")
			h.answer(c, "data")
			return
		}
		if !h.answer(c, verb) || verb == "QUIT" {
			return
		}
		if verb == "DATA" && strings.HasPrefix(h.scripted(verb), "354") {
			if h.scripted("data") != unscripted {
				if !h.answer(c, "data") {
					return
				}
				h.saw <- "data"
			}
			mail, err := h.readMail(r)
			if err != nil {
				return
			}
			h.note(".")
			if strings.HasPrefix(h.scripted("."), "2") {
				h.mu.Lock()
				h.mails = append(h.mails, mail)
				h.mu.Unlock()
			}
			if !h.answer(c, ".") {
				return
			}
		}
	}
}

func (h *hop) readMail(r *bufio.Reader) (string, error) {
	h.mu.Lock()
	lenient := h.lenient
	h.mu.Unlock()
	var all, line []byte
	bol := true
	for {
		b, err := r.ReadSlice('\n')
		line = append(line, b...)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return "", err
		}
		if lenient {
			line = append(bytes.TrimRight(line, "\r\n"), crlf...)
			bol = true
		}
		if bol && line[0] == '.' {
			if string(line) == ".\r\n" {
				return string(all), nil
			}
			line = line[1:]
		}
		all = append(all, line...)
		bol = bytes.HasSuffix(all, crlf)
		line = line[:0]
	}
}

func (h *hop) note(line string) {
	h.mu.Lock()
	h.said = append(h.said, line)
	h.mu.Unlock()
	h.saw <- line
}

func (h *hop) answer(c net.Conn, key string) bool {
	reply, delayed := strings.CutPrefix(h.scripted(key), later)
	if delayed {
		time.Sleep(time.Minute)
	}
	switch reply {
	case hangUp:
		return false
	case silence:
		<-h.ended
		return false
	}
	_, err := io.WriteString(c, reply+"\r\n")
	return err == nil
}

// say sends a reply that answers no command.
func (h *hop) say(t *testing.T, text string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		_, err := io.WriteString(c, text)
		must.Succeed(t, err)
	}
}

// await waits until the next hop has seen a line that begins with prefix.
func (h *hop) await(t *testing.T, prefix string) {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case what := <-h.saw:
			if strings.HasPrefix(what, prefix) {
				return
			}
		case <-timeout.C:
			t.Fatalf("next hop never saw %q, only %q", prefix, h.commands())
		}
	}
}

func (h *hop) commands() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.said...)
}

func (h *hop) delivered() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.mails...)
}

// forget frees the memory of what was seen.
func (h *hop) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mails, h.said = nil, nil
}

// count returns how often a command was said.
func (h *hop) count(command string) (n int) {
	for _, said := range h.commands() {
		if said == command {
			n++
		}
	}
	return n
}
