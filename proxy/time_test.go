package proxy

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/pipes"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
	"github.com/nkirchhoffer/detach-mta/internal/transaction/transactiontest"
)

// inBubble runs f as a subtest in a synctest bubble. Its rig has pipes, and production's timeouts.
func inBubble(t *testing.T, name string, f func(t *testing.T, r *rig), change ...func(*Config)) {
	inside := func(t *testing.T) {
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
		l := pipes.Listen()
		go r.server.Serve(l)
		r.dial = func() net.Conn {
			c, err := l.Dial(t.Context())
			must.Succeed(t, err)
			return c
		}
		defer func() {
			r.hop.stop()
			if err := r.server.Shutdown(t.Context()); err != nil {
				t.Errorf("shutdown: %v", err)
			}
		}()
		f(t, r)
	}
	t.Run(name, func(t *testing.T) { synctest.Test(t, inside) })
}

// wantTook wants f to take exactly this long.
func wantTook(t *testing.T, want time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if got := time.Since(start); got != want {
		t.Errorf("it took %v, want %v", got, want)
	}
}

func TestIdleClientIsCutAfterFiveMinutes(t *testing.T) {
	inBubble(t, "", func(t *testing.T, r *rig) {
		c := r.connect("220")
		wantTook(t, 300*time.Second, func() { c.expect("421 4.4.2", "closed") })
	})
}

func TestSilentClientInDATAIsCut(t *testing.T) {
	faults.Covers(t, 4, 19)
	half := writeDots(attachmentMail(10000))[:5000]
	for _, sent := range []string{"", halfMail, half, halfMail + "\n.\n", halfMail + "x\n.\r\n", halfMail + ".\n"} {
		inBubble(t, "", func(t *testing.T, r *rig) {
			c := r.inData()
			c.send(sent + strings.Repeat("NOOP\r\n", 20000))
			wantTook(t, 300*time.Second, func() { c.expect("421 4.4.2") })
			// The attack: the rest of the message looks like commands.
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
			r.wantDelivered(0)
			if fate := r.store.Last(); fate != "none" && fate != discarded {
				t.Errorf("batch %q", fate)
			}
		})
	}
}

// A slow mail that passes goes on line by line: the next hop would not wait for a full buffer.
func TestSlowClientIsNotCut(t *testing.T) {
	faults.Covers(t, 20)
	for _, pause := range []time.Duration{time.Second, 299 * time.Second} {
		inBubble(t, pause.String(), func(t *testing.T, r *rig) {
			c := r.inData()
			c.send("Subject: x\r\n\r\n")
			for range 30 * 60 {
				time.Sleep(pause)
				c.send("a line\r\n")
			}
			c.send(".\r\n")
			c.expect("250")
			r.wantDelivered(1)
		})
	}
}

func TestNOOPKeepsTheNextHopAwake(t *testing.T) {
	inBubble(t, "", func(t *testing.T, r *rig) {
		c := r.inData()
		mail := writeDots(attachmentMail(1000))
		for line := range strings.Lines(mail) {
			time.Sleep(100 * time.Second)
			c.send(line)
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
		inBubble(t, answer, func(t *testing.T, r *rig) {
			r.hop.script("NOOP", answer)
			c := r.inData()
			mail := writeDots(attachmentMail(1000))
			c.send(mail[:600])
			time.Sleep(250 * time.Second)
			c.send(mail[600:])
			c.expect("451 4.3.0")
			c.want("MAIL FROM:<>", "421 4.3.0")
			r.wantBatch(discarded)
		})
	}
}

func TestSilentNextHopIsGivenUp(t *testing.T) {
	faults.Covers(t, 33)
	for _, c := range []struct{ at, want, fate string }{
		{"greeting", "421 4.3.0", "none"},
		{"MAIL", "421 4.3.0", "none"},
		{"DATA", "451 4.3.0", discarded},
		{"data", "451 4.3.0", discarded}, // it stops reading
		{".", "451 4.3.0", kept},
	} {
		inBubble(t, c.at, func(t *testing.T, r *rig) {
			r.hop.script(c.at, silence)
			wantTook(t, 90*time.Second, func() {
				switch c.at {
				case "greeting":
					r.connect(c.want)
				case "MAIL":
					r.greeted().want("MAIL FROM:<>", c.want)
				default:
					r.envelope().data(attachmentMail(1000), c.want)
				}
			})
			r.wantBatch(c.fate)
		})
	}
}

func TestNextHopThatStopsReadingIsGivenUp(t *testing.T) {
	faults.Covers(t, 32)
	inBubble(t, "", func(t *testing.T, r *rig) {
		r.hop.script("data", silence)
		c := r.inData()
		wantTook(t, 90*time.Second, func() {
			for range 1000 { // the client is held back, and then drained
				c.send(strings.Repeat("x", 998) + "\r\n")
			}
			c.send(".\r\n")
			c.expect("451 4.3.0")
		})
		c.want("QUIT", "221")
	})
}

func TestHangingStoreIsGivenUp(t *testing.T) {
	for _, c := range []struct {
		name      string
		behavior  behavior
		onFailure transaction.OnFailure
		reply     string
		after     time.Duration
	}{
		{"in Detach", behavior{Hangs: true}, transaction.TempFail, "451 4.3.0", 90 * time.Second},
		{"in Commit", behavior{SlowCommit: true}, transaction.TempFail, "451 4.3.0", 90 * time.Second},
		{"with time for the original", behavior{Hangs: true}, transaction.Deliver, "250", 45 * time.Second},
	} {
		inBubble(t, c.name, func(t *testing.T, r *rig) {
			r.store.Set(c.behavior)
			cl := r.envelope()
			mail := attachmentMail(100000)
			wantTook(t, c.after, func() { cl.data(mail, c.reply) })
			r.wantBatch(discarded)
			r.wantDelivered(strings.Count(c.reply, "250"))
			if got := r.hop.delivered(); len(got) == 1 && got[0] != mail {
				t.Errorf("delivered %q", got)
			}
		}, func(cfg *Config) { cfg.Mail.OnFailure = c.onFailure })
	}
}

// While the store takes nothing, nothing is read from the client, so that its leaving is not seen.
// Its mail goes on for as long as a client may wait. Then nothing of the mail is left.
func TestClientVanishesWhileTheStoreHangs(t *testing.T) {
	faults.Covers(t, 17)
	inBubble(t, "", func(t *testing.T, r *rig) {
		begun := make(chan struct{}, 1)
		r.store.Set(behavior{Failure: errDown, FailAfter: 1, Hangs: true, Begun: begun})
		c := r.inData()
		half := writeDots(attachmentMail(1 << 20))[:1<<19]
		go c.Write([]byte(half)) // more than all buffers on the way hold
		<-begun
		synctest.Wait()
		c.Close()
		time.Sleep(90*time.Second - time.Millisecond)
		r.wantBatch("")
		time.Sleep(time.Millisecond)
		r.hop.await(t, "closed")
		r.wantBatch(discarded)
		if r.hop.count("DATA") > 0 {
			t.Errorf("next hop saw %q", r.hop.commands())
		}
	})
}

// A client may vanish in any state. If it vanishes before our final dot, nothing of its mail stays
// stored or running, and the mail is not passed on. Later the next hop's answer decides.
func TestNothingOfAVanishedClientsMailStays(t *testing.T) {
	faults.Covers(t, 17)
	wire := writeDots(attachmentMail(300_000))
	const none = "none"
	begun := []string{"MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>", "DATA"}
	for _, c := range []struct {
		name     string
		commands []string
		sent     string // of the message
		at       string // the key of the next hop's script that is changed
		answer   string
		slow     bool // Commit takes forever
		fate     string
	}{
		{name: "S0", fate: none},
		{name: "S1", commands: begun[:2], fate: none},
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
		inBubble(t, c.name, func(t *testing.T, r *rig) {
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
				t.Error("running does not see the session")
			}
			wantTook(t, 0, func() { cl.Close(); synctest.Wait() })
			if c.at == "." {
				time.Sleep(time.Minute)
				synctest.Wait()
			}
			if left := running(); left != "" {
				t.Errorf("goroutines left:\n%s", left)
			}
			r.wantBatch(c.fate)
			if c.at != "." {
				r.wantDelivered(0)
			}
		})
	}
}

// A step of the wall clock moves no deadline: Go's timers follow a monotonic reading in each.
func TestDeadlinesAreMonotonic(t *testing.T) {
	faults.Covers(t, 99)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	noted := &notedDeadlines{Conn: ours}
	c := &conn{Conn: noted, idle: time.Minute}
	go io.Copy(theirs, theirs)
	_, err := c.Write([]byte("x"))
	must.Succeed(t, err)
	_, err = c.Read(make([]byte, 1))
	must.Succeed(t, err)
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
