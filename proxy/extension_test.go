package proxy

import (
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

func TestEHLOOffersOnlyWhatPassesHere(t *testing.T) {
	faults.Covers(t, 13)
	r := newRig(t, func(cfg *Config) { cfg.MaxSize = 5000000000 })
	r.hop.script("EHLO", "250-next.example says \xe9 hello\r\n250-size 10240000\r\n250-8bitmime\r\n250-AUTH PLAIN\r\n"+
		"250-XFORWARD NAME ADDR PROTO\r\n250-\r\n250-BINARYMIME\r\n250-CHUNKING\r\n250 STARTTLS")
	c := r.connect("220 next.example ESMTP\r\n")
	c.want("EHLO x", "250-next.example says \xe9 hello\r\n250-SIZE 5000000000\r\n250-8bitmime\r\n250 XFORWARD NAME ADDR PROTO\r\n")
	c.want("HELO x", "250 2.0.0 Ok\r\n")
	c.want("STARTTLS", "502 5.5.1")
	c.want("auth PLAIN AGEAYg==", "502 5.5.1")
	c.want(" \tStartTLS", "502 5.5.1")
	c.want("BDAT 23 LAST", "502 5.5.1")
	c.send("MAIL FROM:<evil@x>\r\nRC") // the chunk, which must not be read as commands
	c.expect("closed")
	if got, want := r.hop.commands(), []string{"EHLO x", "HELO x"}; !slices.Equal(got, want) {
		t.Errorf("next hop saw %q, want %q", got, want)
	}
}

func TestFilterEHLOKeepsFormAndSetsSize(t *testing.T) {
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

func TestSizeLimit(t *testing.T) {
	faults.Covers(t, 9)
	mail := plainMail + strings.Repeat("x", 500) + "\r\n"
	for _, c := range []struct {
		name       string
		limit      int64
		mail, want string
	}{
		{"exact", int64(len(mail)), mail, "250"},
		{"one more", int64(len(mail)) - 1, mail, "552 5.3.4"},
		{"attachment", 100000, attachmentMail(200000), "552 5.3.4"},
		{"no limit", 0, attachmentMail(200000), "250"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(cfg *Config) { cfg.MaxSize = c.limit })
			r.hop.script("EHLO", "250-next.example\r\n250 SIZE")
			r.envelope().data(c.mail, c.want)
			r.wantDelivered(strings.Count(c.want, "250"))
			if c.name == "attachment" {
				r.wantBatch(discarded)
			}
		})
	}
}

func TestLimitOfTheNextHopHolds(t *testing.T) {
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

// HELO's answer names no limit, but the next hop has one all the same.
func TestLimitOfTheNextHopHoldsAfterHELO(t *testing.T) {
	faults.Covers(t, 9)
	r := newRig(t)
	r.hop.script("EHLO", "250-next.example\r\n250 SIZE 1000")
	r.hop.script("helo", "250 next.example says hello")
	c := r.connect("220 next.example ESMTP\r\n")
	c.want("helo client.example", "250 next.example says hello\r\n")
	if got, want := r.hop.commands(), []string{"EHLO client.example", "helo client.example"}; !slices.Equal(got, want) {
		t.Errorf("next hop saw %q, want %q", got, want)
	}
	c.mail()
	c.data(attachmentMail(1000), "552 5.3.4")
	c.mail()
	c.data(plainMail, "250")
}

// A next hop that knows no EHLO has no limit that it could name.
func TestNextHopWithoutEHLOHasNoLimit(t *testing.T) {
	faults.Covers(t, 9)
	r := newRig(t)
	r.hop.script("EHLO", "502 5.5.2 Unknown command")
	c := r.connect("220 next.example ESMTP\r\n")
	c.want("HELO x", "250")
	c.mail()
	c.data(attachmentMail(1000), "250")
}

func TestSizeIs64Bit(t *testing.T) {
	faults.Covers(t, 10)
	r := newRig(t)
	r.hop.script("EHLO", "250-next.example\r\n250 SIZE 0")
	c := r.greeted()
	c.want("MAIL FROM:<a@example.org> SIZE=5000000000", "250")
	if r.hop.count("MAIL FROM:<a@example.org>") != 1 {
		t.Errorf("next hop saw %q", r.hop.commands())
	}
	c.want("MAIL FROM:<a@example.org> SIZE=99999999999999999999", "250") // 0 is no limit
}

func TestSizeIsTakenOutAndTheAddressRead(t *testing.T) {
	for _, c := range []struct{ line, want, address string }{
		{"MAIL FROM:<a@b>", "MAIL FROM:<a@b>", "a@b"},
		{"MAIL FROM:<a@b> SIZE=1", "MAIL FROM:<a@b>", "a@b"},
		{"mail from: <a@b>  size=1  BODY=8BITMIME ", "mail from: <a@b>  BODY=8BITMIME ", "a@b"},
		{"MAIL FROM:<a@b> BODY=8BITMIME SIZE=1 RET=HDRS", "MAIL FROM:<a@b> BODY=8BITMIME RET=HDRS", "a@b"},
		{"MAIL FROM:<a@b> SIZE=1 SIZE=2", "MAIL FROM:<a@b>", "a@b"},
		{`MAIL FROM:<"a SIZE=1 > b"@c> SIZE=1`, `MAIL FROM:<"a SIZE=1 > b"@c>`, `"a SIZE=1 > b"@c`},
		{`MAIL FROM:<"a\" SIZE=1 > b"@c> SIZE=1`, `MAIL FROM:<"a\" SIZE=1 > b"@c>`, `"a\" SIZE=1 > b"@c`},
		{"MAIL FROM:<> SIZE=1", "MAIL FROM:<>", ""},
		{"MAIL FROM:a@b SIZE=1", "MAIL FROM:a@b", "a@b"},
		{"MAIL FROM:<a@b> XSIZE=1 SIZE", "MAIL FROM:<a@b> XSIZE=1 SIZE", "a@b"},
		{"MAIL FROM:<SIZE=1@b>", "MAIL FROM:<SIZE=1@b>", "SIZE=1@b"},
		{"MAIL SIZE=1", "MAIL SIZE=1", ""},
		{`MAIL FROM:<"a SIZE=1`, `MAIL FROM:<"a SIZE=1`, `"a SIZE=1`},
	} {
		got, err := takeSize([]byte(c.line), 0)
		if err != nil || string(got) != c.want {
			t.Errorf("%q: got %q, %v; want %q", c.line, got, err, c.want)
		}
		if got := address([]byte(c.line)); got != c.address {
			t.Errorf("%q: address %q, want %q", c.line, got, c.address)
		}
	}
}
