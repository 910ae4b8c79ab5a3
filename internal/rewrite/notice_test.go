package rewrite

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// Text and HTML together cost a mailbox under 1 KB for each attachment.
func TestNoticeIsSmall(t *testing.T) {
	head := "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n"
	for _, encoding := range []string{"7bit", "quoted-printable"} {
		field := "Content-Transfer-Encoding: " + encoding + "\r\n\r\n"
		body := head + "--i\r\nContent-Type: text/plain\r\n" + field + "hi\r\n--i\r\nContent-Type: text/html\r\n" + field + "<p>hi</p>\r\n--i--\r\n"
		without := len(body) + len("--o--\r\n")
		for _, n := range []int{1, 2, 3, 5} {
			mail := body
			for range n {
				mail += "--o\r\nContent-Type: application/pdf; name=\"quarterly report 2026.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj\r\n"
			}
			mail += "--o--\r\n"
			for _, language := range []string{"en", "fr", "de", "es"} {
				d := newMemory()
				d.expires = time.Date(2027, 9, 30, 0, 0, 0, 0, time.UTC)
				got, m, err := rewriteAll(strings.NewReader(mail), Policy{MinSize: 1, Language: language}, d)
				if err != nil || m.Stats().Detached != n {
					t.Fatalf("%d detached, want %d (%v)", m.Stats().Detached, n, err)
				}
				each := (len(got) - without) / n
				if each >= 1000 || each <= 0 {
					t.Errorf("%s, %s, %d attachments: %d bytes for each, want under 1,000", encoding, language, n, each)
				}
				t.Logf("%s, %s, %d attachments: %d bytes for each", encoding, language, n, each)
			}
		}
	}
}

// The notice stands at the top if that is configured.
func TestNoticeOnTop(t *testing.T) {
	for typ, want := range map[string]string{
		"text/plain": "Attachment:\r\n\r\na.pdf (3 bytes)\r\nhttps://files.example.org/",
		"text/html":  "<body>\r\n<div dir=",
	} {
		mail := "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: " + typ + "\r\n\r\n<body>hi\r\n" +
			"--o\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\nabc\r\n--o--\r\n"
		got, _, err := rewriteAll(strings.NewReader(mail), Policy{MinSize: 1, Notice: Top}, newMemory())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(got, []byte("\r\n\r\n"+want)) || !bytes.Contains(got, []byte("hi\r\n--o--")) {
			t.Errorf("%s: got %s", typ, got)
		}
	}
}
