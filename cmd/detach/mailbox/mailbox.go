package mailbox

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/textproto"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

const (
	// MaxSize is a usual limit of mail servers. With Detach in front, far larger attachments pass.
	MaxSize = 25 << 20
	// maxMails bounds the memory of a demo that is left running: the oldest mail is dropped.
	maxMails = 50
)

// Mail is one delivered message, byte for byte.
type Mail struct {
	Number   int
	Received time.Time
	Raw      []byte
}

// Mailbox keeps the mails that are delivered to it. It is safe for concurrent use.
type Mailbox struct {
	mu       sync.Mutex
	count    int
	mails    []*Mail          // oldest first
	sent     map[string]int64 // Message-ID: the size before Detach
	arrival  chan struct{}    // closed and replaced when a mail arrives
	sendFile SendFunc
}

// SendFunc mails one file, through Detach, to this mailbox.
type SendFunc func(ctx context.Context, name string, file io.Reader) error

// New returns an empty mailbox. If send is not nil, its page offers to send a file.
func New(send SendFunc) *Mailbox {
	return &Mailbox{sent: map[string]int64{}, arrival: make(chan struct{}), sendFile: send}
}

// SMTP returns the server that delivers to the mailbox.
func (m *Mailbox) SMTP() *smtp.Server {
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return session{m}, nil }))
	s.Domain = "mailbox.example"
	s.MaxMessageBytes = MaxSize
	s.MaxLineLength = 0 // QUIRK: real mail has longer lines than RFC 5321 section 4.5.3.1.6 allows
	s.ReadTimeout, s.WriteTimeout = 5*time.Minute, time.Minute
	s.EnableSMTPUTF8 = true
	s.ErrorLog = discard{}
	return s
}

// Sent notes how large a mail was before Detach. The page shows it beside the size that arrived.
func (m *Mailbox) Sent(messageID string, size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent[messageID] = size
}

// Wait waits for the mail with this Message-ID and returns it.
func (m *Mailbox) Wait(ctx context.Context, messageID string) (*Mail, error) {
	for {
		m.mu.Lock()
		arrival := m.arrival
		for _, mail := range m.mails {
			if mail.messageID() == messageID {
				m.mu.Unlock()
				return mail, nil
			}
		}
		m.mu.Unlock()
		select {
		case <-arrival:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Mails returns the mails, newest first.
func (m *Mailbox) Mails() []*Mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	mails := slices.Clone(m.mails)
	slices.Reverse(mails)
	return mails
}

func (m *Mailbox) deliver(mail *Mail) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	mail.Number = m.count
	m.mails = append(m.mails, mail)
	if len(m.mails) > maxMails {
		delete(m.sent, m.mails[0].messageID())
		m.mails = m.mails[1:]
	}
	close(m.arrival)
	m.arrival = make(chan struct{})
}

func (mail *Mail) messageID() string {
	// ReadMIMEHeader returns the fields that it could read, even with an error.
	h, _ := textproto.NewReader(bufio.NewReader(bytes.NewReader(mail.Raw))).ReadMIMEHeader()
	return h.Get("Message-Id")
}

type session struct{ box *Mailbox }

func (session) Reset()                               {}
func (session) Logout() error                        { return nil }
func (session) Mail(string, *smtp.MailOptions) error { return nil }
func (session) Rcpt(string, *smtp.RcptOptions) error { return nil }

func (s session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err == nil {
		s.box.deliver(&Mail{Received: time.Now(), Raw: raw})
	}
	return err
}

// discard is the server's log: the page shows all that the server could log.
type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}
