package servers

import (
	"bufio"
	"bytes"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Mail is one delivered message: the bytes of the wire without the stuffed dots.
type Mail struct {
	From string
	To   []string
	Data []byte
}

// Mailbox is an SMTP server that keeps every mail. It uses no library, since Mail.Data must be the
// bytes of the wire.
type Mailbox struct {
	Addr string

	mu    sync.Mutex
	mails []Mail
	byID  map[string]Mail
	more  chan struct{} // closed and made anew with every mail
}

// NewMailbox starts a mailbox and stops it when the test ends.
func NewMailbox(t T) *Mailbox {
	t.Helper()
	m := &Mailbox{byID: make(map[string]Mail), more: make(chan struct{})}
	m.Addr = Accept(t, m.serve)
	return m
}

// Mails returns everything delivered so far.
func (m *Mailbox) Mails() []Mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Mail(nil), m.mails...)
}

// Want checks how many mails were delivered so far.
func (m *Mailbox) Want(t T, want int) {
	t.Helper()
	if got := len(m.Mails()); got != want {
		t.Errorf("%d mails were delivered, want %d", got, want)
	}
}

// Wait returns the mail that the Postfix before this mailbox had queued under id.
func (m *Mailbox) Wait(t T, id string) Mail {
	t.Helper()
	if id == "" {
		t.Fatal("no queue id to wait for")
	}
	timeout := time.After(Patience)
	for {
		m.mu.Lock()
		mail, ok := m.byID[id]
		more := m.more
		m.mu.Unlock()
		if ok {
			return mail
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("the mail queued as %s was not delivered", id)
		}
	}
}

var receivedID = regexp.MustCompile(`^Received:[^;]*\sid ([0-9A-Za-z]+)`)

func (m *Mailbox) keep(mail Mail) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mails = append(m.mails, mail)
	if id := receivedID.FindSubmatch(mail.Data); id != nil {
		m.byID[string(id[1])] = mail
	}
	close(m.more)
	m.more = make(chan struct{})
}

func (m *Mailbox) serve(c *net.TCPConn) {
	r := bufio.NewReader(c)
	reply := func(s string) { c.Write([]byte(s + "\r\n")) }
	reply("220 mailbox.example ESMTP")
	var mail Mail
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			reply("250-mailbox.example\r\n250-8BITMIME\r\n250 SMTPUTF8")
		case "MAIL":
			mail = Mail{From: arg}
			reply("250 2.1.0 Ok")
		case "RCPT":
			mail.To = append(mail.To, arg)
			reply("250 2.1.5 Ok")
		case "DATA":
			reply("354 Go on")
			if mail.Data, err = readDots(r); err != nil {
				return
			}
			m.keep(mail)
			reply("250 2.0.0 Kept")
		case "QUIT":
			reply("221 2.0.0 Bye")
			return
		default:
			reply("250 2.0.0 Ok")
		}
	}
}

// readDots reads to CRLF . CRLF and takes the stuffed dots out (RFC 5321, 4.5.2).
func readDots(r *bufio.Reader) ([]byte, error) {
	var data []byte
	start := true // at the start of a line, as after CRLF
	for {
		chunk, err := r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		if start && bytes.Equal(chunk, []byte(".\r\n")) {
			return data, nil
		}
		if start && chunk[0] == '.' {
			chunk = chunk[1:]
		}
		data = append(data, chunk...)
		start = bytes.HasSuffix(chunk, []byte("\r\n"))
	}
}
