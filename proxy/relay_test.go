package proxy

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
	"github.com/nkirchhoffer/detach-mta/internal/transaction/transactiontest"
)

func TestMailsAreRewrittenAndRepliesRelayed(t *testing.T) {
	r := newRig(t)
	c := r.envelope()
	c.data(plainMail, "250 2.0.0 Ok: queued as 4X\r\n")
	c.mail()
	c.data(attachmentMail(1000), "250")
	c.want("QUIT", "221 2.0.0 Bye")
	mails := r.hop.delivered()
	if len(mails) != 2 || mails[0] != plainMail {
		t.Fatalf("delivered %q", mails)
	}
	if !strings.Contains(mails[1], "https://files.example/"+transactiontest.CID.String()) || strings.Contains(mails[1], "YXR0") {
		t.Errorf("not rewritten: %q", mails[1])
	}
	r.wantBatch(kept)
	log := r.log.String()
	if n := strings.Count(log, "msg=message"); n != 2 {
		t.Errorf("%d message lines, want 2:\n%s", n, log)
	}
	for _, secret := range []string{"example.org", "secret", "files.example"} {
		if strings.Contains(log, secret) {
			t.Errorf("log has %q:\n%s", secret, log)
		}
	}
}

func TestCommandsAreRelayedAsTheyAre(t *testing.T) {
	faults.Covers(t, 11, 12, 14)
	r := newRig(t)
	c := r.connect("220")
	c.want("EHLO [IPv6:::1]", "250")
	lines := []string{
		"XFORWARD NAME=[UNAVAILABLE] ADDR=IPV6:::1 PORT=41624 HELO=a+20b+0D+0A PROTO=ESMTP SOURCE=REMOTE",
		"XFORWARD IDENT=" + strings.Repeat("x", 255),
		"MAIL FROM:<\"a  b\\\"\"@example.org> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=Q+2BQ AUTH=<> REQUIRETLS X-UNKNOWN",
		"RCPT TO:<postmaster> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@example.org",
		"RCPT TO:<@a.example,@b.example:c@d.example>",
		"RCPT TO:<jos\xc3\xa9@ex\xe4mple.org>",
		"rcpt to:<b@example.org>",
		"RSET",
		"MAIL FROM:<>",
		"VRFY  someone ",
		"NOOP " + strings.Repeat("x", 3000),
		"ETRN example.org",
		"HELP",
		"EXPN staff",
		"noop",
	}
	for _, line := range lines {
		c.want(line, "250 2.0.0 Ok\r\n")
	}
	if got := r.hop.commands()[1:]; !slices.Equal(got, lines) {
		t.Errorf("next hop saw %q, want %q", got, lines)
	}
}

func TestPipelinedCommandsAreAnsweredInTurn(t *testing.T) {
	faults.Covers(t, 16)
	r := newRig(t)
	c := r.connect()
	one := "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n" + writeDots(plainMail)
	// The second message is larger than the buffer for commands.
	two := "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n" + writeDots(attachmentMail(20000))
	c.send("EHLO x\r\n" + one + two + one + "QUIT\r\n")
	c.Conn.(interface{ CloseWrite() error }).CloseWrite()
	c.expect("220", "250-")
	for range 3 {
		c.expect("250", "250", "354", "250 2.0.0 Ok: queued")
	}
	c.expect("221")
	if got := r.hop.delivered(); len(got) != 3 || got[0] != plainMail || got[2] != plainMail {
		t.Errorf("delivered %q", got)
	}
}

func TestNothingOfOneMailShowsInTheNext(t *testing.T) {
	faults.Covers(t, 18)
	r := newRig(t)
	c := r.greeted()
	c.mail()
	c.want("RSET", "250")
	c.want("DATA", "503 5.5.1") // the recipient is forgotten
	mail := attachmentMail(100)
	for range 500 {
		c.mail()
		c.data(mail, "250")
		c.mail()
		c.data(plainMail, "250")
	}
	r.wantDelivered(1000)
}

func TestDATANeedsRecipients(t *testing.T) {
	r := newRig(t)
	r.hop.script("RCPT", "550 5.1.1 Unknown")
	c := r.greeted()
	c.want("DATA", "503 5.5.1")
	c.want("MAIL FROM:<a@example.org>", "250")
	c.want("DATA", "503 5.5.1")
	c.want("RCPT TO:<b@example.org>", "550 5.1.1 Unknown\r\n")
	c.want("DATA", "554 5.5.1") // all recipients are refused
	c.want("DATA now", "501 5.5.4")
	if r.hop.count("DATA") > 0 {
		t.Errorf("next hop saw %q", r.hop.commands())
	}
}

func TestGarbageIs500AndEndsTheSession(t *testing.T) {
	faults.Covers(t, 22)
	r := newRig(t)
	c := r.connect("220")
	c.want("NOOP "+strings.Repeat("x", 5000), "500 5.5.2")
	c.want("", "500 5.5.2")
	c.want("NOOP\x00", "500 5.5.2")
	c.want("NOOP\rQUIT", "500 5.5.2")
	c.want("NOOP", "250")
	for {
		got := c.want("\x16\x03\x01\x00", "")
		if strings.HasPrefix(got, "421 4.7.0 filter.example") {
			break
		}
		if !strings.HasPrefix(got, "500 5.5.2") {
			t.Fatalf("got %q", got)
		}
	}
	c.expect("closed")

	c = r.connect("220")
	c.send(strings.Repeat("x", maxLongLine+lineSize))
	c.expect("421 4.7.0")

}

func TestMarkThatComesBackIsALoop(t *testing.T) {
	faults.Covers(t, 36)
	r := newRig(t, func(cfg *Config) { cfg.LoopMark = "detach-check-0123" })
	c := r.connect("220")
	c.want("EHLO x", "250")
	c.want("MAIL FROM:<> ENVID=detach-check-4567", "250") // of another Detach
	c.want("RSET", "250")
	c.want("MAIL FROM:<> ENVID=detach-check-0123", "554 5.4.6")
	if got, want := r.hop.commands(), []string{"EHLO x", "MAIL FROM:<> ENVID=detach-check-4567", "RSET"}; !slices.Equal(got, want) {
		t.Errorf("next hop saw %q, want %q", got, want)
	}
}

// A web page makes a browser send commands in the body of a request.
func TestHTTPRequestEndsTheSession(t *testing.T) {
	faults.Covers(t, 22)
	r := newRig(t)
	for _, method := range []string{"POST", "GET", "PUT", "CONNECT"} {
		c := r.connect("220")
		c.send(method + " / HTTP/1.1\r\nHost: mail\r\n\r\nEHLO x\r\nMAIL FROM:<evil@x>\r\n")
		c.expect("502 5.5.1")
		c.expect("closed")
	}
	if got := r.hop.commands(); len(got) > 0 {
		t.Errorf("next hop saw %q", got)
	}
}

// A command that could change the protocol below us never reaches the next hop, which here would
// agree to anything.
func TestOnlyKnownCommandsAreRelayed(t *testing.T) {
	faults.Covers(t, 13)
	r := newRig(t)
	c := r.connect("220")
	for _, line := range []string{"LHLO x", "lhlo x", "XCLIENT ADDR=192.0.2.1", "TURN", "ATRN example.org", "SEND FROM:<a@x>",
		"SOML FROM:<a@x>", "SAML FROM:<a@x>", "XEXCH50 5 2", "X-ANONYMOUSTLS", "X-WHATEVER", "MAIL:", "DATA:", "\xc2\xa0LHLO x"} {
		c.want(line, "502 5.5.1 Command not implemented\r\n")
	}
	c.want("EHLO x", "250") // the session goes on
	c.want("MAIL FROM:<a@x>", "250")
	c.want("XCLIENT NAME=x", "502 5.5.1")
	c.want("RCPT TO:<b@x>", "250")
	c.data(plainMail, "250")
	want := []string{"EHLO x", "MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA", "."}
	if got := r.hop.commands(); !slices.Equal(got, want) {
		t.Errorf("next hop saw %q, want %q", got, want)
	}
	c = r.connect("220")
	c.want("BURL imap://x/ LAST", "502 5.5.1", "closed")
}

func TestRefusedXFORWARDIsLogged(t *testing.T) {
	faults.Covers(t, 15)
	r := newRig(t)
	r.hop.script("XFORWARD", "550 5.7.0 Error: insufficient authorization")
	c := r.greeted()
	c.want("XFORWARD NAME=x ADDR=127.0.0.1", "550 5.7.0 Error: insufficient authorization\r\n")
	c.mail()
	c.data(plainMail, "250")
	if !strings.Contains(r.log.String(), "refuses XFORWARD") {
		t.Error("no warning")
	}
}

// A refused recipient is in no envelope, and XFORWARD's client only in that of the next mail.
func TestEnvelopeIsWhatTheNextHopAccepted(t *testing.T) {
	faults.Covers(t, 31)
	envelopes := make(chan transaction.Envelope, 10)
	r := newRig(t, func(cfg *Config) {
		policy := cfg.Mail.Policy
		cfg.Mail.Policy = func(env transaction.Envelope) rewrite.Policy {
			envelopes <- env
			return policy(env)
		}
	})
	c := r.greeted()
	c.want("XFORWARD NAME=mx.example ADDR=IPV6:2001:db8::1", "250")
	c.want("XFORWARD PORT=41624 PROTO=ESMTP", "250")
	c.want("MAIL FROM:<a@example.org> BODY=8BITMIME", "250")
	c.want("RCPT TO:<b@example.org> NOTIFY=NEVER", "250")
	r.hop.script("RCPT", "550 5.1.1 Unknown")
	c.want("RCPT TO:<x@example.org>", "550 5.1.1 Unknown\r\n")
	r.hop.script("RCPT", unscripted)
	c.want("RCPT TO:<c@example.org>", "250")
	c.data(plainMail, "250")
	c.want("XFORWARD ADDR=[UNAVAILABLE]", "250")
	c.mail()
	c.data(plainMail, "250")
	c.want("MAIL FROM:<>", "250")
	c.want("RCPT TO:<b@example.org>", "250")
	c.data(plainMail, "250")
	r.wantDelivered(3)
	here := c.RemoteAddr().String()
	for _, want := range []transaction.Envelope{
		{Sender: "a@example.org", Recipients: []string{"b@example.org", "c@example.org"}, Client: "2001:db8::1", Listener: here},
		{Sender: "a@example.org", Recipients: []string{"b@example.org"}, Listener: here},
		{Recipients: []string{"b@example.org"}, Client: "127.0.0.1", Listener: here},
	} {
		if got := <-envelopes; !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}
