package rewrite

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// A DKIM signature holds where no byte of what it covers changes, which is the
// case whenever nothing is detached. What was rewritten is signed after the
// filter, and verifies again when it is restored.
func TestSignedMailWithoutAttachments(t *testing.T) {
	faults.Covers(t, 58)
	sig := "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=example.org; s=x;\r\n\th=from:subject; bh=abc=; b=def=\r\n"
	untouched(t, sig+"Subject:  odd   blanks \r\n\r\nhi \r\n\r\n\r\n")
	untouched(t, sig+multi())
	out := detached(t, sig+multi(abc), "abc")
	if !strings.HasPrefix(out, sig) {
		t.Errorf("signature changed: %s", out)
	}
}

func TestWhatIsAddedFits(t *testing.T) {
	faults.Covers(t, 70)
	mail := "Content-Length: 7\r\nX-Odd:  y \r\n\tz\r\nLines: 3\r\n"
	named := strings.Replace(multi(abc), "name=a.pdf", "name*=utf-8''"+strings.Repeat("%C3%A9", 3000)+".pdf", 1)
	out := detached(t, mail+named, "abc")
	if !strings.HasPrefix(out, mail) || !strings.HasSuffix(out, "\r\n--b--\r\n") {
		t.Errorf("header or closing delimiter changed:\n%s", out)
	}
	for _, line := range strings.Split(out, "\r\n") {
		if len(line) > 998 { // RFC 5322 section 2.1.1
			t.Errorf("line of %d bytes", len(line))
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r >= utf8.RuneSelf }) {
			t.Errorf("8-bit in a 7-bit mail: %q", line)
		}
	}
}

func TestAttachmentAsTheMessage(t *testing.T) {
	faults.Covers(t, 71)
	head := "From: a@example.org\r\nSubject: scan\r\n"
	out := detached(t, head+pdf(abc), "abc")
	if !strings.HasPrefix(out, head) || strings.Contains(out, "application/pdf") || !strings.Contains(out, anyLink) {
		t.Errorf("got\n%s", out)
	}
	untouched(t, head+pdf("YWJ"))
	untouched(t, head+pdf(""))
}

func TestTwiceIsOnce(t *testing.T) {
	faults.Covers(t, 72)
	out := detached(t, multi(abc, "ZGVm"), "abc", "def")
	untouched(t, out)
	forged := "Attachment:\r\n\r\na.pdf (3 bytes)\r\nhttps://files.example.org/bafy#z\r\n"
	untouched(t, "Subject: x\r\n\r\n"+forged)
	untouched(t, strings.Replace(multi(), "hi\r\n", forged, 1))
	untouched(t, "Detach-Restore: https://evil.example/x#y\r\n"+multi(abc)) // whose field it is shows when it is opened
}

func TestRules(t *testing.T) {
	faults.Covers(t, 73)
	part := func(typ, rest string) string {
		return strings.Replace(multi(abc), "application/pdf; name=a.pdf\r\n", typ+"\r\n"+rest, 1)
	}
	for _, mail := range []string{
		part("text/calendar; method=REQUEST; name=invite.ics", "Content-Disposition: attachment; filename=invite.ics\r\n"),
		part("message/rfc822; name=mail.eml", "Content-Disposition: attachment\r\n"),
		part("text/csv", ""), part("text/plain", ""), part("text/x-diff", ""),
		multi(""), multi("\r\n"), multi("===="),
	} {
		untouched(t, mail)
	}
	for _, mail := range []string{
		part("text/vcard; name=a.vcf", ""), part("text/x-vcard", "Content-Disposition: attachment; filename=a.vcf\r\n"),
		part("image/png", "Content-Disposition: inline\r\nContent-ID: <unused@x>\r\n"),
		part("application/octet-stream; name=mail.eml", ""), part("application/ics; name=invite.ics", ""),
		part("text/plain; name=log.txt", "Content-Disposition: attachment\r\n"), part("video/mp4", ""), part("x-y/z", ""), part("chemical/x-pdb", ""),
	} {
		detached(t, mail, "abc")
	}
	picture := "--r\r\nContent-Type: image/png\r\nContent-ID: <p@x>\r\nContent-Transfer-Encoding: base64\r\n\r\n" + abc + "\r\n"
	untouched(t, "Content-Type: multipart/related; boundary=r\r\n\r\n--r\r\nContent-Type: text/html\r\n\r\n<img src=\"CID:p@x\">\r\n"+picture+"--r--\r\n")
	untouched(t, "Content-Type: multipart/related; boundary=r\r\n\r\n--r\r\nContent-Type: text/html\r\n\r\n<img src='cid:p%40x'>\r\n"+picture+"--r--\r\n")
	untouched(t, "Content-Type: multipart/related; boundary=r\r\n\r\n--r\r\nContent-Type: text/html; charset=utf-16le\r\n\r\n<\x00i\x00m\x00g\x00>\x00\r\n"+picture+"--r--\r\n")
}
