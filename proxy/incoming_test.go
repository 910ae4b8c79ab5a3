package proxy

import (
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

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
					c := r.inData()
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

func TestFiftyFirstReceivedLineIsALoop(t *testing.T) {
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
			r.wantDelivered(strings.Count(c.want, "250"))
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
