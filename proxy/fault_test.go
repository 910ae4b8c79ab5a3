package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// A client may vanish anywhere. Up to S4 nothing of its mail is left, neither stored nor passed on.
func TestClientVanishes(t *testing.T) {
	faults.Covers(t, 17)
	mail := attachmentMail(300000)
	wire := writeDots(mail)
	for _, c := range []struct {
		name string
		at   func(r *rig, c *client, begun chan struct{}) // brings the session there
		fate string
	}{
		{"S0", func(r *rig, c *client, begun chan struct{}) {}, "none"},
		{"S1", func(r *rig, c *client, begun chan struct{}) { c.mail() }, "none"},
		{"after 354", func(r *rig, c *client, begun chan struct{}) { c.mail(); c.want("DATA", "354") }, "none"},
		{"S2 in header", func(r *rig, c *client, begun chan struct{}) { c.mail(); c.want("DATA", "354"); c.send(wire[:20]) }, "none"},
		{"S2 in attachment", func(r *rig, c *client, begun chan struct{}) {
			c.mail()
			c.want("DATA", "354")
			c.send(wire[:len(wire)/2])
			<-begun
		}, "discarded "},
		{"S2 before the dot", func(r *rig, c *client, begun chan struct{}) {
			c.mail()
			c.want("DATA", "354")
			c.send(strings.TrimSuffix(wire, ".\r\n"))
			<-begun
		}, "discarded "},
		{"S2 after the dot", func(r *rig, c *client, begun chan struct{}) {
			r.store.set(mood{slow: true, begun: begun}) // only the client's going ends it
			c.mail()
			c.want("DATA", "354")
			c.send(wire)
			<-begun
		}, "discarded "},
		{"S3", func(r *rig, c *client, begun chan struct{}) {
			r.hop.script("DATA", silence)
			c.mail()
			c.want("DATA", "354")
			c.send(wire)
			r.hop.await(r.t, "DATA")
		}, "discarded "},
		{"S4", func(r *rig, c *client, begun chan struct{}) {
			c.mail()
			r.hop.script(".", "550 5.7.1 No")
			c.want("DATA", "354")
			c.send(wire)
			r.hop.await(r.t, ".") // whether it goes before or after the answer is all the same
		}, "committed discarded "},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			begun := make(chan struct{}, 1)
			r.store.set(mood{begun: begun})
			cl := r.connect()
			cl.expect("220")
			cl.want("EHLO x", "250")
			c.at(r, cl, begun)
			cl.Close()
			// All is settled when the sessions are over.
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := r.server.Shutdown(ctx); err != nil {
				t.Fatal(err)
			}
			if fate := r.store.last(); fate != c.fate {
				t.Errorf("batch %q, want %q", fate, c.fate)
			}
			if got := r.hop.delivered(); len(got) > 0 {
				t.Errorf("delivered %q", got)
			}
		})
	}
}

func TestClientVanishesInPassingMessage(t *testing.T) {
	faults.Covers(t, 17)
	r := newRig(t)
	c := r.envelope()
	c.want("DATA", "354")
	c.send(halfMail)
	r.hop.await(t, "DATA")
	c.Close()
	r.hop.await(t, "closed")
	if got := r.hop.delivered(); len(got) > 0 {
		t.Errorf("delivered %q", got)
	}
}

func TestStoreFails(t *testing.T) {
	faults.Covers(t, 21)
	mail := attachmentMail(500000)
	for _, after := range []int64{0, 1, 50000, 500000} {
		t.Run("", func(t *testing.T) {
			r := newRig(t)
			r.store.set(mood{failure: errStoreDown, failAfter: after})
			c := r.envelope()
			// The mail's text is commands from there on, for who reads it so.
			got := c.data(mail+strings.Repeat("NOOP\r\n", 10000), "451 4.3.0")
			if strings.Contains(got, "down") {
				t.Errorf("reply tells of the store: %q", got)
			}
			if fate := r.store.last(); fate != "discarded " {
				t.Errorf("batch %q, want discarded", fate)
			}
			c.mail() // the next hop was told RSET
			c.data(plainMail, "250")
			want := "EHLO client.example|MAIL FROM:<a@example.org>|RCPT TO:<b@example.org>|RSET|" +
				"MAIL FROM:<a@example.org>|RCPT TO:<b@example.org>|DATA|."
			if got := strings.Join(r.hop.commands(), "|"); got != want {
				t.Errorf("next hop saw %q, want %q", got, want)
			}
		})
	}
}

// The links are promised last of all: what the next hop has by then is abandoned, also where the
// original could still have been passed on before.
// While the store takes nothing, the client gets ahead of it by what one socket holds and no more, even when all went fast before.
func TestClientIsHeldBack(t *testing.T) {
	faults.Covers(t, 52)
	const fast = 2 << 20
	r := newRig(t, func(cfg *Config) { cfg.MaxSize = 64 << 20 })
	r.store.set(mood{failure: errStoreDown, failAfter: fast, hangs: true})
	c := r.envelope()
	socket := c.Conn.(*patientConn).Conn.(*net.TCPConn)
	if err := socket.SetWriteBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	c.want("DATA", "354")
	wire := []byte(writeDots(attachmentMail(8 << 20)))
	sent := fast * 4 / 3
	c.send(string(wire[:sent]))
	var err error
	for err == nil && sent < len(wire) {
		var n int
		socket.SetWriteDeadline(time.Now().Add(time.Second))
		n, err = socket.Write(wire[sent:min(sent+4096, len(wire))])
		sent += n
	}
	ahead := sent - fast*4/3
	// The kernel doubles both buffers, for its own book-keeping; dataSize is read, and a scanner's buffer; and a line has its end.
	if err == nil || ahead > 3<<20/2 {
		t.Errorf("the client could send %d KiB ahead of the store", ahead>>10)
	}
	r.server.kill() // the store heeds nothing else
}

func TestDeliverTheOriginal(t *testing.T) {
	mail := attachmentMail(2<<20) + "..\r\n"
	for _, after := range []int64{0, 1, 100000, 2 << 20} {
		t.Run("", func(t *testing.T) {
			r := newRig(t, func(cfg *Config) { cfg.OnFailure = Deliver })
			r.store.set(mood{failure: errStoreDown, failAfter: after})
			c := r.envelope()
			c.data(mail, "250")
			if got := r.hop.delivered(); len(got) != 1 || got[0] != mail {
				t.Error("the original was not delivered")
			}
			if fate := r.store.last(); fate != "discarded " {
				t.Errorf("batch %q, want discarded", fate)
			}
		})
	}
	t.Run("too big", func(t *testing.T) {
		r := newRig(t, func(cfg *Config) { cfg.OnFailure, cfg.MaxSize = Deliver, 2<<20 })
		r.store.set(mood{failure: errStoreDown})
		r.envelope().data(mail, "552 5.3.4")
	})
	t.Run("client gone", func(t *testing.T) {
		r := newRig(t, func(cfg *Config) { cfg.OnFailure = Deliver })
		begun := make(chan struct{}, 1)
		r.store.set(mood{failure: errStoreDown, begun: begun})
		c := r.envelope()
		c.want("DATA", "354")
		c.send(mail[:1<<20])
		<-begun
		c.Close()
		r.hop.await(t, "closed")
		if got := r.hop.count("DATA"); got != 0 {
			t.Errorf("next hop saw DATA %d times", got)
		}
	})
	t.Run("spool fails", func(t *testing.T) {
		r := newRig(t, func(cfg *Config) { cfg.OnFailure, cfg.Policy.TempDir = Deliver, "/nowhere" })
		r.store.set(mood{failure: errStoreDown, failAfter: 2 << 20})
		r.envelope().data(mail, "451 4.3.0")
	})
}

func TestNextHopDown(t *testing.T) {
	faults.Covers(t, 29)
	r := newRig(t, func(cfg *Config) { cfg.NextHop = "unix:/nowhere/at/all" })
	c := r.connect()
	c.expect("421 4.3.0 filter.example")
	if got := c.reply(); got != "closed" {
		t.Errorf("got %q, want closed", got)
	}
}

func TestGreeting(t *testing.T) {
	faults.Covers(t, 30)
	for _, greeting := range []string{"421 4.3.2 busy", "554-5.7.1 no\r\n554 5.7.1 really", hangUp, "hello"} {
		t.Run(greeting, func(t *testing.T) {
			r := newRig(t)
			r.hop.script("greeting", greeting)
			want := greeting + "\r\n"
			if greeting[0] == 'h' {
				want = "421 4.3.0 filter.example"
			}
			c := r.connect()
			c.expect(want)
			if got := c.reply(); got != "closed" {
				t.Errorf("got %q, want closed", got)
			}
		})
	}
}

// What the next hop refuses before DATA is refused in its words, and it is not asked for DATA then.
func TestEnvelopeRefused(t *testing.T) {
	faults.Covers(t, 30)
	steps := []string{"EHLO client.example", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>"}
	for i := range steps {
		for _, no := range []string{"450-4.7.1 not\r\n450 4.7.1 now", "550 5.7.1 never", "421 4.3.2 bye"} {
			t.Run(steps[i][:4]+" "+no, func(t *testing.T) {
				r := newRig(t)
				r.hop.script(steps[i][:4], no)
				c := r.connect()
				c.expect("220")
				for _, step := range steps[:i] {
					c.want(step, "250")
				}
				if got := c.want(steps[i], ""); got != no+"\r\n" {
					t.Errorf("got %q, want %q", got, no)
				}
				if no[:3] == "421" {
					c.expect("closed")
				} else {
					c.want("DATA", "5")
				}
				if r.hop.count("DATA") > 0 || r.store.last() != "none" {
					t.Errorf("next hop saw %q, batch %q", r.hop.commands(), r.store.last())
				}
			})
		}
	}
}

// What the next hop says to DATA and to the final dot, and what the client hears of it.
func TestAnswersToDATAAndDot(t *testing.T) {
	faults.Covers(t, 30, 33, 35)
	const ours, kept, discarded = "451 4.3.0 Temporary failure, please try again later", "committed ", "committed discarded "
	const unpromised = "discarded "
	for _, c := range []struct {
		command, answer, want, fate string
		usable                      bool // the session goes on
	}{
		{"DATA", "450 4.2.0 later", "450 4.2.0 later", unpromised, true},
		{"DATA", "554-5.7.1 no\r\n554 5.7.1 never", "554-5.7.1 no\r\n554 5.7.1 never", unpromised, true},
		{"DATA", "421 4.3.2 bye", "421 4.3.2 bye", unpromised, false},
		{"DATA", "250 2.0.0 Ok", ours, unpromised, false}, // passing it on would lose the mail
		{"DATA", "334 what", ours, unpromised, false},
		{"DATA", "garbage", ours, unpromised, false},
		{"DATA", hangUp, ours, unpromised, false},
		{".", "250-2.0.0 Ok\r\n250 queued as \xe9", "250-2.0.0 Ok\r\n250 queued as \xe9", kept, true},
		{".", "452 4.3.1 full", "452 4.3.1 full", discarded, true},
		{".", "550 5.7.1 spam", "550 5.7.1 spam", discarded, true},
		{".", "421 4.3.2 bye", "421 4.3.2 bye", discarded, false},
		{".", "354 go on", ours, kept, false}, // S4: nobody knows
		{".", "334 what", ours, kept, false},
		{".", "garbage", ours, kept, false},
		{".", "250-2.0.0 Ok\r\n550 no", ours, kept, false},
		{".", hangUp, ours, kept, false},
	} {
		for _, mail := range []string{attachmentMail(1000), plainMail} {
			t.Run(c.command+" "+c.answer, func(t *testing.T) {
				r := newRig(t)
				r.hop.script(c.command, c.answer)
				cl := r.envelope()
				if got := cl.data(mail, ""); got != c.want+"\r\n" {
					t.Errorf("got %q, want %q", got, c.want)
				}
				if fate := r.store.last(); mail != plainMail && fate != c.fate {
					t.Errorf("batch %q, want %q", fate, c.fate)
				}
				switch {
				case c.usable:
					cl.mail()
				case strings.HasPrefix(c.want, "421"):
					cl.expect("closed")
				default:
					cl.want("MAIL FROM:<a@example.org>", "421 4.3.0 filter.example")
					cl.expect("closed")
				}
			})
		}
	}
}

// What the next hop says before the final dot is no answer to it, so the dot is not sent: if it were, a mail could be accepted that
// nobody has, or its files be deleted although somebody has it.
func TestAnswersBeforeTheDot(t *testing.T) {
	faults.Covers(t, 30, 35)
	const ours = "451 4.3.0 Temporary failure, please try again later"
	for said, want := range map[string]string{
		"250 2.0.0 Ok: queued as 4X":        ours,
		"354 go on":                         ours,
		"garbage":                           ours,
		hangUp:                              ours,
		"452 4.3.1 full":                    "452 4.3.1 full",
		"552-5.3.4 no\r\n552 5.3.4 too big": "552-5.3.4 no\r\n552 5.3.4 too big",
		"421 4.4.2 next.example timeout, go away.": "421 4.4.2 next.example timeout, go away.",
	} {
		check := func(t *testing.T, r *rig, c *client) {
			t.Helper()
			c.expect(want + "\r\n")
			if r.hop.count(".") > 0 {
				t.Error("the next hop got the final dot")
			}
			if !strings.HasPrefix(want, "421") {
				c.want("MAIL FROM:<a@example.org>", "421 4.3.0 filter.example")
			}
			c.expect("closed")
		}
		if said != hangUp {
			t.Run("with 354, "+said, func(t *testing.T) {
				r := newRig(t)
				r.hop.script("DATA", "354 go ahead\r\n"+said)
				c := r.envelope()
				c.want("DATA", "354")
				c.send(writeDots(attachmentMail(1000)))
				check(t, r, c)
				if fate := r.store.last(); fate != "committed discarded " {
					t.Errorf("batch %q, want discarded", fate)
				}
			})
		}
		t.Run("in a passing mail, "+said, func(t *testing.T) {
			r := newRig(t)
			r.hop.script("data", said)
			c := r.envelope()
			c.want("DATA", "354")
			c.send(halfMail)
			r.hop.await(t, map[bool]string{true: "closed", false: "data"}[said == hangUp])
			c.send(".\r\n")
			check(t, r, c)
		})
	}
}

func TestQUITAfterNextHopIsLost(t *testing.T) {
	r := newRig(t)
	r.hop.script(".", hangUp)
	c := r.envelope()
	c.data(plainMail, "451")
	c.want("QUIT", "221 2.0.0 Bye")
	c.expect("closed")
}

func TestOneOfTwoRecipients(t *testing.T) {
	faults.Covers(t, 31)
	r := newRig(t)
	c := r.envelope()
	r.hop.script("RCPT", "550 5.1.1 Unknown")
	c.want("RCPT TO:<x@example.org>", "550 5.1.1 Unknown\r\n")
	c.data(plainMail, "250")
	if len(r.hop.delivered()) != 1 {
		t.Error("not delivered to the other recipient")
	}
}

func TestNextHopClosesInData(t *testing.T) {
	faults.Covers(t, 32)
	r := newRig(t)
	c := r.envelope()
	c.want("DATA", "354")
	c.send(halfMail)
	r.hop.await(t, "DATA")
	r.hop.stop()
	r.hop.await(t, "closed")
	c.send(strings.Repeat(strings.Repeat("x", 998)+"\r\n", 5000) + ".\r\n")
	c.expect("451 4.3.0")
	c.want("NOOP", "421 4.3.0")
}

func TestOneMailInOneMailOut(t *testing.T) {
	faults.Covers(t, 3, 37)
	for _, lenient := range []bool{false, true} {
		for _, evil := range falseEnds {
			for _, mail := range []string{plainMail, attachmentMail(100)} {
				t.Run("", func(t *testing.T) {
					r := newRig(t)
					r.hop.mu.Lock()
					r.hop.lenient = lenient
					r.hop.mu.Unlock()
					c := r.envelope()
					c.want("DATA", "354")
					body := strings.TrimSuffix(writeDots(mail), ".\r\n")
					c.send(body + "x" + evil + "MAIL FROM:<evil@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx\r\n.\r\n")
					c.expect("250 2.0.0 Ok: queued")
					c.want("NOOP", "250")
					if got := r.hop.delivered(); len(got) != 1 || r.hop.count("MAIL FROM:<evil@example.org>") != 0 {
						t.Errorf("%q: delivered %q, commands %q", evil, got, r.hop.commands())
					}
				})
			}
		}
	}
}

func TestLoop(t *testing.T) {
	faults.Covers(t, 36)
	line := "Received: from x\r\n\tby y; Received: z\r\n"
	for _, c := range []struct{ mail, want string }{
		{strings.Repeat(line, 50) + plainMail, "250"},
		{strings.Repeat(line, 51) + plainMail, "554 5.4.6"},
		{strings.Repeat(strings.ToUpper(line), 51) + attachmentMail(1000), "554 5.4.6"},
		{plainMail + strings.Repeat(line, 100), "250"},
	} {
		t.Run("", func(t *testing.T) {
			r := newRig(t)
			r.envelope().data(c.mail, c.want)
			if got := len(r.hop.delivered()); (got == 1) != (c.want == "250") {
				t.Errorf("%d delivered", got)
			}
		})
	}
}

func TestHopCounterAtEverySplit(t *testing.T) {
	header := "Received: a\r\nreceived:\r\n\tReceived: b\r\nReceive: c\nRECEIVED:d\n\r\nReceived: e\r\n"
	for i := range len(header) {
		var h hopCounter
		h.scan([]byte(header[:i]))
		h.scan([]byte(header[i:]))
		if h.count != 3 {
			t.Fatalf("split at %d: %d, want 3", i, h.count)
		}
	}
}

func TestPanicEndsOnlyItsSession(t *testing.T) {
	r := newRig(t)
	r.store.set(mood{panics: true})
	other := r.envelope()
	c := r.envelope()
	c.want("DATA", "354")
	c.send(writeDots(attachmentMail(1000)))
	c.expect("closed")
	other.data(plainMail, "250")
	log := r.log.String()
	if !strings.Contains(log, "msg=panic") || strings.Contains(log, "a secret") {
		t.Errorf("log is %s", log)
	}
	if !strings.Contains(log, "store_test.go:") || strings.Contains(log, "(0x") {
		t.Errorf("the log does not say where it was, or with which arguments' bytes: %s", log)
	}
	if fate := r.store.last(); fate != "discarded " {
		t.Errorf("batch %q, want discarded", fate)
	}
}

func TestUnixNextHop(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/hop")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hop := newHop()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			hop.serve(c)
		}
	}()
	r := newRig(t, func(cfg *Config) { cfg.NextHop = "unix:" + l.Addr().String() })
	r.envelope().data(plainMail, "250")
}

func TestReplyDefaultsTo451(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("x"), 451},
		{io.ErrUnexpectedEOF, 451},
		{clientError(io.EOF), 421},
		{errors.Join(errors.New("x"), errTooBig), 552},
	} {
		if got := reply(c.err).Code; got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}
