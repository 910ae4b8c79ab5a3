package proxy

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func TestNextHopDownIs421(t *testing.T) {
	faults.Covers(t, 29)
	r := newRig(t, func(cfg *Config) { cfg.NextHop = "unix:/nowhere/at/all" })
	c := r.connect()
	c.expect("421 4.3.0 filter.example")
	if got := c.reply(); got != "closed" {
		t.Errorf("got %q, want closed", got)
	}
}

func TestNextHopBehindAUnixSocket(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/hop")
	must.Succeed(t, err)
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

func TestRefusedGreetingEndsTheSession(t *testing.T) {
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

// What the next hop refuses before DATA is refused in its words, and DATA is not said to it.
func TestRefusedEnvelopeNeverReachesDATA(t *testing.T) {
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
				if r.hop.count("DATA") > 0 || r.store.Last() != "none" {
					t.Errorf("next hop saw %q, batch %q", r.hop.commands(), r.store.Last())
				}
			})
		}
	}
}

func TestMailGoesToTheRecipientThatWasAccepted(t *testing.T) {
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

// What the next hop says to DATA and to the final dot, what the client is told, and what stays
// stored.
func TestAnswerToDATAOrDotDecides(t *testing.T) {
	faults.Covers(t, 30, 33, 35)
	const ours = "451 4.3.0 Temporary failure, please try again later"
	for _, c := range []struct {
		command, answer, want, fate string
		usable                      bool // the session goes on
	}{
		{"DATA", "450 4.2.0 later", "450 4.2.0 later", discarded, true},
		{"DATA", "554-5.7.1 no\r\n554 5.7.1 never", "554-5.7.1 no\r\n554 5.7.1 never", discarded, true},
		{"DATA", "421 4.3.2 bye", "421 4.3.2 bye", discarded, false},
		{"DATA", "250 2.0.0 Ok", ours, discarded, false}, // passing it on would lose the mail
		{"DATA", "334 what", ours, discarded, false},
		{"DATA", "garbage", ours, discarded, false},
		{"DATA", hangUp, ours, discarded, false},
		{".", "250-2.0.0 Ok\r\n250 queued as \xe9", "250-2.0.0 Ok\r\n250 queued as \xe9", kept, true},
		{".", "452 4.3.1 full", "452 4.3.1 full", undone, true},
		{".", "550 5.7.1 spam", "550 5.7.1 spam", undone, true},
		{".", "421 4.3.2 bye", "421 4.3.2 bye", undone, false},
		{".", "354 go on", ours, kept, false}, // S4: the outcome is unknown
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
				if fate := r.store.Last(); mail != plainMail && fate != c.fate {
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

// A reply before the final dot does not answer the dot, so the dot is not sent. Otherwise a mail
// could be accepted that nobody has, or the files of a mail deleted that somebody has.
func TestNoDotAfterAnEarlyAnswer(t *testing.T) {
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
				if fate := r.store.Last(); fate != undone {
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

func TestQUITAfterNextHopIsLost(t *testing.T) {
	r := newRig(t)
	r.hop.script(".", hangUp)
	c := r.envelope()
	c.data(plainMail, "451")
	c.want("QUIT", "221 2.0.0 Bye")
	c.expect("closed")
}

func TestRepliesAreRelayedOrTheNextHopIsLost(t *testing.T) {
	faults.Covers(t, 28)
	for _, want := range []string{
		"550-5.1.1 first\r\n550-\r\n550 5.1.1 last\r\n",
		"550\r\n",
		"550 caf\xe9 \xc3\xa9\r\n",
		"450 " + strings.Repeat("x", 2000) + "\r\n",
		"250 one\r\n",
	} {
		t.Run("", func(t *testing.T) {
			r := newRig(t)
			r.hop.script("RCPT", strings.TrimSuffix(want, "\r\n"))
			c := r.connect()
			c.expect("220")
			if got := c.want("RCPT TO:<x>", ""); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	for _, bad := range []string{
		"250-one\r\n550 two", "25 x", "250x", "hello", "", "650 x", "150 x", "354 go", "334 x",
		"250-" + strings.Repeat("x", 5000) + "\r\n250 x", strings.Repeat("250-x\r\n", 200) + "250 x",
	} {
		t.Run("", func(t *testing.T) {
			r := newRig(t)
			r.hop.script("NOOP", bad)
			c := r.connect()
			c.expect("220")
			c.want("NOOP", "421 4.3.0 filter.example")
			if got := c.reply(); got != "closed" {
				t.Errorf("%.20q: got %q, want closed", bad, got)
			}
		})
	}
}

func TestUnsolicitedReplyIsNeverTakenForAnAnswer(t *testing.T) {
	for _, c := range []struct{ extra, want string }{
		{"\r\n250 2.0.0 Ok", "421 4.3.0 filter.example"}, // or it would answer the final dot
		{"\r\n421 4.4.2 next.example Timeout", "421 4.4.2 next.example"},
	} {
		t.Run(c.want[:3], func(t *testing.T) {
			r := newRig(t)
			r.hop.script("RCPT", "250 2.1.5 Ok"+c.extra)
			cl := r.connect()
			cl.expect("220")
			cl.want("RCPT TO:<x>", "250 2.1.5 Ok")
			cl.want("NOOP", c.want)
			if got := cl.reply(); got != "closed" {
				t.Errorf("got %q, want closed", got)
			}
		})
	}
	t.Run("later", func(t *testing.T) {
		r := newRig(t)
		cl := r.connect()
		cl.expect("220")
		r.hop.say(t, "250 2.0.0 Ok\r\n")
		cl.want("MAIL FROM:<a@example.org>", "421 4.3.0 filter.example")
		cl.expect("closed")
		if got := r.hop.commands(); len(got) > 0 {
			t.Errorf("next hop saw %q", got)
		}
	})
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
