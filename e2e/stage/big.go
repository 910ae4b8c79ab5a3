package stage

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// Page is repeated to make large attachments: making them must leave the machine to detach.
var (
	Page       = Noise(77, 57*1024)
	PageBase64 = Base64Lines(Page)
)

// Numbered is a mail whose attachment has so many pages and begins with the mail's number, so that
// two mails are never alike.
type Numbered struct{ Number, Pages int }

// Head is everything before the pages.
func (m Numbered) Head() string {
	before, _, _ := strings.Cut(TextAndPDF, Base64Lines(Report.Content))
	return strings.Replace(before, "Dear Wilhelmina,", fmt.Sprintf("this is number %d of them,", m.Number), 1) +
		base64.StdEncoding.EncodeToString(m.first()) + "\r\n"
}

func (m Numbered) first() []byte { return fmt.Appendf(nil, "%057d", m.Number) }

// Tail is everything after the pages.
func (m Numbered) Tail() string { return "--b1--\r\n" }

// Size returns the attachment's size.
func (m Numbered) Size() int { return 57 + m.Pages*len(Page) }

// Reader reads the whole mail.
func (m Numbered) Reader() io.Reader {
	parts := []io.Reader{strings.NewReader(m.Head())}
	for range m.Pages {
		parts = append(parts, strings.NewReader(PageBase64))
	}
	return io.MultiReader(append(parts, strings.NewReader(m.Tail()))...)
}

// SHA256 returns the attachment's hash in hex.
func (m Numbered) SHA256() string {
	h := sha256.New()
	h.Write(m.first())
	for range m.Pages {
		h.Write(Page)
	}
	return hex.EncodeToString(h.Sum(nil))
}

var numberInMail = regexp.MustCompile(`this is number (\d+) of them,`)

// ByNumber returns the numbered mails in a mailbox, and checks that each is there once.
func ByNumber(t servers.T, box *servers.Mailbox) map[int][]byte {
	t.Helper()
	mails := make(map[int][]byte)
	for _, mail := range box.Mails() {
		m := numberInMail.FindSubmatch(mail.Data)
		if m == nil {
			t.Fatalf("a mail without a number: %.300s", mail.Data)
		}
		number, err := strconv.Atoi(string(m[1]))
		Must(t, err)
		if mails[number] != nil {
			t.Errorf("mail %d was delivered twice", number)
		}
		mails[number] = mail.Data
	}
	return mails
}

// BigMail makes a mail with one attachment while it is read.
type BigMail struct {
	io.Reader
	hash hash.Hash
}

// NewBigMail returns a BigMail whose attachment has the given size.
func NewBigMail(size int64) *BigMail {
	h := sha256.New()
	body, w := io.Pipe()
	content := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{42}), size), h)
	go func() { w.CloseWithError(Encode(w, content, "\r\n")) }()
	before, after, _ := strings.Cut(TextAndPDF, Base64Lines(Report.Content))
	return &BigMail{io.MultiReader(strings.NewReader(before), body, strings.NewReader(after)), h}
}

// SHA256 returns the attachment's hash in hex, once the mail is read.
func (m *BigMail) SHA256() string { return hex.EncodeToString(m.hash.Sum(nil)) }
