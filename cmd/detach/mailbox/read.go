package mailbox

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // decodes charsets
)

// parsed is a mail as the page shows it. Unreadable fields stay empty: the page links to the
// source.
type parsed struct {
	Subject, From, To, Date string
	Text, HTML              string
	Files                   []file // attachments that stayed
	Headers                 string
}

type file struct{ Name, Type string }

// parse must run in an HTTP handler: go-message panics on some mails, and net/http recovers.
func parse(raw []byte) parsed {
	var p parsed
	if at := bytes.Index(raw, []byte("\r\n\r\n")); at >= 0 {
		p.Headers = string(raw[:at])
	}
	e, err := message.Read(bytes.NewReader(raw))
	if e == nil || err != nil && !message.IsUnknownCharset(err) {
		return p
	}
	p.Subject, p.From, p.To, p.Date = decoded(e, "Subject"), decoded(e, "From"), decoded(e, "To"), decoded(e, "Date")
	_ = e.Walk(func(_ []int, part *message.Entity, err error) error {
		if err != nil && !message.IsUnknownCharset(err) {
			return errors.New("unreadable from here on")
		}
		p.take(part)
		return nil
	})
	return p
}

func (p *parsed) take(part *message.Entity) {
	mediaType, params, err := part.Header.ContentType()
	if err != nil || mediaType == "" {
		mediaType = "text/plain"
	}
	if strings.HasPrefix(mediaType, "multipart/") {
		return
	}
	disposition, more, _ := part.Header.ContentDisposition()
	body := &p.Text
	if mediaType == "text/html" {
		body = &p.HTML
	}
	if disposition != "attachment" && strings.HasPrefix(mediaType, "text/") && *body == "" {
		b, _ := io.ReadAll(part.Body)
		*body = string(b)
		return
	}
	name := more["filename"]
	if name == "" {
		name = params["name"]
	}
	p.Files = append(p.Files, file{name, mediaType})
}

func decoded(e *message.Entity, field string) string {
	text, err := e.Header.Text(field)
	if err != nil {
		text = e.Header.Get(field)
	}
	return text
}

// piece is a piece of a text: a link, or the text between two links.
type piece struct {
	Text string
	Link bool
}

var link = regexp.MustCompile(`https?://[^\s<>"']*[^\s<>"'.,;:)\]]`)

// pieces finds the links in a text, as mail programs do.
func pieces(text string) []piece {
	var all []piece
	at := 0
	for _, m := range link.FindAllStringIndex(text, -1) {
		all = append(all, piece{text[at:m[0]], false}, piece{text[m[0]:m[1]], true})
		at = m[1]
	}
	return append(all, piece{text[at:], false})
}

// Links returns the links in the text of a mail, in their order.
func (mail *Mail) Links() []string {
	var all []string
	for _, p := range pieces(parse(mail.Raw).Text) {
		if p.Link {
			all = append(all, p.Text)
		}
	}
	return all
}
