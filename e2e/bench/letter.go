package main

import (
	"bufio"
	crypto "crypto/rand"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// letter is a mail with one attachment of random bytes, made from the seed wherever they are
// needed.
type letter struct {
	size int64
	seed [32]byte
}

func newLetter(size int64) letter {
	m := letter{size: size}
	crypto.Read(m.seed[:]) // never fails
	return m
}

// content returns the attachment.
func (m letter) content() io.Reader { return io.LimitReader(rand.NewChaCha8(m.seed), m.size) }

const (
	letterHead = "From: a@senders.example\r\nTo: b@recipients.example\r\nSubject: report\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=outer\r\n\r\n" +
		"--outer\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHere is the report.\r\n" +
		"--outer\r\nContent-Type: application/pdf; name=report.pdf\r\nContent-Disposition: attachment; filename=report.pdf\r\n" +
		"Content-Transfer-Encoding: base64\r\n\r\n"
	letterTail = "--outer--\r\n"
)

// mail saves the mail's bytes on the wire, with the final dot, and returns the file. No line of the
// mail begins with a dot.
func (l *lab) mail(m letter) string {
	return l.save("mail", func(w io.Writer) error {
		if _, err := io.WriteString(w, letterHead); err != nil {
			return err
		}
		if err := stage.Encode(w, m.content(), "\r\n"); err != nil {
			return err
		}
		_, err := io.WriteString(w, letterTail+".\r\n")
		return err
	})
}

// plain saves the attachment.
func (l *lab) plain(m letter) string {
	return l.save("plain", func(w io.Writer) error {
		_, err := io.Copy(w, m.content())
		return err
	})
}

// lines saves the attachment in base64, with the line ends of Unix.
func (l *lab) lines(m letter) string {
	return l.save("lines", func(w io.Writer) error { return stage.Encode(w, m.content(), "\n") })
}

// save writes a file in memory, over the file of the round before.
func (l *lab) save(name string, write func(io.Writer) error) string {
	l.Helper()
	path := filepath.Join(l.bench, name)
	f, err := os.Create(path)
	stage.Must(l, err)
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	stage.Must(l, write(w))
	stage.Must(l, w.Flush())
	return path
}

// sendBuffer bounds how much of a sent mail has not yet left the client's system.
const sendBuffer = 64 << 10

// send gives a mail in a file to an SMTP server. It returns the seconds from the connection to the
// reply, and the seconds from the last byte to the reply. The file goes from memory into the socket
// by sendfile(2), so the client takes almost none of the time.
func (l *lab) send(addr, file string) (all, waited float64) {
	l.Helper()
	f, err := os.Open(file)
	stage.Must(l, err)
	defer f.Close()
	began := time.Now()
	c, err := servers.Dial(addr, "")
	stage.Must(l, err)
	defer c.Close()
	conn := c.Conn.(*net.TCPConn)
	stage.Must(l, conn.SetWriteBuffer(sendBuffer))
	reply, err := c.Begin(stage.Message(""))
	stage.Must(l, err)
	if reply[0] != '3' {
		l.Fatalf("%s: DATA got %q", addr, reply)
	}
	_, err = conn.ReadFrom(f)
	stage.Must(l, err)
	sent := time.Now()
	reply, err = c.Reply()
	stage.Must(l, err)
	if reply[0] != '2' {
		l.Fatalf("%s: a mail got %q", addr, reply)
	}
	waited, all = time.Since(sent).Seconds(), time.Since(began).Seconds()
	c.Cmd("QUIT")
	return all, waited
}
