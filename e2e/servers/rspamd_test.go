package servers

import (
	"strings"
	"testing"
)

// Tests compare scores, so the same mail must get the same score, and spam a higher one.
func TestRspamdTellsSpamFromMail(t *testing.T) {
	r := StartRspamd(t, RspamdConfig{DNS: StartDNS(t, "example.net TXT v=spf1 ip4:"+Outsider+" -all")})
	check := func(text string) Verdict {
		t.Helper()
		mail := "From: <a@example.net>\r\nTo: <b@example.org>\r\nSubject: the figures\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\n" +
			"Message-ID: <1@example.net>\r\n\r\n" + text
		return r.Check(t, Message{From: "a@example.net", To: "b@example.org", Data: strings.NewReader(mail)})
	}
	first, again := check("Here they are.\r\n"), check("Here they are.\r\n")
	if first.Score != again.Score || first.Action != "no action" {
		t.Errorf("a mail got %+v, then %+v", first, again)
	}
	if _, ok := first.Symbols["R_SPF_ALLOW"]; !ok {
		t.Errorf("rspamd does not use our DNS: %v", first.Symbols)
	}
	// GTUBE is rspamd's own test text. It is cut so that nobody's filter refuses this file.
	if spam := check("XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"); spam.Action != "reject" {
		t.Errorf("spam got %+v", spam)
	}
}
