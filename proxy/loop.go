package proxy

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// A mail server that leads back to us makes a loop before any mail is read: while a session waits
// for the next hop's reply to MAIL or RCPT, the next hop opens a session to us to get that reply,
// and so on until all sessions are taken. A claim is one such wait.
type claim struct {
	began   time.Time     // when the client was accepted
	since   time.Time     // when the command went to the next hop
	origin  string        // XFORWARD's ADDR and PORT, or "" without them
	command string        // with the sender
	over    chan struct{} // closed when the next hop has replied
}

// within reports whether c belongs to a session that began while outer was waiting.
func (c *claim) within(outer *claim) bool { return outer.since.Before(c.began) }

// loopWait is how long a session whose command looks like a loop waits for the reply to the command
// that it seems to come from. In a loop that reply never comes: the next hop waits for us. Otherwise
// the two mails were only alike.
const loopWait = 5 * time.Second

// claims are those of all sessions of a server. They are safe for concurrent use.
type claims struct {
	wait time.Duration // loopWait, except in tests

	mu  sync.Mutex
	all []*claim
}

// add notes a claim until remove is called, or reports that it would be a loop. It waits until the
// claims that c seems to come from are over, at most s.wait.
func (s *claims) add(c *claim) (loop bool) {
	c.over = make(chan struct{})
	tooLong := time.NewTimer(s.wait)
	defer tooLong.Stop()
	for {
		outer := s.tryAdd(c)
		if outer == nil {
			return false
		}
		select {
		case <-outer.over:
		case <-tooLong.C:
			return true
		}
	}
}

// tryAdd notes a claim, or returns the one that it seems to come from:
//
//   - A session within the claim of another session for the same client's connection (by XFORWARD):
//     before the queue, Postfix has one session with us for each connection.
//   - Without XFORWARD, a session within two claims for the same envelope, of which one is within
//     the other.
func (s *claims) tryAdd(c *claim) (outer *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, outer := range s.all {
		if !c.within(outer) || outer.origin != c.origin {
			continue
		}
		if c.origin != "" {
			return outer
		}
		if outer.command == c.command && slices.ContainsFunc(s.all, func(o *claim) bool {
			return o.command == c.command && o.origin == "" && outer.within(o)
		}) {
			return outer
		}
	}
	if c.since.IsZero() {
		c.since = time.Now()
	}
	s.all = append(s.all, c)
	return nil
}

func (s *claims) remove(c *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.all, c); i >= 0 {
		s.all = slices.Delete(s.all, i, i+1)
		close(c.over)
	}
}

// relayEnvelope relays MAIL or RCPT, unless the next hop leads back to us.
func (s *session) relayEnvelope(sender string, line []byte) (answer, error) {
	c := &claim{began: s.began, command: sender + " " + string(line)}
	if o := s.envelope.origin; o.addr != "" && o.port != "" {
		c.origin = o.addr + " " + o.port
	}
	if s.server.claims.add(c) {
		s.log.Error("the next hop leads back to this listener: name the mail server behind Detach in reinject, and take smtpd_proxy_filter out of its service")
		return answer{}, errLoopsBack
	}
	defer s.server.claims.remove(c)
	return s.relay(line)
}

// origin is the connection that a mail came from, as XFORWARD names it.
type origin struct{ addr, port string }

// note takes what an XFORWARD command says. Postfix may say it in several commands.
func (o *origin) note(line []byte) {
	for _, attr := range strings.Fields(strings.ToLower(string(line))) {
		name, value, _ := strings.Cut(attr, "=")
		if value == "[unavailable]" {
			value = ""
		}
		switch name {
		case "addr":
			o.addr = value
		case "port":
			o.port = value
		}
	}
}
