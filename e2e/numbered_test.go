package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// A page is repeated to make large attachments: making them must cost next to nothing here, for the machine is detach's.
var (
	page       = noise(77, 57*1024)
	pageBase64 = base64Lines(page)
)

// numbered is a mail whose attachment is pages long and begins with its number, so that no two are alike.
type numbered struct{ number, pages int }

var numberInMail = regexp.MustCompile(`this is number (\d+) of them,`)

// head is all before the pages.
func (m numbered) head() string {
	before, _, _ := strings.Cut(textAndPDF, base64Lines(report.content))
	return strings.Replace(before, "Dear Wilhelmina,", fmt.Sprintf("this is number %d of them,", m.number), 1) +
		base64.StdEncoding.EncodeToString(m.first()) + "\r\n"
}

// first is the attachment's first line.
func (m numbered) first() []byte { return fmt.Appendf(nil, "%057d", m.number) }

// tail is all after the pages.
func (m numbered) tail() string { return "--b1--\r\n" }

// size is the attachment's.
func (m numbered) size() int { return 57 + m.pages*len(page) }

// reader is the whole mail.
func (m numbered) reader() io.Reader {
	parts := []io.Reader{strings.NewReader(m.head())}
	for range m.pages {
		parts = append(parts, strings.NewReader(pageBase64))
	}
	return io.MultiReader(append(parts, strings.NewReader(m.tail()))...)
}

func (m numbered) sha256() string {
	h := sha256.New()
	h.Write(m.first())
	for range m.pages {
		h.Write(page)
	}
	return hex.EncodeToString(h.Sum(nil))
}
