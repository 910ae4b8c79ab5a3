package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// walkTimes is how often a mail is walked for one figure.
const walkTimes = 200

// mimeWalk: a mail that must be read to its end, since any part could be an attachment, but has
// nothing to detach; and its bytes copied from the same reader, in pieces of the same size, into
// the same kind of spool and out again. Both run in this process.
func mimeWalk(l *lab) contest {
	mail := newsletter()
	return contest{
		ours: func() float64 {
			return rate(walkTimes*int64(len(mail)), seconds(func() {
				for range walkTimes {
					l.walk(mail)
				}
			}))
		},
		theirs: func() float64 {
			buf := make([]byte, 32<<10)
			return rate(walkTimes*int64(len(mail)), seconds(func() {
				for range walkTimes {
					l.copy(mail, buf)
				}
			}))
		},
	}
}

// plainReader and plainWriter can only read and write, like a socket seen through SMTP.
type (
	plainReader struct{ io.Reader }
	plainWriter struct{ io.Writer }
)

func (l *lab) walk(mail []byte) {
	m, err := rewrite.Read(plainReader{bytes.NewReader(mail)}, rewrite.Policy{MinSize: 64 << 10})
	stage.Must(l, err)
	defer m.Close()
	if m.Passes() {
		l.Fatal("the mail passes without a walk")
	}
	// No Detacher is needed, since the mail has nothing to detach.
	stage.Must(l, m.Detach(l.Context(), nil))
	n, err := m.WriteTo(plainWriter{io.Discard})
	stage.Must(l, err)
	if n != int64(len(mail)) {
		l.Fatalf("%d bytes came out of a mail of %d", n, len(mail))
	}
}

func (l *lab) copy(mail, buf []byte) {
	s := spool.New(nil)
	defer s.Close()
	_, err := io.CopyBuffer(plainWriter{s}, plainReader{bytes.NewReader(mail)}, buf)
	stage.Must(l, err)
	_, err = s.WriteTo(plainWriter{io.Discard})
	stage.Must(l, err)
}

// newsletter returns a mail that fits into a spool's memory, so that no disk hides the walk: a
// text, its HTML, and the photographs that the HTML shows.
func newsletter() []byte {
	const line = "The quick brown fox jumps over the lazy dog, and the dog sleeps on.\r\n"
	var b bytes.Buffer
	b.WriteString("From: a@senders.example\r\nTo: b@recipients.example\r\nSubject: news\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=mixed\r\n\r\n--mixed\r\nContent-Type: multipart/related; boundary=related\r\n\r\n" +
		"--related\r\nContent-Type: multipart/alternative; boundary=alternative\r\n\r\n" +
		"--alternative\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + strings.Repeat(line, 100) +
		"--alternative\r\nContent-Type: text/html; charset=utf-8\r\n\r\n")
	names := strings.Split("abc", "")
	for _, name := range names {
		b.WriteString("<p>" + strings.Repeat(line, 20) + `<img src="cid:` + name + "\"></p>\r\n")
	}
	b.WriteString("--alternative--\r\n")
	for i, name := range names {
		b.WriteString("--related\r\nContent-Type: image/jpeg\r\nContent-ID: <" + name + ">\r\nContent-Transfer-Encoding: base64\r\n\r\n")
		picture := make([]byte, 240<<10)
		rand.NewChaCha8([32]byte{byte(i)}).Read(picture)
		b.WriteString(stage.Base64Lines(picture))
	}
	b.WriteString("--related--\r\n--mixed--\r\n")
	return b.Bytes()
}
