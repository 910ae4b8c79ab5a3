package proxy

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
)

func TestEveryMailHasOneOutcome(t *testing.T) {
	detached := transaction.Outcome{Result: transaction.ResultDetached, Attachments: 1, Bytes: 1000}
	nothing := func(r transaction.Result) transaction.Outcome { return transaction.Outcome{Result: r} }
	for name, c := range map[string]struct {
		mail  string
		onBad transaction.OnFailure
		mood  mood
		dot   string
		want  transaction.Outcome
		code  int
	}{
		"detached":         {mail: attachmentMail(1000), want: detached, code: 250},
		"nothing to do":    {mail: plainMail, want: nothing(transaction.ResultUnchanged), code: 250},
		"nothing found":    {mail: strings.Replace(attachmentMail(0), "\r\n--b\r\nContent-Type: app", "\r\n", 1), want: nothing(transaction.ResultUnchanged), code: 250},
		"the original":     {mail: attachmentMail(1000), onBad: transaction.Deliver, mood: mood{Failure: errDown}, want: nothing(transaction.ResultOriginal), code: 250},
		"refused":          {mail: attachmentMail(1000), dot: "550 5.7.1 spam", want: nothing(transaction.ResultRefused), code: 550},
		"put off":          {mail: plainMail, dot: "450 4.7.1 greylisted", want: nothing(transaction.ResultRefused), code: 450},
		"refused with 421": {mail: plainMail, dot: "421 4.3.2 bye", want: nothing(transaction.ResultRefused), code: 421},
		"looping":          {mail: strings.Repeat("Received: x\r\n", 51) + plainMail, want: nothing(transaction.ResultRejected), code: 554},
		"store down":       {mail: attachmentMail(1000), mood: mood{Failure: errDown}, want: nothing(transaction.ResultDeferred), code: 451},
		"no verdict":       {mail: plainMail, dot: hangUp, want: nothing(transaction.ResultDeferred), code: 451},
		"client gone":      {mail: "", want: nothing(transaction.ResultAbandoned), code: 421},
		"links not served": {mail: attachmentMail(1000), mood: mood{Commit: errDown}, want: nothing(transaction.ResultDeferred), code: 451},
	} {
		t.Run(name, func(t *testing.T) {
			outcomes, codes := make(chan transaction.Outcome, 10), make(chan int, 10)
			r := newRig(t, func(cfg *Config) {
				cfg.Mail.OnFailure = c.onBad
				cfg.Observe = func(o transaction.Outcome, code int) { outcomes <- o; codes <- code }
			})
			r.store.Set(c.mood)
			if c.dot != "" {
				r.hop.script(".", c.dot)
			}
			cl := r.envelope()
			if c.mail == "" {
				cl.want("DATA", "354")
				cl.send(halfMail)
				cl.Close()
			} else {
				cl.data(c.mail, "")
			}
			if err := r.server.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(outcomes) != 1 {
				t.Fatalf("%d outcomes, want 1", len(outcomes))
			}
			got, code := <-outcomes, <-codes
			if got.Result != c.want.Result || got.Attachments != c.want.Attachments || got.Bytes != c.want.Bytes || code != c.code {
				t.Errorf("got %+v, %d; want %+v, %d", got, code, c.want, c.code)
			}
		})
	}
}

func TestStoreFailureIs451AndTheSessionGoesOn(t *testing.T) {
	faults.Covers(t, 21)
	mail := attachmentMail(500000)
	for _, after := range []int64{0, 1, 50000, 500000} {
		t.Run("", func(t *testing.T) {
			r := newRig(t)
			r.store.Set(mood{Failure: errDown, FailAfter: after})
			c := r.envelope()
			// From there on the mail's text looks like commands.
			got := c.data(mail+strings.Repeat("NOOP\r\n", 10000), "451 4.3.0")
			if strings.Contains(got, "down") {
				t.Errorf("reply tells of the store: %q", got)
			}
			if !strings.Contains(r.log.String(), "store is down") {
				t.Errorf("the log does not have the reason: %s", r.log)
			}
			if fate := r.store.Last(); fate != discarded {
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

func TestOriginalGoesOnWhenStoringFails(t *testing.T) {
	mail := attachmentMail(2<<20) + "..\r\n"
	deliver := func(cfg *Config) { cfg.Mail.OnFailure = transaction.Deliver }
	t.Run("delivered", func(t *testing.T) {
		r := newRig(t, deliver)
		r.store.Set(mood{Failure: errDown, FailAfter: 100000})
		r.envelope().data(mail, "250")
		if got := r.hop.delivered(); len(got) != 1 || got[0] != mail {
			t.Error("the original was not delivered")
		}
		if fate := r.store.Last(); fate != discarded {
			t.Errorf("batch %q, want discarded", fate)
		}
	})
	t.Run("too big", func(t *testing.T) {
		r := newRig(t, deliver, func(cfg *Config) { cfg.MaxSize = 2 << 20 })
		r.store.Set(mood{Failure: errDown})
		r.envelope().data(mail, "552 5.3.4")
	})
	t.Run("client gone", func(t *testing.T) {
		r := newRig(t, deliver)
		begun := make(chan struct{}, 1)
		r.store.Set(mood{Failure: errDown, Begun: begun})
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
}

// The links begin to work when the next hop has all of the mail but its end. The next hop cannot be
// given the original then, so that failure is a 451 in either mode.
func TestCommitFailureIs451InEitherMode(t *testing.T) {
	faults.Covers(t, 21)
	for name, mode := range map[string]transaction.OnFailure{"tempfail": transaction.TempFail, "deliver": transaction.Deliver} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(cfg *Config) { cfg.Mail.OnFailure = mode })
			r.store.Set(mood{Commit: errDown})
			r.envelope().data(attachmentMail(3<<20), "451 4.3.0 Temporary failure")
			r.hop.await(t, "closed")
			if fate := r.store.Last(); fate != discarded || len(r.hop.delivered()) > 0 {
				t.Errorf("batch %q, delivered %q", fate, r.hop.delivered())
			}
		})
	}
}

// While the store takes nothing, the client gets ahead of it by no more than one socket holds, even if
// the store was fast before.
func TestClientIsHeldBack(t *testing.T) {
	faults.Covers(t, 52)
	const fast = 2 << 20
	r := newRig(t, func(cfg *Config) { cfg.MaxSize = 64 << 20 })
	r.store.Set(mood{Failure: errDown, FailAfter: fast, Hangs: true})
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
	// The kernel doubles both sockets' buffers for its bookkeeping; dataSize and a scanner's buffer are
	// read; and lines have ends.
	if err == nil || ahead > 3<<20/2 {
		t.Errorf("the client could send %d KiB ahead of the store", ahead>>10)
	}
	r.server.kill() // nothing else ends the store's waiting
}

func TestPanicEndsOnlyItsSession(t *testing.T) {
	r := newRig(t)
	r.store.Set(mood{Panics: true})
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
	if !strings.Contains(log, "store.go:") || strings.Contains(log, "(0x") {
		t.Errorf("the log does not say where it was, or with which arguments' bytes: %s", log)
	}
	if fate := r.store.Last(); fate != discarded {
		t.Errorf("batch %q, want discarded", fate)
	}
}
