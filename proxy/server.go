package proxy

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/transaction"
)

// Config says how mail is relayed. NextHop and Mail are required.
type Config struct {
	NextHop     string             // host:port, or unix:/path
	Mail        transaction.Config // what is done to mails
	MaxSize     int64              // bytes of a message; 0: what the next hop advertises
	MaxSessions int                // further clients are told 421; 0: 200
	Hostname    string             // our name in a 421; empty: localhost
	Timeouts    Timeouts
	LoopMark    string // a MAIL command with it has come back to us through the next hop; empty: none

	// Observe, if not nil, is called for each message with the code of our reply, even if the client
	// left before the reply. It must be safe for concurrent use.
	Observe func(o transaction.Outcome, code int)
}

// Timeouts bound silence: a peer that makes progress is never cut. Zero means the default.
type Timeouts struct {
	Dial   time.Duration // to reach the next hop: 10 s
	Client time.Duration // for the client's next byte: 300 s (RFC 5321 section 4.5.3.2.7)
	// Reply bounds each reply of the next hop, and a client's wait for us in data or after its final
	// dot: 90 s, less than Postfix's 100 s (smtpd_proxy_timeout).
	Reply time.Duration
	// Noop is the time between NOOPs to a next hop that waits for a slow client: 120 s. Postfix gives
	// up after 300 s (smtpd_timeout). It counts NOOPs beyond 100, or beyond 1 while all its processes
	// are busy, as errors (smtpd_junk_command_limit), and ends the session after 1,000 errors
	// (smtpd_hard_error_limit in docs/postfix.md): no client sends one mail for 33 hours.
	Noop time.Duration
}

// maxAcceptWait is the longest pause after accept found no descriptor. Ending sessions free some.
const maxAcceptWait = time.Second

func (c Config) withDefaults() Config {
	t := &c.Timeouts
	t.Dial = cmp.Or(max(t.Dial, 0), 10*time.Second)
	t.Client = cmp.Or(max(t.Client, 0), 300*time.Second)
	t.Reply = cmp.Or(max(t.Reply, 0), 90*time.Second)
	t.Noop = cmp.Or(max(t.Noop, 0), 120*time.Second)
	c.MaxSessions = cmp.Or(max(c.MaxSessions, 0), 200)
	c.Hostname = cmp.Or(c.Hostname, "localhost")
	return c
}

// A Server relays SMTP sessions to the next hop.
type Server struct {
	cfg    Config
	log    *slog.Logger
	dial   func(context.Context) (net.Conn, error) // the next hop
	slots  chan struct{}                           // one for each session
	claims claims

	stopping context.Context // done: no new session, no new command
	stop     context.CancelFunc
	living   context.Context // done: every connection closes
	kill     context.CancelFunc

	mu      sync.Mutex // orders stop and running.Add
	running sync.WaitGroup
}

// New returns a server that relays to the next hop of cfg.
func New(cfg Config, log *slog.Logger) *Server {
	s := &Server{cfg: cfg.withDefaults(), log: log}
	s.claims.wait = loopWait
	s.dial = dialer(s.cfg.NextHop, s.cfg.Timeouts.Dial)
	s.slots = make(chan struct{}, s.cfg.MaxSessions)
	// As in net/http, a server lives until Shutdown and has no context of a caller: sessions finish
	// their mail after the signal that stops the process.
	s.living, s.kill = context.WithCancel(context.Background())
	s.stopping, s.stop = context.WithCancel(s.living)
	return s
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("proxy: server closed")

// Serve accepts sessions on l until Shutdown, and then closes l. Several listeners may be served.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	s.mu.Lock()
	if s.stopping.Err() != nil {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()
	release := context.AfterFunc(s.stopping, func() { l.Close() })
	defer release()

	var wait time.Duration
	for {
		c, err := l.Accept()
		switch {
		case s.stopping.Err() != nil:
			if err == nil {
				c.Close()
			}
			return ErrServerClosed
		case err == nil:
			wait = 0
			s.start(c)
		case retryable(err):
			wait = min(max(2*wait, 5*time.Millisecond), maxAcceptWait)
			s.log.Warn("accept failed, trying again", "err", err, "wait", wait)
			select {
			case <-time.After(wait):
			case <-s.stopping.Done():
			}
		default:
			return fmt.Errorf("accept: %w", err)
		}
	}
}

// retryable reports whether accept may succeed again later.
func retryable(err error) bool {
	temporary := []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED}
	return slices.ContainsFunc(temporary, func(e error) bool { return errors.Is(err, e) })
}

// start runs a session, or turns the client away when there are too many sessions.
func (s *Server) start(c net.Conn) {
	client := &conn{Conn: c, idle: s.cfg.Timeouts.Client}
	if b, ok := c.(interface{ SetReadBuffer(int) error }); ok {
		b.SetReadBuffer(socketSize) // best effort
	}
	select {
	case s.slots <- struct{}{}:
	default:
		s.log.Warn("too many sessions", "limit", s.cfg.MaxSessions)
		c.SetWriteDeadline(time.Now().Add(time.Second)) // a new socket takes one line without waiting
		c.Write(ownAnswer(errBusy, s.cfg.Hostname).text)
		c.Close()
		return
	}
	s.running.Go(func() {
		defer func() { <-s.slots }()
		log := s.log.With("session", rand.Text()[:8])
		session := &session{server: s, began: time.Now(), log: log, client: newClientConn(client, s.cfg.Hostname)}
		session.run(s.living)
	})
}

// Shutdown stops accepting and ends idle sessions with a 421. Sessions that carry a message finish
// it. If ctx ends first, all connections are closed, which abandons the messages: their senders
// still own them. Shutdown returns once every session has cleaned up.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.kill()
		return nil
	case <-ctx.Done():
	}
	s.kill()
	select {
	case <-done:
	case <-time.After(transaction.DiscardTimeout + time.Second): // a store that ignores its context
	}
	return ctx.Err()
}
