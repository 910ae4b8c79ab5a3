package proxy

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/transaction/transactiontest"
)

// mailbox is the library's server as next hop. The library parses what we relay strictly.
type mailbox struct {
	mu    sync.Mutex
	to    []string
	mails []string
}

func (m *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return mailboxSession{m}, nil }

type mailboxSession struct{ *mailbox }

func (mailboxSession) Reset()                               {}
func (mailboxSession) Logout() error                        { return nil }
func (mailboxSession) Mail(string, *smtp.MailOptions) error { return nil }

func (s mailboxSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if !strings.HasSuffix(to, "@example.org") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "Unknown user"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = append(s.to, to)
	return nil
}

func (s mailboxSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, string(b))
	return nil
}

// The library's client sends through us to the library's server.
func TestLibraryClientAndServerWorkThroughUs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	box := &mailbox{}
	behind := smtp.NewServer(box)
	behind.Domain, behind.MaxMessageBytes = "next.example", 1<<20
	go behind.Serve(l)
	defer behind.Close()

	r := newRig(t, func(cfg *Config) { cfg.NextHop, cfg.MaxSize = l.Addr().String(), 64<<20 })
	c := smtp.NewClient(r.dial())
	must.Succeed(t, c.Hello("client.example"))
	for ext, want := range map[string]bool{"PIPELINING": true, "8BITMIME": true, "CHUNKING": false} {
		if got, _ := c.Extension(ext); got != want {
			t.Errorf("%s offered: %v, want %v", ext, got, want)
		}
	}
	if size, ok := c.MaxMessageSize(); !ok || size != 64<<20 {
		t.Errorf("size %d, want our limit", size)
	}
	// Ten times the next hop's limit, but the next hop never sees the attachment.
	mail := attachmentMail(10 << 20)
	must.Succeed(t, c.Mail("a@example.org", &smtp.MailOptions{Size: int64(len(mail)), Body: smtp.Body8BitMIME}))
	must.Succeed(t, c.Rcpt("b@example.org", nil))
	if err, ok := c.Rcpt("b@elsewhere.example", nil).(*smtp.SMTPError); !ok || err.Code != 550 || err.Message != "Unknown user" {
		t.Errorf("got %v, want the next hop's 550", err)
	}
	w, err := c.Data()
	must.Succeed(t, err)
	_, err = io.WriteString(w, mail)
	must.Succeed(t, err)
	must.Succeed(t, w.Close())
	must.Succeed(t, c.SendMail("a@example.org", []string{"c@example.org"}, strings.NewReader(plainMail)))
	must.Succeed(t, c.Quit())
	box.mu.Lock()
	defer box.mu.Unlock()
	if got := strings.Join(box.to, " "); got != "b@example.org c@example.org" {
		t.Errorf("recipients %q", got)
	}
	if len(box.mails) != 2 || !strings.Contains(box.mails[0], transactiontest.CID.String()) || box.mails[1] != plainMail {
		t.Errorf("delivered %d mails: %.2000q", len(box.mails), box.mails)
	}
}
