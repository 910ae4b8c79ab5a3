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
	// MaxSize is what many mail servers allow; Detach in front lets far larger attachments through.
	MaxSize = 25 << 20
	// Older mails give way, so that a demo left running does not fill the memory.
	maxMails = 50
)

// Mail is one delivered message, byte for byte.
type Mail struct {
	Number   int
	From     string
	To       []string
	Received time.Time
	Raw      []byte
}

// Mailbox keeps what is delivered to it.
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

// New returns an empty mailbox. The page offers to send a file of one's own if send is not nil.
func New(send SendFunc) *Mailbox {
	return &Mailbox{sent: map[string]int64{}, arrival: make(chan struct{}), sendFile: send}
}

// SMTP is the server that fills the mailbox.
func (m *Mailbox) SMTP() *smtp.Server {
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{box: m}, nil }))
	s.Domain = "mailbox.example"
	s.MaxMessageBytes = MaxSize
	s.MaxLineLength = 0 // real mail has longer lines than RFC 5321 section 4.5.3.1.6 allows
	s.ReadTimeout, s.WriteTimeout = 5*time.Minute, time.Minute
	s.EnableSMTPUTF8 = true
	s.ErrorLog = discard{}
	return s
}

// Sent notes how large a mail was before Detach, to show beside what became of it.
func (m *Mailbox) Sent(messageID string, size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent[messageID] = size
}

// Wait returns the mail with this Message-ID once it is delivered.
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

// Mails are those that were delivered, newest first.
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
	h, _ := textproto.NewReader(bufio.NewReader(bytes.NewReader(mail.Raw))).ReadMIMEHeader() // what could be read is returned with the error
	return h.Get("Message-Id")
}

type session struct {
	box  *Mailbox
	mail Mail
}

func (s *session) Reset()        { s.mail = Mail{} }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.mail.From = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.To = append(s.mail.To, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	mail := s.mail
	mail.Raw, mail.Received = raw, time.Now()
	s.box.deliver(&mail)
	return nil
}

// discard is the mailbox's log: it has nothing to say that the demo does not see.
type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}
