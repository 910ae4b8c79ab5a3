package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func TestTooManySessionsAre421(t *testing.T) {
	faults.Covers(t, 23)
	r := newRig(t, func(cfg *Config) { cfg.MaxSessions = 3 })
	var all []*client
	for range 3 {
		all = append(all, r.envelope())
	}
	r.connect("421 4.3.2 filter.example", "closed")
	all[0].data(plainMail, "250")
	all[1].want("QUIT", "221", "closed")
	r.hop.await(t, "QUIT")
	for !strings.HasPrefix(r.connect().reply(), "220") { // the slot is free shortly after "closed"
	}
}

func TestShutdownEndsIdleSessions(t *testing.T) {
	faults.Covers(t, 24)
	r := newRig(t)
	a, b := r.envelope(), r.connect("220")
	must.Succeed(t, r.server.Shutdown(t.Context()))
	a.expect("421 4.3.2 filter.example Service shutting down")
	b.expect("421 4.3.2", "closed")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	if err := r.server.Serve(l); err != ErrServerClosed {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

func TestShutdownLetsMessagesFinish(t *testing.T) {
	faults.Covers(t, 24)
	r := newRig(t)
	c := r.inData()
	done := make(chan error)
	go func() { done <- r.server.Shutdown(context.Background()) }()
	<-r.server.stopping.Done()
	c.send(writeDots(attachmentMail(1000)))
	c.expect("250", "421 4.3.2")
	must.Succeed(t, <-done)
}

func TestShutdownAbandonsMessagesAtItsDeadline(t *testing.T) {
	faults.Covers(t, 24)
	for _, mail := range []string{halfMail, attachmentMail(1000)} {
		t.Run("", func(t *testing.T) {
			r := newRig(t)
			c := r.inData()
			c.send(mail)
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := r.server.Shutdown(ctx); err != context.Canceled {
				t.Errorf("got %v", err)
			}
			c.expect("closed")
			r.wantDelivered(0)
		})
	}
}

// failingListener returns errs before it accepts.
type failingListener struct {
	net.Listener
	errs []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

func TestAcceptGoesOnAfterTemporaryErrors(t *testing.T) {
	faults.Covers(t, 100)
	r := newRig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	go r.server.Serve(&failingListener{l, []error{
		&net.OpError{Op: "accept", Err: syscall.EMFILE}, syscall.ENFILE, syscall.ECONNABORTED}})
	c, err := net.Dial("tcp", l.Addr().String())
	must.Succeed(t, err)
	defer c.Close()
	greeting := make([]byte, 3)
	if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != "220" {
		t.Errorf("got %q, %v", greeting, err)
	}
	broken := errors.New("broken")
	if err := r.server.Serve(&failingListener{l, []error{broken}}); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}
