package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
)

// A Batch holds the attachments of one mail from their upload until the next hop has answered.
type Batch interface {
	rewrite.Detacher
	// Commit makes the batch's links work. The mail is passed on only after it.
	Commit(ctx context.Context) error
	// Discard deletes all that was stored, committed or not.
	Discard(ctx context.Context) error
	// Close follows the last of these, and leaves what was not deleted yet to a later attempt.
	Close() error
	// CIDs are what is stored, for the log.
	CIDs() []cid.Cid
}

// OnFailure says what becomes of a mail whose attachments cannot be stored.
type OnFailure int

const (
	TempFail OnFailure = iota // 451: the sender keeps it and tries again
	Deliver                   // the original goes on unchanged, at the cost of a spool of it
)

// Config says how mail is relayed. Only NextHop is required.
type Config struct {
	NextHop     string         // host:port, or unix:/path
	Policy      rewrite.Policy // what is detached and what is left in its place
	MaxSize     int64          // bytes of a message; 0: what the next hop advertises
	OnFailure   OnFailure
	MaxSessions int    // beyond it clients are told 421; 0: 200
	Hostname    string // names us in a 421; empty: localhost
	Timeouts    Timeouts
	Observe     func(Outcome) // called for each message, by several goroutines; nil: nobody asks
}

// Timeouts bound silence, not work: whoever makes progress is not cut. Zero means the default.
type Timeouts struct {
	Dial    time.Duration // to reach the next hop: 10 s
	Client  time.Duration // for the client's next byte: 300 s (RFC 5321 section 4.5.3.2.7)
	Reply   time.Duration // for each reply of the next hop, and for how long a client may wait for us, in data or after its final dot: 90 s, less than Postfix's 100 s (smtpd_proxy_timeout)
	Noop    time.Duration // between NOOPs to a next hop that waits for a slow client: 120 s, well within Postfix's 300 s; and Postfix counts errors from the 100th on (smtpd_junk_command_limit)
	Discard time.Duration // to delete what was stored for a mail that failed: 5 s, for the client still waits
}

const (
	defaultSessions = 200
	// maxAcceptWait is the longest pause after an accept that failed: descriptors run out, and
	// come back when sessions end.
	maxAcceptWait = time.Second
)

func (c Config) withDefaults() Config {
	t := &c.Timeouts
	for _, d := range []struct {
		value  *time.Duration
		preset time.Duration
	}{
		{&t.Dial, 10 * time.Second},
		{&t.Client, 300 * time.Second},
		{&t.Reply, 90 * time.Second},
		{&t.Noop, 120 * time.Second},
		{&t.Discard, 5 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.preset
		}
	}
	if c.MaxSessions <= 0 {
		c.MaxSessions = defaultSessions
	}
	if c.Hostname == "" {
		c.Hostname = "localhost"
	}
	return c
}

// A Server relays SMTP sessions to the next hop.
type Server struct {
	cfg   Config
	begin func() Batch
	log   *slog.Logger
	dial  func(context.Context) (net.Conn, error) // the next hop
	slots chan struct{}                           // one for each session

	stopping context.Context // done: no new session, no new command
	stop     context.CancelFunc
	living   context.Context // done: every connection closes
	kill     context.CancelFunc

	mu      sync.Mutex // orders stop and running.Add
	running sync.WaitGroup
}

// New returns a server that asks begin for a Batch for each mail that may have attachments.
func New(cfg Config, begin func() Batch, log *slog.Logger) *Server {
	s := &Server{cfg: cfg.withDefaults(), begin: begin, log: log}
	s.dial = dialer(s.cfg.NextHop, s.cfg.Timeouts.Dial)
	s.slots = make(chan struct{}, s.cfg.MaxSessions)
	// As with net/http, a server lives until Shutdown, not as long as a caller's context: sessions
	// outlive the signal that stops the process, to finish their mail.
	s.living, s.kill = context.WithCancel(context.Background())
	s.stopping, s.stop = context.WithCancel(s.living)
	return s
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("proxy: server closed")

// Serve accepts sessions on l until Shutdown, and closes l. It may be called for several listeners.
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
		case passing(err):
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

// passing tells whether an accept may succeed again without our doing.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// start runs a session, or turns the client away when there are too many.
func (s *Server) start(c net.Conn) {
	client := &conn{Conn: c, idle: s.cfg.Timeouts.Client}
	if b, ok := c.(interface{ SetReadBuffer(int) error }); ok {
		b.SetReadBuffer(socketSize) // what it is without is no fault
	}
	select {
	case s.slots <- struct{}{}:
	default:
		s.log.Warn("too many sessions", "limit", s.cfg.MaxSessions)
		c.SetWriteDeadline(time.Now().Add(time.Second)) // a fresh socket has room for one line
		c.Write(ownAnswer(errBusy, s.cfg.Hostname).text)
		c.Close()
		return
	}
	s.running.Go(func() {
		defer func() { <-s.slots }()
		id := rand.Text()[:8]
		session := &session{server: s, cfg: &s.cfg, log: s.log.With("session", id), client: client}
		session.run(s.living)
	})
}

// Shutdown stops accepting and ends idle sessions with a 421. Sessions that carry a message finish
// it. When ctx ends first, all connections are closed, which abandons those messages: their senders
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
	case <-time.After(s.cfg.Timeouts.Discard + time.Second): // a store that heeds no context
	}
	return ctx.Err()
}
