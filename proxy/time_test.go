package proxy

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
	"github.com/nkirchhoffer/detach-mta/internal/transaction/transactiontest"
)

// inBubble runs f in a synctest bubble, with a rig that has pipes for connections and the timeouts
// that production has.
func inBubble(t *testing.T, f func(t *testing.T, r *rig), change ...func(*Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, hop: newHop(), store: &transactiontest.Store{}, log: &logBuffer{}}
		cfg := Config{Mail: detach(r.store, 1, t.TempDir())}
		for _, f := range change {
			f(&cfg)
		}
		r.server = New(cfg, r.log.logger())
		r.server.dial = func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go r.hop.serve(theirs)
			return ours, nil
		}
		l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		go r.server.Serve(l)
		r.dial = func() net.Conn {
			ours, theirs := net.Pipe()
			l.conns <- theirs
			return ours
		}
		defer func() {
			r.hop.stop()
			if err := r.server.Shutdown(t.Context()); err != nil {
				t.Errorf("shutdown: %v", err)
			}
		}()
		f(t, r)
	})
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

// took returns how long f takes.
func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func TestIdleClientIsCutAfterFiveMinutes(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		c := r.connect()
		c.expect("220")
		if d := took(func() { c.expect("421 4.4.2") }); d != 300*time.Second {
			t.Errorf("cut after %v", d)
		}
		c.expect("closed")
	})
}

func TestSilentClientInDATAIsCut(t *testing.T) {
	faults.Covers(t, 4, 19)
	half := writeDots(attachmentMail(10000))[:5000]
	for _, sent := range []string{"", halfMail, half, halfMail + "\n.\n", halfMail + "x\n.\r\n", halfMail + ".\n"} {
		inBubble(t, func(t *testing.T, r *rig) {
			c := r.envelope()
			c.want("DATA", "354")
			c.send(sent)
			c.send(strings.Repeat("NOOP\r\n", 20000))
			if d := took(func() { c.expect("421 4.4.2") }); d != 300*time.Second {
				t.Errorf("cut after %v", d)
			}
			// The attack: the rest of the body is commands.
			if _, err := io.WriteString(c, "MAIL FROM:<ceo@example.org>\r\n"); err == nil {
				t.Error("the connection is still read")
			}
			c.expect("closed")
			synctest.Wait()
			for _, said := range r.hop.commands()[3:] {
				if said != "NOOP" && said != "DATA" {
					t.Errorf("next hop saw %q", said)
				}
			}
			if got := r.hop.delivered(); len(got) > 0 {
				t.Errorf("delivered %q", got)
			}
			if fate := r.store.Last(); fate != "none" && fate != discarded {
				t.Errorf("batch %q", fate)
			}
		})
	}
}

// The next hop gets a slow mail that passes line by line, because it would not wait for a full
// buffer.
func TestSlowClientIsNotCut(t *testing.T) {
	faults.Covers(t, 20)
	for _, pause := range []time.Duration{time.Second, 299 * time.Second} {
		inBubble(t, func(t *testing.T, r *rig) {
			c := r.envelope()
			c.want("DATA", "354")
			c.send("Subject: x\r\n\r\n")
			for range 30 * 60 {
				time.Sleep(pause)
				c.send("a line\r\n")
			}
			c.send(".\r\n")
			c.expect("250")
			if len(r.hop.delivered()) != 1 {
				t.Error("not delivered")
			}
		})
	}
}

func TestNOOPKeepsTheNextHopAwake(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		c := r.envelope()
		c.want("DATA", "354")
		mail := writeDots(attachmentMail(1000))
		for line := range strings.Lines(mail) {
			time.Sleep(100 * time.Second)
			c.send(line)
			if line == ".\r\n" {
				break
			}
		}
		c.expect("250")
		minutes := strings.Count(mail, "\n") * 100 / 60
		if n := r.hop.count("NOOP"); n < minutes/2-1 || n > minutes/2+1 {
			t.Errorf("%d NOOPs in %d minutes", n, minutes)
		}
	})
}

func TestNextHopLostDuringNOOP(t *testing.T) {
	for _, answer := range []string{hangUp, silence, "421 4.4.2 bye", "garbage"} {
		inBubble(t, func(t *testing.T, r *rig) {
			r.hop.script("NOOP", answer)
			c := r.envelope()
			c.want("DATA", "354")
			mail := writeDots(attachmentMail(1000))
			c.send(mail[:600])
			time.Sleep(250 * time.Second)
			c.send(mail[600:])
			c.expect("451 4.3.0")
			c.want("MAIL FROM:<>", "421 4.3.0")
			if fate := r.store.Last(); fate != discarded {
				t.Errorf("%s: batch %q, want discarded", answer, fate)
			}
		})
	}
}

func TestSilentNextHopIsGivenUp(t *testing.T) {
	faults.Covers(t, 33)
	for _, c := range []struct {
		at, want, fate string
	}{
		{"greeting", "421 4.3.0", "none"},
		{"MAIL", "421 4.3.0", "none"},
		{"DATA", "451 4.3.0", discarded},
		{"data", "451 4.3.0", discarded}, // it stops reading
		{".", "451 4.3.0", kept},
	} {
		inBubble(t, func(t *testing.T, r *rig) {
			r.hop.script(c.at, silence)
			d := took(func() {
				cl := r.connect()
				if c.at == "greeting" {
					cl.expect(c.want)
					return
				}
				cl.expect("220")
				cl.want("EHLO x", "250")
				if c.at == "MAIL" {
					cl.want("MAIL FROM:<>", c.want)
					return
				}
				cl.mail()
				cl.data(attachmentMail(1000), c.want)
			})
			if d != 90*time.Second {
				t.Errorf("%s: answered after %v", c.at, d)
			}
			if fate := r.store.Last(); fate != c.fate {
				t.Errorf("%s: batch %q, want %q", c.at, fate, c.fate)
			}
		})
	}
}

func TestNextHopThatStopsReadingIsGivenUp(t *testing.T) {
	faults.Covers(t, 32)
	inBubble(t, func(t *testing.T, r *rig) {
		r.hop.script("data", silence)
		c := r.envelope()
		c.want("DATA", "354")
		d := took(func() {
			for range 1000 { // the client is held back, and then drained
				c.send(strings.Repeat("x", 998) + "\r\n")
			}
			c.send(".\r\n")
			c.expect("451 4.3.0")
		})
		if d != 90*time.Second {
			t.Errorf("answered after %v", d)
		}
		c.want("QUIT", "221")
	})
}

func TestHangingStoreIsGivenUp(t *testing.T) {
	deliver := func(cfg *Config) { cfg.Mail.OnFailure = transaction.Deliver }
	for _, c := range []struct {
		name     string
		behavior behavior
		change   []func(*Config)
		reply    string
		after    time.Duration
	}{
		{"in Detach", behavior{Hangs: true}, nil, "451 4.3.0", 90 * time.Second},
		{"in Commit", behavior{SlowCommit: true}, nil, "451 4.3.0", 90 * time.Second},
		{"with time for the original", behavior{Hangs: true}, []func(*Config){deliver}, "250", 45 * time.Second},
	} {
		inBubble(t, func(t *testing.T, r *rig) {
			r.store.Set(c.behavior)
			cl := r.envelope()
			mail := attachmentMail(100000)
			if d := took(func() { cl.data(mail, c.reply) }); d != c.after {
				t.Errorf("%s: answered after %v", c.name, d)
			}
			if fate := r.store.Last(); fate != discarded {
				t.Errorf("%s: batch %q, want discarded", c.name, fate)
			}
			if got := r.hop.delivered(); (len(got) == 1) != (c.reply == "250") || len(got) == 1 && got[0] != mail {
				t.Errorf("%s: delivered %q", c.name, got)
			}
		}, c.change...)
	}
}

// While the store takes nothing, nothing is read from the client, and so the end of its connection
// is not seen. Its mail goes on for as long as a client may wait, and then nothing of it is left.
func TestClientVanishesWhileTheStoreHangs(t *testing.T) {
	faults.Covers(t, 17)
	inBubble(t, func(t *testing.T, r *rig) {
		begun := make(chan struct{}, 1)
		r.store.Set(behavior{Failure: errDown, FailAfter: 1, Hangs: true, Begun: begun})
		c := r.envelope()
		c.want("DATA", "354")
		half := writeDots(attachmentMail(1 << 20))[:1<<19]
		go c.Write([]byte(half)) // more than all buffers on the way hold
		<-begun
		synctest.Wait()
		c.Close()
		time.Sleep(90*time.Second - time.Millisecond)
		if fate := r.store.Last(); fate != "" {
			t.Errorf("batch %q before the time", fate)
		}
		time.Sleep(time.Millisecond)
		r.hop.await(t, "closed")
		if fate := r.store.Last(); fate != discarded || len(r.hop.delivered()) > 0 || r.hop.count("DATA") > 0 {
			t.Errorf("batch %q, next hop saw %q", fate, r.hop.commands())
		}
	})
}

// A client may vanish anywhere. Before our final dot, nothing of its mail stays stored or running
// from that moment on, and nothing is passed on. After it, the next hop's answer decides.
func TestNothingOfAVanishedClientsMailStays(t *testing.T) {
	faults.Covers(t, 17)
	wire := writeDots(attachmentMail(300_000))
	const none = "none"
	for _, c := range []struct {
		name     string
		commands []string
		sent     string // of the message
		at       string // what the next hop answers
		answer   string // with this
		slow     bool   // Commit
		fate     string
	}{
		{name: "S0", fate: none},
		{name: "S1", commands: []string{"MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>"}, fate: none},
		{name: "S2 before the message", commands: begun, fate: none},
		{name: "S2 in the header", commands: begun, sent: wire[:20], fate: none},
		{name: "S2 in the attachment", commands: begun, sent: wire[:len(wire)/2], fate: discarded},
		{name: "S2 in a mail that passes", commands: begun, sent: halfMail, fate: none},
		{name: "S2 before the dot", commands: begun, sent: wire[:len(wire)-3], fate: discarded},
		{name: "S2 in the dot", commands: begun, sent: wire[:len(wire)-1], fate: discarded},
		{name: "S3 before the answer to DATA", commands: begun, sent: wire, at: "DATA", answer: silence, fate: discarded},
		{name: "S3 before the mail is read", commands: begun, sent: wire, at: "data", answer: silence, fate: discarded},
		{name: "S3 in Commit", commands: begun, sent: wire, slow: true, fate: discarded},
		{name: "S4, accepted", commands: begun, sent: wire, at: ".", answer: later + "250 2.0.0 Ok", fate: kept},
		{name: "S4, refused", commands: begun, sent: wire, at: ".", answer: later + "550 5.7.1 No", fate: undone},
	} {
		inBubble(t, func(t *testing.T, r *rig) {
			if c.at != "" {
				r.hop.script(c.at, c.answer)
			}
			r.store.Set(behavior{SlowCommit: c.slow})
			cl := r.greeted()
			for _, command := range c.commands {
				cl.want(command, "")
			}
			cl.send(c.sent)
			synctest.Wait()
			if running() == "" {
				t.Errorf("%s: the session is not seen", c.name)
			}
			if d := took(func() { cl.Close(); synctest.Wait() }); d != 0 {
				t.Errorf("%s: after %v", c.name, d)
			}
			if c.at == "." {
				time.Sleep(time.Minute)
				synctest.Wait()
			}
			if left := running(); left != "" {
				t.Errorf("%s: goroutines left:\n%s", c.name, left)
			}
			if fate := r.store.Last(); fate != c.fate {
				t.Errorf("%s: batch %q, want %q", c.name, fate, c.fate)
			}
			if got := r.hop.delivered(); len(got) > 0 && c.at != "." {
				t.Errorf("%s: delivered %q", c.name, got)
			}
		})
	}
}

var begun = []string{"MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>", "DATA"}

// A step of the wall clock moves no deadline: each has a monotonic reading, which Go's timers go
// by.
func TestDeadlinesAreMonotonic(t *testing.T) {
	faults.Covers(t, 99)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	noted := &notedDeadlines{Conn: ours}
	c := &conn{Conn: noted, idle: time.Minute}
	go io.Copy(theirs, theirs)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if len(noted.at) != 2 {
		t.Fatalf("%d deadlines, want one each way", len(noted.at))
	}
	for _, at := range noted.at {
		if !strings.Contains(at.String(), " m=") {
			t.Errorf("the deadline %v follows the wall clock", at)
		}
	}
}

type notedDeadlines struct {
	net.Conn
	at []time.Time
}

func (n *notedDeadlines) SetReadDeadline(at time.Time) error {
	n.at = append(n.at, at)
	return n.Conn.SetReadDeadline(at)
}

func (n *notedDeadlines) SetWriteDeadline(at time.Time) error {
	n.at = append(n.at, at)
	return n.Conn.SetWriteDeadline(at)
}
