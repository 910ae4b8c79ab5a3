package proxy

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// These tests run in synctest bubbles, over pipes, with the timeouts that production has.

func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// took tells how long f takes.
func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func TestStallInDATA(t *testing.T) {
	faults.Covers(t, 4, 19)
	half := writeDots(attachmentMail(10000))[:5000]
	for _, sent := range []string{"", halfMail, half, halfMail + "\n.\n", halfMail + "x\n.\r\n", halfMail + ".\n"} {
		inBubble(t, func(t *testing.T) {
			r := newPipeRig(t)
			defer r.shutdown()
			c := r.envelope()
			c.want("DATA", "354")
			c.send(sent)
			c.send(strings.Repeat("NOOP\r\n", 20000))
			if d := took(func() { c.expect("421 4.4.2") }); d != 300*time.Second {
				t.Errorf("cut after %v", d)
			}
			// The attack: commands, as the rest of the body.
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
			if fate := r.store.last(); fate != "none" && fate != "discarded " {
				t.Errorf("batch %q", fate)
			}
		})
	}
}

// A mail that passes is heard of by the next hop line by line: it would not wait for a full buffer.
func TestSlowClient(t *testing.T) {
	faults.Covers(t, 20)
	for _, pause := range []time.Duration{time.Second, 299 * time.Second} {
		inBubble(t, func(t *testing.T) {
			r := newPipeRig(t)
			defer r.shutdown()
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

func TestNoopKeepsTheNextHop(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newPipeRig(t)
		defer r.shutdown()
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

func TestNoopFails(t *testing.T) {
	for _, answer := range []string{hangUp, silence, "421 4.4.2 bye", "garbage"} {
		inBubble(t, func(t *testing.T) {
			r := newPipeRig(t)
			defer r.shutdown()
			r.hop.script("NOOP", answer)
			c := r.envelope()
			c.want("DATA", "354")
			mail := writeDots(attachmentMail(1000))
			c.send(mail[:600])
			time.Sleep(250 * time.Second)
			c.send(mail[600:])
			c.expect("451 4.3.0")
			c.want("MAIL FROM:<>", "421 4.3.0")
			if fate := r.store.last(); fate != "discarded " {
				t.Errorf("%s: batch %q, want discarded", answer, fate)
			}
		})
	}
}

func TestNextHopSilent(t *testing.T) {
	faults.Covers(t, 33)
	for _, c := range []struct {
		at, want, fate string
	}{
		{"greeting", "421 4.3.0", "none"},
		{"MAIL", "421 4.3.0", "none"},
		{"DATA", "451 4.3.0", "discarded "},
		{"data", "451 4.3.0", "discarded "}, // FAULTS 32: it stops reading
		{".", "451 4.3.0", "committed "},
	} {
		inBubble(t, func(t *testing.T) {
			r := newPipeRig(t)
			defer r.shutdown()
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
			if fate := r.store.last(); fate != c.fate {
				t.Errorf("%s: batch %q, want %q", c.at, fate, c.fate)
			}
		})
	}
}

func TestNextHopStopsReadingPassingMessage(t *testing.T) {
	faults.Covers(t, 32)
	inBubble(t, func(t *testing.T) {
		r := newPipeRig(t)
		defer r.shutdown()
		r.hop.script("data", silence)
		c := r.envelope()
		c.want("DATA", "354")
		d := took(func() {
			for range 1000 { // the client is pushed back, then drained
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

func TestStoreHangs(t *testing.T) {
	for _, c := range []struct {
		name string
		mood mood
	}{
		{"in Detach", mood{hangs: true}},
		{"in Commit", mood{slow: true}},
	} {
		inBubble(t, func(t *testing.T) {
			r := newPipeRig(t)
			defer r.shutdown()
			r.store.set(c.mood)
			cl := r.envelope()
			if d := took(func() { cl.data(attachmentMail(100000), "451 4.3.0") }); d != 90*time.Second {
				t.Errorf("%s: answered after %v", c.name, d)
			}
			if fate := r.store.last(); fate != "discarded " || len(r.hop.delivered()) > 0 {
				t.Errorf("%s: batch %q, next hop saw %q", c.name, fate, r.hop.commands())
			}
		})
	}
}

func TestStoreHangsButMailFlows(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newPipeRig(t, func(cfg *Config) { cfg.OnFailure = Deliver })
		defer r.shutdown()
		r.store.set(mood{hangs: true})
		c := r.envelope()
		mail := attachmentMail(100000)
		if d := took(func() { c.data(mail, "250") }); d != 45*time.Second {
			t.Errorf("answered after %v", d)
		}
		if got := r.hop.delivered(); len(got) != 1 || got[0] != mail {
			t.Error("the original was not delivered")
		}
	})
}

func TestIdleClient(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newPipeRig(t)
		defer r.shutdown()
		c := r.connect()
		c.expect("220")
		if d := took(func() { c.expect("421 4.4.2") }); d != 300*time.Second {
			t.Errorf("cut after %v", d)
		}
		c.expect("closed")
	})
}

// The message is cut in two at every byte of a 200-byte sample; what comes out is always the same.
func TestEverySplitThroughTheRelay(t *testing.T) {
	faults.Covers(t, 7)
	inBubble(t, func(t *testing.T) {
		r := newPipeRig(t)
		defer r.shutdown()
		c := r.connect()
		c.expect("220")
		c.want("EHLO x", "250")
		wire := writeDots("S: x\r\n\r\n" + sample)
		for i := range len(wire) {
			c.mail()
			c.want("DATA", "354")
			c.send(wire[:i])
			c.send(wire[i:])
			c.expect("250")
		}
		for i, got := range r.hop.delivered() {
			if got != "S: x\r\n\r\n"+normalise(sample) {
				t.Fatalf("split at %d: %q", i, got)
			}
		}
	})
}

// While the store takes nothing, nothing is read from the client: that it has left stands behind what it sent before, in its own
// buffers or ours. So its mail lives on for as long as a client may wait, and then nothing of it is left.
func TestClientVanishesWhileTheStoreHangs(t *testing.T) {
	faults.Covers(t, 17)
	inBubble(t, func(t *testing.T) {
		r := newPipeRig(t)
		defer r.shutdown()
		begun := make(chan struct{}, 1)
		r.store.set(mood{failure: errStoreDown, failAfter: 1, hangs: true, begun: begun})
		c := r.envelope()
		c.want("DATA", "354")
		half := writeDots(attachmentMail(1 << 20))[:1<<19]
		go c.Write([]byte(half)) // more than anybody buffers
		<-begun
		synctest.Wait()
		c.Close()
		time.Sleep(90*time.Second - time.Millisecond)
		if fate := r.store.last(); fate != "" {
			t.Errorf("batch %q before the time", fate)
		}
		time.Sleep(time.Millisecond)
		r.hop.await(t, "closed")
		if fate := r.store.last(); fate != "discarded " || len(r.hop.delivered()) > 0 || r.hop.count("DATA") > 0 {
			t.Errorf("batch %q, next hop saw %q", fate, r.hop.commands())
		}
	})
}

// A step of the wall clock moves no deadline: each has a monotonic reading, which is all that Go's timers look at.
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
			t.Errorf("the deadline %v is of the wall clock", at)
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

// When a client vanishes before our final dot, all that was there for it is gone as soon as anything can be: no time passes.
func TestNothingRunsOn(t *testing.T) {
	faults.Covers(t, 17)
	wire := writeDots(attachmentMail(100_000))
	for _, c := range []struct {
		name string
		sent string // of the message
		hush string // what the next hop does not answer
		slow bool   // the store, at the end
	}{
		{name: "before the message"},
		{name: "in the header", sent: wire[:20]},
		{name: "in the attachment", sent: wire[:len(wire)/2]},
		{name: "before the dot", sent: wire[:len(wire)-3]},
		{name: "in the dot", sent: wire[:len(wire)-1]},
		{name: "while the next hop thinks about DATA", sent: wire, hush: "DATA"},
		{name: "while the next hop reads nothing", sent: wire, hush: "data"},
		{name: "while the links are promised", sent: wire, slow: true},
	} {
		inBubble(t, func(t *testing.T) {
			r := newPipeRig(t)
			defer r.shutdown()
			if c.hush != "" {
				r.hop.script(c.hush, silence)
			}
			r.store.set(mood{slow: c.slow})
			cl := r.envelope()
			cl.want("DATA", "354")
			cl.send(c.sent)
			synctest.Wait()
			if running() == "" {
				t.Errorf("%s: the session is not seen", c.name)
			}
			if d := took(func() { cl.Close(); synctest.Wait() }); d != 0 {
				t.Errorf("%s: after %v", c.name, d)
			}
			if left := running(); left != "" {
				t.Errorf("%s: goroutines left:\n%s", c.name, left)
			}
			if fate := r.store.last(); fate != "none" && fate != "discarded " {
				t.Errorf("%s: batch %q", c.name, fate)
			}
			if got := r.hop.delivered(); len(got) > 0 {
				t.Errorf("%s: delivered %q", c.name, got)
			}
		})
	}
}
