package rewrite

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// The line end between an empty text and its delimiter may be the header's blank line.
func TestTextWithoutBodyTakesTheNotice(t *testing.T) {
	mail := strings.Replace(multi(abc, "ZGVm"), "\r\nhi\r\n", "\r\n", 1)
	out := detached(t, strings.Replace(mail, "application/pdf", "text/calendar", 1), "def")
	if got := cutMail("", out); len(got.parts) != 2 || !strings.Contains(got.parts[0].body, anyLink) {
		t.Errorf("%d parts, want the text with the notice and the calendar:\n%s", len(got.parts), out)
	}
}

func TestNoticeFitsIntoItsMail(t *testing.T) {
	faults.Covers(t, 70)
	mail := "Content-Length: 7\r\nX-Odd:  y \r\n\tz\r\nLines: 3\r\n"
	named := strings.Replace(multi(abc), "name=a.pdf", "name*=utf-8''"+strings.Repeat("%C3%A9", 3000)+".pdf", 1)
	out := detached(t, mail+named, "abc")
	if !strings.HasPrefix(out, strings.TrimPrefix(mail, "Content-Length: 7\r\n")) {
		t.Errorf("header changed:\n%s", out)
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

// If a field stands twice with the same value, the new one replaces both.
func TestNoticeReplacesFieldsThatStandTwice(t *testing.T) {
	fields := "Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n"
	mail := strings.Replace(multi(abc), "--b\r\n\r\nhi", "--b\r\n"+fields+fields+"\r\nhi", 1)
	out := detached(t, strings.Replace(mail, "name=a.pdf", "name*=utf-8''%C3%A9.pdf", 1), "abc")
	for _, name := range []string{"Content-Type: text/plain", "Content-Transfer-Encoding: "} {
		if n := strings.Count(out, "\r\n"+name); n != 1 || !strings.Contains(out, "charset=utf-8") {
			t.Errorf("%q stands %d times, want once:\n%s", name, n, out)
		}
	}
}

// A text with stray parameters takes another charset, and keeps what is a parameter.
func TestNoticeChangesAStrangeContentType(t *testing.T) {
	for _, strange := range []string{";; charset=us-ascii; x", "; =; charset=us-ascii; format=flowed", "; charset=us-ascii; x=y=z; 8\xe9=a", "; a b=c; charset=us-ascii"} {
		mail := strings.Replace(multi(abc), "--b\r\n\r\nhi", "--b\r\nContent-Type: text/plain"+strange+"\r\n\r\nhi", 1)
		out := detached(t, strings.Replace(mail, "name=a.pdf", "name*=utf-8''%C3%A9.pdf", 1), "abc")
		_, typ, _ := strings.Cut(out, "Content-Type: text/plain")
		typ, _, _ = strings.Cut(typ, "\r\n")
		if params, _ := alikeParams("text/plain" + typ); !slices.Contains(params, param{"charset", "utf-8"}) || !strings.Contains(out, "=C3=A9.pdf") {
			t.Errorf("text/plain%q became text/plain%q:\n%s", strange, typ, out)
		}
	}
}

func TestMailThatIsAnAttachmentBecomesText(t *testing.T) {
	faults.Covers(t, 71)
	head := "From: a@example.org\r\nSubject: scan\r\n"
	out := detached(t, head+pdf(abc), "abc")
	if !strings.HasPrefix(out, head) || strings.Contains(out, "application/pdf") || !strings.Contains(out, anyLink) {
		t.Errorf("got\n%s", out)
	}
	untouched(t, head+pdf("YWJjY"))
	untouched(t, head+pdf(""))
}

func TestRewrittenMailPasses(t *testing.T) {
	faults.Covers(t, 72)
	out := detached(t, multi(abc, "ZGVm"), "abc", "def")
	untouched(t, out)
	forged := "Because of its size, this attachment is kept by files.example.org:\r\n\r\na.pdf (3 bytes)\r\nhttps://files.example.org/bafy#z\r\n"
	untouched(t, "Subject: x\r\n\r\n"+forged)
	untouched(t, strings.Replace(multi(), "hi\r\n", forged, 1))
	untouched(t, "Detach-Restore: https://evil.example/x#y\r\n"+multi(abc)) // restoring will show that it is forged
}

// The notices in text and HTML together are smaller than 1 KB for each attachment.
func TestNoticeIsSmall(t *testing.T) {
	head := "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=o\r\n"
	for _, encoding := range []string{"7bit", "quoted-printable"} {
		field := "Content-Transfer-Encoding: " + encoding + "\r\n\r\n"
		body := "Content-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\nContent-Type: text/plain\r\n" + field + "hi\r\n--i\r\nContent-Type: text/html\r\n" + field + "<p>hi</p>\r\n--i--\r\n"
		without := len("MIME-Version: 1.0\r\n") + len(body)
		for _, n := range []int{1, 2, 3, 5} {
			mail := head + "\r\n--o\r\n" + body
			for range n {
				mail += "--o\r\nContent-Type: application/pdf; name=\"quarterly report 2026.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj\r\n"
			}
			mail += "--o--\r\n"
			for _, language := range []string{"en", "fr", "de", "es"} {
				d := newMemory()
				d.expires = time.Date(2027, 10, 1, 0, 0, 0, 0, time.UTC)
				got, m := mustRewrite(t, strings.NewReader(mail), Policy{MinSize: 1, Language: language}, d)
				each := (len(got) - without) / n
				if m.Stats().Detached != n || each >= 1000 || each <= 0 {
					t.Errorf("%s, %s, %d of %d attachments: %d bytes for each, want under 1,000", encoding, language, m.Stats().Detached, n, each)
				}
				t.Logf("%s, %s, %d attachments: %d bytes for each", encoding, language, n, each)
			}
		}
	}
}

func TestNoticeOnTop(t *testing.T) {
	for typ, want := range map[string]string{
		"text/plain": "Because of its size, this attachment is kept by files.example.org:\r\n\r\na.pdf (3 bytes)\r\nhttps://files.example.org/",
		"text/html":  "<body>\r\n<table dir=",
	} {
		mail := "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: " + typ + "\r\n\r\n<body>hi\r\n" +
			"--o\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\nabc\r\n--o--\r\n"
		got, _ := mustRewrite(t, strings.NewReader(mail), Policy{MinSize: 1, Notice: Top}, newMemory())
		if !bytes.Contains(got, []byte("\r\n\r\n"+want)) || !bytes.HasSuffix(got, []byte("hi\r\n")) {
			t.Errorf("%s: got %s", typ, got)
		}
	}
}

func TestNoSkeletonWithoutRestore(t *testing.T) {
	mail := manyParts(1, func(int) string { return "QUJD\r\n" })
	d := newMemory()
	got, _ := mustRewrite(t, bytes.NewReader(mail), Policy{MinSize: 1}, d)
	if len(d.files) != 1 || bytes.Contains(got, []byte(skeleton.Field)) {
		t.Errorf("%d objects, want the attachment alone:\n%s", len(d.files), got)
	}
}
