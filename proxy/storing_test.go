package proxy

import (
	"cmp"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/freespace"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
)

// Each mail has one outcome, its attachments have one fate, and it is delivered or not.
func TestEveryMailHasOneOutcome(t *testing.T) {
	faults.Covers(t, 21)
	deliver := func(cfg *Config) { cfg.Mail.OnFailure = transaction.Deliver }
	limited := func(cfg *Config) { deliver(cfg); cfg.MaxSize = 2 << 20 }
	mail, nothingFound := attachmentMail(1000), strings.Replace(attachmentMail(0), "\r\n--b\r\nContent-Type: app", "\r\n", 1)
	down, noCommit := behavior{Failure: errDown}, behavior{Commit: errDown}
	for name, c := range map[string]struct {
		cfg      func(*Config)
		behavior behavior
		mail     string
		gone     bool   // the client breaks off after the mail
		dot      string // the next hop's answer
		want     transaction.Result
		code     int
		fate     string
	}{
		"detached":              {mail: mail, want: transaction.ResultDetached, code: 250, fate: kept},
		"nothing to do":         {mail: plainMail, want: transaction.ResultUnchanged, code: 250},
		"nothing found":         {mail: nothingFound, want: transaction.ResultUnchanged, code: 250, fate: kept},
		"the original":          {mail: mail, cfg: deliver, behavior: down, want: transaction.ResultOriginal, code: 250, fate: discarded},
		"refused":               {mail: mail, dot: "550 5.7.1 spam", want: transaction.ResultRefused, code: 550, fate: undone},
		"put off":               {mail: plainMail, dot: "450 4.7.1 greylisted", want: transaction.ResultRefused, code: 450},
		"refused with 421":      {mail: plainMail, dot: "421 4.3.2 bye", want: transaction.ResultRefused, code: 421},
		"looping":               {mail: strings.Repeat("Received: x\r\n", 51) + plainMail, want: transaction.ResultRejected, code: 554},
		"too large":             {mail: attachmentMail(2 << 20), cfg: limited, behavior: down, want: transaction.ResultRejected, code: 552, fate: discarded},
		"store full":            {mail: mail, behavior: behavior{Failure: freespace.ErrLow}, want: transaction.ResultDeferred, code: 451, fate: discarded},
		"store down":            {mail: mail, behavior: down, want: transaction.ResultDeferred, code: 451, fate: discarded},
		"no verdict":            {mail: mail, dot: hangUp, want: transaction.ResultDeferred, code: 451, fate: kept},
		"client gone":           {mail: halfMail, gone: true, want: transaction.ResultAbandoned, code: 421},
		"client gone, original": {mail: mail[:600], gone: true, cfg: deliver, behavior: down, want: transaction.ResultAbandoned, code: 421, fate: discarded},
		"links not served":      {mail: mail, behavior: noCommit, want: transaction.ResultDeferred, code: 451, fate: discarded},
		"too late for original": {mail: mail, cfg: deliver, behavior: noCommit, want: transaction.ResultDeferred, code: 451, fate: discarded},
	} {
		t.Run(name, func(t *testing.T) {
			outcomes, codes := make(chan transaction.Outcome, 10), make(chan int, 10)
			r := newRig(t, func(cfg *Config) {
				if c.cfg != nil {
					c.cfg(cfg)
				}
				cfg.Observe = func(o transaction.Outcome, code int) { outcomes <- o; codes <- code }
			})
			r.store.Set(c.behavior)
			if c.dot != "" {
				r.hop.script(".", c.dot)
			}
			cl := r.envelope()
			if c.gone {
				cl.want("DATA", "354")
				cl.send(c.mail)
				cl.Close()
			} else {
				cl.data(c.mail, "")
			}
			must.Succeed(t, r.server.Shutdown(t.Context()))
			if len(outcomes) != 1 {
				t.Fatalf("%d outcomes, want 1", len(outcomes))
			}
			o, code, mails := <-outcomes, <-codes, r.hop.delivered()
			if o.Result != c.want || code != c.code {
				t.Errorf("got %q and %d, want %q and %d", o.Result, code, c.want, c.code)
			}
			r.wantBatch(cmp.Or(c.fate, "none"))
			if delivered := len(mails) == 1; delivered != (code == 250) || delivered && c.want != transaction.ResultDetached && mails[0] != c.mail {
				t.Errorf("delivered %q", mails)
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
			r.store.Set(behavior{Failure: errDown, FailAfter: after})
			c := r.envelope()
			// The rest of the mail's text looks like commands.
			if got := c.data(mail+strings.Repeat("NOOP\r\n", 10000), "451 4.3.0"); strings.Contains(got, "down") {
				t.Errorf("the reply tells of the store: %q", got)
			}
			if !strings.Contains(r.log.String(), "store is down") {
				t.Errorf("the log does not have the reason: %s", r.log)
			}
			r.wantBatch(discarded)
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

// While the store takes nothing, the client gets ahead of the store by no more than a socket holds.
func TestClientIsHeldBack(t *testing.T) {
	faults.Covers(t, 52)
	const fast = 2 << 20 // bytes that the store takes immediately
	r := newRig(t, func(cfg *Config) { cfg.MaxSize = 64 << 20 })
	r.store.Set(behavior{Failure: errDown, FailAfter: fast, Hangs: true})
	c := r.inData()
	socket := c.Conn.(*patientConn).Conn.(*net.TCPConn)
	must.Succeed(t, socket.SetWriteBuffer(64<<10))
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
	// The kernel doubles both sockets' buffers; what dataSize and a scanner's buffer hold is read.
	if err == nil || ahead > 3<<20/2 {
		t.Errorf("the client could send %d KiB ahead of the store", ahead>>10)
	}
	r.server.kill() // nothing else ends the store's waiting
}

func TestPanicEndsOnlyItsSession(t *testing.T) {
	r := newRig(t)
	r.store.Set(behavior{Panics: true})
	other, c := r.envelope(), r.inData()
	c.send(writeDots(attachmentMail(1000)))
	c.expect("closed")
	other.data(plainMail, "250")
	log := r.log.String()
	if !strings.Contains(log, "msg=panic") || !strings.Contains(log, "store.go:") {
		t.Errorf("the log does not say where the panic was: %s", log)
	}
	if strings.Contains(log, "a secret") || strings.Contains(log, "(0x") {
		t.Errorf("the log has the panic's value, or arguments: %s", log)
	}
	r.wantBatch(discarded)
}

// A sender who has reached the limit is told so, and keeps the mail.
func TestSenderOverTheLimitIsDeferred(t *testing.T) {
	r := newRig(t, func(cfg *Config) { cfg.Mail.SenderLimit = transaction.NewSenderLimit(1500) })
	c := r.envelope()
	c.data(attachmentMail(1000), "250")
	c.mail()
	c.data(attachmentMail(1000), "451 4.7.1 ")
	r.wantBatch(discarded)
	c.mail()
	c.data(plainMail, "250")
	r.wantDelivered(2)
	if log := r.log.String(); !strings.Contains(log, "sender_limit") || strings.Contains(log, "a@example.org") {
		t.Errorf("the log does not name the limit, or names the sender:\n%s", log)
	}
}
