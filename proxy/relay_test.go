package proxy

import (
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

func TestRelay(t *testing.T) {
	r := newRig(t)
	c := r.envelope()
	if got := c.data(plainMail, "250"); got != "250 2.0.0 Ok: queued as 4X\r\n" {
		t.Errorf("reply is %q, not the next hop's", got)
	}
	c.mail()
	c.data(attachmentMail(1000), "250")
	c.want("QUIT", "221 2.0.0 Bye")
	mails := r.hop.delivered()
	if len(mails) != 2 || mails[0] != plainMail {
		t.Fatalf("delivered %q", mails)
	}
	if !strings.Contains(mails[1], "https://files.example/"+testCID.String()) || strings.Contains(mails[1], "YXR0") {
		t.Errorf("not rewritten: %q", mails[1])
	}
	if got := r.store.last(); got != "committed " {
		t.Errorf("batch %q, want committed", got)
	}
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

func TestSize(t *testing.T) {
	faults.Covers(t, 9)
	mail := plainMail + strings.Repeat("x", 500) + "\r\n"
	for _, c := range []struct {
		name  string
		limit int64
		mail  string
		want  string
	}{
		{"exact", int64(len(mail)), mail, "250"},
		{"one more", int64(len(mail)) - 1, mail, "552 5.3.4"},
		{"attachment", 100000, attachmentMail(200000), "552 5.3.4"},
		{"no limit", 0, attachmentMail(200000), "250"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(cfg *Config) { cfg.MaxSize = c.limit })
			r.hop.script("EHLO", "250-next.example\r\n250 SIZE")
			cl := r.envelope()
			cl.data(c.mail, c.want)
			if got := len(r.hop.delivered()); (got == 1) != (c.want == "250") {
				t.Errorf("%d delivered", got)
			}
			if fate := r.store.last(); c.name == "attachment" && fate != "discarded " {
				t.Errorf("batch %q, want discarded", fate)
			}
		})
	}
}

func TestLimitIsTheNextHops(t *testing.T) {
	faults.Covers(t, 9)
	r := newRig(t)
	r.hop.script("EHLO", "250-next.example\r\n250 SIZE 1000")
	c := r.envelope()
	c.data(attachmentMail(1000), "552 5.3.4")
	c.mail()
	c.data(plainMail, "250")
	c.want("MAIL FROM:<a@example.org> SIZE=1001", "552 5.3.4")
	c.want("MAIL FROM:<a@example.org> SIZE=x", "501 5.5.4")
	c.mail()
}

func TestSizeIs64Bit(t *testing.T) {
	faults.Covers(t, 10)
	r := newRig(t)
	r.hop.script("EHLO", "250-next.example\r\n250 SIZE 0")
	c := r.connect()
	c.expect("220")
	c.want("EHLO x", "250")
	c.want("MAIL FROM:<a@example.org> SIZE=5000000000", "250")
	if r.hop.count("MAIL FROM:<a@example.org>") != 1 {
		t.Errorf("next hop saw %q", r.hop.commands())
	}
	c.want("MAIL FROM:<a@example.org> SIZE=99999999999999999999", "250") // no limit is none
}

func TestTakeSize(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"MAIL FROM:<a@b>", "MAIL FROM:<a@b>"},
		{"MAIL FROM:<a@b> SIZE=1", "MAIL FROM:<a@b>"},
		{"mail from: <a@b>  size=1  BODY=8BITMIME ", "mail from: <a@b>  BODY=8BITMIME "},
		{"MAIL FROM:<a@b> BODY=8BITMIME SIZE=1 RET=HDRS", "MAIL FROM:<a@b> BODY=8BITMIME RET=HDRS"},
		{"MAIL FROM:<a@b> SIZE=1 SIZE=2", "MAIL FROM:<a@b>"},
		{`MAIL FROM:<"a SIZE=1 > b"@c> SIZE=1`, `MAIL FROM:<"a SIZE=1 > b"@c>`},
		{`MAIL FROM:<"a\" SIZE=1 > b"@c> SIZE=1`, `MAIL FROM:<"a\" SIZE=1 > b"@c>`},
		{"MAIL FROM:<> SIZE=1", "MAIL FROM:<>"},
		{"MAIL FROM:a@b SIZE=1", "MAIL FROM:a@b"},
		{"MAIL FROM:<a@b> XSIZE=1 SIZE", "MAIL FROM:<a@b> XSIZE=1 SIZE"},
		{"MAIL FROM:<SIZE=1@b>", "MAIL FROM:<SIZE=1@b>"},
		{"MAIL SIZE=1", "MAIL SIZE=1"},
		{`MAIL FROM:<"a SIZE=1`, `MAIL FROM:<"a SIZE=1`},
	} {
		got, err := takeSize([]byte(c.line), 0)
		if err != nil || string(got) != c.want {
			t.Errorf("%q: got %q, %v; want %q", c.line, got, err, c.want)
		}
	}
}

func TestCommandsAreRelayedAsTheyAre(t *testing.T) {
	faults.Covers(t, 11, 12, 14)
	r := newRig(t)
	c := r.connect()
	c.expect("220")
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
		"X-WHATEVER",
	}
	for _, line := range lines {
		c.want(line, "250 2.0.0 Ok\r\n")
	}
	if got := r.hop.commands()[1:]; !slices.Equal(got, lines) {
		t.Errorf("next hop saw %q, want %q", got, lines)
	}
}

func TestEHLO(t *testing.T) {
	faults.Covers(t, 13)
	r := newRig(t, func(cfg *Config) { cfg.MaxSize = 5000000000 })
	r.hop.script("EHLO", "250-next.example says \xe9 hello\r\n250-size 10240000\r\n250-8bitmime\r\n250-AUTH PLAIN\r\n"+
		"250-XFORWARD NAME ADDR PROTO\r\n250-\r\n250-BINARYMIME\r\n250-CHUNKING\r\n250 STARTTLS")
	c := r.connect()
	c.expect("220 next.example ESMTP\r\n")
	want := "250-next.example says \xe9 hello\r\n250-SIZE 5000000000\r\n250-8bitmime\r\n250 XFORWARD NAME ADDR PROTO\r\n"
	if got := c.want("EHLO x", "250"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c.want("HELO x", "250 2.0.0 Ok\r\n")
	c.want("STARTTLS", "502 5.5.1")
	c.want("auth PLAIN AGEAYg==", "502 5.5.1")
	c.want(" \tStartTLS", "502 5.5.1")
	c.want("BDAT 23 LAST", "502 5.5.1")
	c.send("MAIL FROM:<evil@x>\r\nRC") // the chunk, which must not be read as commands
	if got := c.reply(); got != "closed" {
		t.Errorf("after BDAT: %q, want the connection closed", got)
	}
	if got, want := r.hop.commands(), []string{"EHLO x", "HELO x"}; !slices.Equal(got, want) {
		t.Errorf("next hop saw %q, want %q", got, want)
	}
}

func TestFilterEHLO(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int64
		want  string
		now   int64
	}{
		{"250 a\r\n", 0, "250 a\r\n", 0},
		{"250\r\n", 7, "250 \r\n", 7},
		{"250-a\r\n250 SIZE\r\n", 0, "250-a\r\n250 SIZE 0\r\n", 0},
		{"250-a\r\n250 SIZE 9\r\n", 0, "250-a\r\n250 SIZE 9\r\n", 9},
		{"250-a\r\n250 SIZE 9\r\n", 10, "250-a\r\n250 SIZE 10\r\n", 10},
		{"250-a\r\n250 SIZE -9\r\n", 0, "250-a\r\n250 SIZE 0\r\n", 0},
		{"250-a\r\n250 CHUNKING\r\n", 0, "250 a\r\n", 0},
		{"250-a\r\n250-DSN\r\n250\r\n", 0, "250-a\r\n250 DSN\r\n", 0},
	} {
		got, now := filterEHLO(answer{250, []byte(c.text)}, c.limit)
		if string(got.text) != c.want || now != c.now {
			t.Errorf("%q with %d: got %q, %d; want %q, %d", c.text, c.limit, got.text, now, c.want, c.now)
		}
	}
}

func TestXFORWARDRefused(t *testing.T) {
	faults.Covers(t, 15)
	r := newRig(t)
	r.hop.script("XFORWARD", "550 5.7.0 Error: insufficient authorization")
	c := r.connect()
	c.expect("220")
	c.want("EHLO x", "250")
	c.want("XFORWARD NAME=x ADDR=127.0.0.1", "550 5.7.0 Error: insufficient authorization\r\n")
	c.mail()
	c.data(plainMail, "250")
	if !strings.Contains(r.log.String(), "refuses XFORWARD") {
		t.Error("no warning")
	}
}

func TestPipelined(t *testing.T) {
	faults.Covers(t, 16)
	r := newRig(t)
	c := r.connect()
	one := "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n" + writeDots(plainMail)
	// So much that the second message lies in more than the buffer for commands.
	two := "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n" + writeDots(attachmentMail(20000))
	c.send("EHLO x\r\n" + one + two + one + "QUIT\r\n")
	c.Conn.(interface{ CloseWrite() error }).CloseWrite()
	c.expect("220")
	c.expect("250-")
	for range 3 {
		for _, want := range []string{"250", "250", "354", "250 2.0.0 Ok: queued"} {
			c.expect(want)
		}
	}
	c.expect("221")
	if got := r.hop.delivered(); len(got) != 3 || got[0] != plainMail || got[2] != plainMail {
		t.Errorf("delivered %q", got)
	}
}

func TestManyTransactions(t *testing.T) {
	faults.Covers(t, 18)
	r := newRig(t)
	c := r.connect()
	c.expect("220")
	c.want("EHLO x", "250")
	c.want("MAIL FROM:<a@example.org>", "250")
	c.want("RCPT TO:<b@example.org>", "250")
	c.want("RSET", "250")
	c.want("DATA", "503 5.5.1") // the recipient is forgotten
	mail := attachmentMail(100)
	for i := range 1000 {
		c.mail()
		if i%2 == 0 {
			c.data(mail, "250")
		} else {
			c.data(plainMail, "250")
		}
	}
	if got := len(r.hop.delivered()); got != 1000 {
		t.Errorf("%d delivered", got)
	}
}

func TestDATANeedsRecipients(t *testing.T) {
	r := newRig(t)
	r.hop.script("RCPT", "550 5.1.1 Unknown")
	c := r.connect()
	c.expect("220")
	c.want("EHLO x", "250")
	c.want("DATA", "503 5.5.1")
	c.want("MAIL FROM:<a@example.org>", "250")
	c.want("DATA", "503 5.5.1")
	c.want("RCPT TO:<b@example.org>", "550 5.1.1 Unknown\r\n")
	c.want("DATA", "554 5.5.1") // FAULTS 30: with all recipients refused no DATA
	c.want("DATA now", "501 5.5.4")
	if n := r.hop.count("DATA"); n != 0 {
		t.Errorf("next hop saw %d DATA", n)
	}
}

func TestGarbage(t *testing.T) {
	faults.Covers(t, 22)
	r := newRig(t)
	c := r.connect()
	c.expect("220")
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
	if got := c.reply(); got != "closed" {
		t.Errorf("got %q, want closed", got)
	}

	c = r.connect()
	c.expect("220")
	c.send(strings.Repeat("x", maxLongLine+lineSize))
	c.expect("421 4.7.0")

	r.hop.script("GET", "221 2.7.0 Error: I can break rules, too. Goodbye.")
	c = r.connect()
	c.expect("220")
	c.want("GET / HTTP/1.1", "221 2.7.0")
	if got := c.reply(); got != "closed" {
		t.Errorf("got %q, want closed", got)
	}
}

func TestOddMessagesPassUnchanged(t *testing.T) {
	faults.Covers(t, 26, 27)
	r := newRig(t)
	c := r.connect()
	c.expect("220")
	c.want("EHLO x", "250")
	var want []string
	for _, mail := range []string{
		"Received: from x\r\n",
		"",
		"\r\n",
		"From somebody\r\nSubject: x\r\n\r\nFrom here\r\n",
		"X-Mailbox-Line: From x\r\n\r\nx\r\n",
		" begins with a blank\r\nSubject: x\r\n\r\nx\r\n",
		"no header at all\r\n",
		"\r\nbody only\r\n",
		"Subject: header only\r\n\r\n",
		"Subject: x\r\n\r\nbare \n\nLF, bare \r CR, \x00, \xff\r\n", // FAULTS 5: all kept
	} {
		c.mail()
		c.data(mail, "250")
		want = append(want, mail)
	}
	if got := r.hop.delivered(); !slices.Equal(got, want) {
		t.Errorf("delivered %q, want %q", got, want)
	}
}

func TestLongLines(t *testing.T) {
	faults.Covers(t, 8)
	r := newRig(t)
	r.hop.script("EHLO", "250 next.example")
	c := r.connect()
	c.expect("220")
	c.want("EHLO x", "250")
	for i, length := range []int{998, 1998, 1999, 2048, 4096, 65536, 10 << 20} {
		mail := "Subject: x\r\n\r\n" + strings.Repeat("x", length) + "\r\n"
		c.mail()
		c.data(mail, "250")
		if got := r.hop.delivered(); len(got) != i+1 || got[i] != mail {
			t.Errorf("line of %d bytes: not delivered as it was", length)
		}
	}
}

func TestReplies(t *testing.T) {
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

func TestOneAnswerTooMany(t *testing.T) {
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
