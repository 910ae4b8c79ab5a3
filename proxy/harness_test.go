package proxy

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
	"github.com/nkirchhoffer/detach-mta/internal/transaction/transactiontest"
)

// rig is a Server between clients and a scripted next hop, with a store that keeps nothing.
type rig struct {
	t      *testing.T
	server *Server
	hop    *hop
	store  *transactiontest.Store
	log    *logBuffer
	dial   func() net.Conn
}

type behavior = transactiontest.Behavior

var (
	attachmentMail = transactiontest.Mail
	errDown        = transactiontest.ErrDown
)

// Histories of a batch, as Last returns them.
const (
	kept      = "committed closed "
	discarded = "discarded closed "
	undone    = "committed discarded closed "
)

// patience is for events that must happen, on a busy machine too. Timeouts are tested in bubbles.
const patience = 4 * time.Minute

// detach returns a configuration that detaches attachments of at least minSize bytes.
func detach(store *transactiontest.Store, minSize int64, tempDir string) transaction.Config {
	policy := rewrite.Policy{MinSize: minSize, Language: "en", Space: spool.NewSpace(tempDir, nil, 1<<40)}
	return transaction.Config{Policy: func(transaction.Envelope) rewrite.Policy { return policy }, Begin: store.Begin}
}

// newRig runs everything over TCP, and checks that nothing is left running at the end.
func newRig(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, hop: newHop(), store: &transactiontest.Store{}, log: &logBuffer{}}
	cfg := Config{
		NextHop:  r.hop.listen(t),
		Mail:     detach(r.store, 1, t.TempDir()),
		Hostname: "filter.example",
		Timeouts: Timeouts{Client: patience, Reply: patience},
	}
	for _, f := range change {
		f(&cfg)
	}
	r.server = New(cfg, r.log.logger())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(l) }()
	r.dial = func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		must.Succeed(t, err)
		return &patientConn{conn{Conn: c, idle: 2 * patience}}
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != ErrServerClosed {
			t.Errorf("serve: %v", err)
		}
		checkLeaks(t)
	})
	return r
}

// patientConn is a client's connection. A busy machine may take long, but not without any progress.
type patientConn struct{ conn }

func (c *patientConn) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

// checkLeaks waits until no goroutine of a session is left.
func checkLeaks(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		left := running()
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines left:\n%s", left)
		}
	}
}

// running returns all stacks if one of them is a session's, and is empty otherwise.
func running() string {
	buf := make([]byte, 1<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	for _, part := range []string{"proxy.(*session)", "proxy.(*message)", "proxy.(*nextHop)"} {
		if strings.Contains(stacks, part) {
			return stacks
		}
	}
	return ""
}

// client speaks SMTP as a test tells it to.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// connect returns a client that has got these replies.
func (r *rig) connect(replies ...string) *client {
	r.t.Helper()
	c := &client{t: r.t, Conn: r.dial()}
	c.r = bufio.NewReader(c.Conn)
	r.t.Cleanup(func() { c.Close() })
	c.expect(replies...)
	return c
}

// greeted returns a client that has said EHLO.
func (r *rig) greeted() *client {
	r.t.Helper()
	c := r.connect("220")
	c.want("EHLO client.example", "250")
	return c
}

// envelope returns a client that has said everything before DATA.
func (r *rig) envelope() *client {
	r.t.Helper()
	c := r.greeted()
	c.mail()
	return c
}

// inData returns a client that may send a message.
func (r *rig) inData() *client {
	r.t.Helper()
	c := r.envelope()
	c.want("DATA", "354")
	return c
}

// wantBatch wants the store's last batch to have this history.
func (r *rig) wantBatch(want string) {
	r.t.Helper()
	if got := r.store.Last(); got != want {
		r.t.Errorf("batch %q, want %q", got, want)
	}
}

// wantDelivered wants the next hop to have accepted n mails.
func (r *rig) wantDelivered(n int) {
	r.t.Helper()
	if got := r.hop.delivered(); len(got) != n {
		r.t.Errorf("%d mails delivered, want %d: %.2000q", len(got), n, got)
	}
}

func (c *client) mail() {
	c.t.Helper()
	c.want("MAIL FROM:<a@example.org>", "250")
	c.want("RCPT TO:<b@example.org>", "250")
}

// reply reads a whole reply. At the end of the connection it returns "closed".
func (c *client) reply() string {
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return all.String() + "closed"
		}
		all.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			return all.String()
		}
	}
}

// expect reads a reply for each of these prefixes, and returns the last.
func (c *client) expect(prefixes ...string) (got string) {
	c.t.Helper()
	for _, prefix := range prefixes {
		if got = c.reply(); !strings.HasPrefix(got, prefix) {
			c.t.Fatalf("got %q, want %q", got, prefix)
		}
	}
	return got
}

func (c *client) send(s string) {
	c.t.Helper()
	_, err := io.WriteString(c, s)
	must.Succeed(c.t, err)
}

func (c *client) want(command string, prefixes ...string) string {
	c.t.Helper()
	c.send(command + "\r\n")
	return c.expect(prefixes...)
}

// data sends a whole message and wants a reply to its final dot that begins with prefix.
func (c *client) data(message, prefix string) string {
	c.t.Helper()
	c.want("DATA", "354")
	c.send(writeDots(message))
	return c.expect(prefix)
}

// logBuffer keeps log lines for tests to read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// plainMail has nothing to detach, as its header shows.
const plainMail = "From: a@example.org\r\nSubject: secret subject\r\n\r\nHello.\r\n.\r\n..\r\n"

// halfMail is the beginning of such a mail, as it goes over the wire.
const halfMail = "Subject: x\r\n\r\nHello.\r\n"
