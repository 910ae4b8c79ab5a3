package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/freespace"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func TestNextHopDownIs421(t *testing.T) {
	faults.Covers(t, 29)
	r := newRig(t, func(cfg *Config) { cfg.NextHop = "unix:/nowhere/at/all" })
	r.connect("421 4.3.0 filter.example", "closed")
}

func TestNextHopBehindAUnixSocket(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/hop")
	must.Succeed(t, err)
	defer l.Close()
	hop := newHop()
	go func() {
		if c, err := l.Accept(); err == nil {
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
			r.connect(want, "closed")
		})
	}
}

// The client gets the next hop's refusal of a command before DATA, and the next hop gets no DATA.
func TestRefusedEnvelopeNeverReachesDATA(t *testing.T) {
	faults.Covers(t, 30)
	steps := []string{"EHLO client.example", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>"}
	for i := range steps {
		for _, no := range []string{"450-4.7.1 not\r\n450 4.7.1 now", "550 5.7.1 never", "421 4.3.2 bye"} {
			t.Run(steps[i][:4]+" "+no, func(t *testing.T) {
				r := newRig(t)
				r.hop.script(steps[i][:4], no)
				c := r.connect("220")
				for _, step := range steps[:i] {
					c.want(step, "250")
				}
				c.want(steps[i], no+"\r\n")
				if no[:3] == "421" {
					c.expect("closed")
				} else {
					c.want("DATA", "5")
				}
				r.wantBatch("none")
				if r.hop.count("DATA") > 0 {
					t.Errorf("next hop saw %q", r.hop.commands())
				}
			})
		}
	}
}

// The next hop's answer decides what the client is told, and what stays stored.
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
				cl.data(mail, c.want+"\r\n")
				if mail != plainMail {
					r.wantBatch(c.fate)
				}
				switch {
				case c.usable:
					cl.mail()
				case strings.HasPrefix(c.want, "421"):
					cl.expect("closed")
				default:
					cl.want("MAIL FROM:<a@example.org>", "421 4.3.0 filter.example", "closed")
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
				c := r.inData()
				c.send(writeDots(attachmentMail(1000)))
				check(t, r, c)
				r.wantBatch(undone)
			})
		}
		t.Run("in a passing mail, "+said, func(t *testing.T) {
			r := newRig(t)
			r.hop.script("data", said)
			c := r.inData()
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
	c := r.inData()
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
	c.want("QUIT", "221 2.0.0 Bye", "closed")
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
			r.connect("220").want("RCPT TO:<x>", want)
		})
	}
	for _, bad := range []string{
		"250-one\r\n550 two", "25 x", "250x", "hello", "", "650 x", "150 x", "354 go", "334 x",
		"250-" + strings.Repeat("x", 5000) + "\r\n250 x", strings.Repeat("250-x\r\n", 200) + "250 x",
	} {
		t.Run("", func(t *testing.T) {
			r := newRig(t)
			r.hop.script("NOOP", bad)
			r.connect("220").want("NOOP", "421 4.3.0 filter.example", "closed")
		})
	}
}

func TestUnsolicitedReplyIsNeverTakenForAnAnswer(t *testing.T) {
	for _, c := range []struct{ extra, want string }{
		{"\r\n250 2.0.0 Ok", "421 4.3.0 filter.example"}, // it could be taken for the answer to the dot
		{"\r\n421 4.4.2 next.example Timeout", "421 4.4.2 next.example"},
	} {
		t.Run(c.want[:3], func(t *testing.T) {
			r := newRig(t)
			r.hop.script("RCPT", "250 2.1.5 Ok"+c.extra)
			cl := r.connect("220")
			cl.want("RCPT TO:<x>", "250 2.1.5 Ok")
			cl.want("NOOP", c.want, "closed")
		})
	}
	t.Run("later", func(t *testing.T) {
		r := newRig(t)
		cl := r.connect("220")
		r.hop.say(t, "250 2.0.0 Ok\r\n")
		cl.want("MAIL FROM:<a@example.org>", "421 4.3.0 filter.example", "closed")
		if got := r.hop.commands(); len(got) > 0 {
			t.Errorf("next hop saw %q", got)
		}
	})
}

func TestFullStoreIs451(t *testing.T) {
	if got := reply(fmt.Errorf("detach: %w", freespace.ErrLow)); got.Code != 451 || got.EnhancedCode != [3]int{4, 3, 1} {
		t.Errorf("got %v", got)
	}
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
