package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"strconv"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// letter is one mail. The seed and its number determine it, so its bytes need not be kept.
type letter struct {
	id     int
	data   []byte
	sum    string   // SHA-256, in hex
	files  []string // the same, of the attachments that Detach must take out
	ending string   // the end of the mail, also when rewritten; empty if no multipart is left
	pace   time.Duration
}

const (
	minFile = 100 << 10 // well over min_size, the size from which Detach takes files out
	maxFile = 4 << 20
)

// compose makes a letter. About three in five have files that are taken out. The others pass
// unchanged, some with large parts that must stay.
func compose(seed uint64, id int) letter {
	c := &composer{rand: rand.New(rand.NewPCG(seed, uint64(id))), letter: letter{id: id}}
	c.header()
	switch n := c.rand.IntN(100); {
	case n < 13:
		c.plain()
	case n < 19:
		c.alternative()
	case n < 27:
		c.signed()
	case n < 34:
		c.broken()
	case n < 38:
		c.late()
	case n < 43:
		c.small()
	case n < 51:
		c.scanned()
	default:
		c.mixed()
	}
	c.letter.data = c.buf.Bytes()
	c.letter.sum = stage.SHA256(c.letter.data)
	if c.rand.IntN(5) < 2 {
		// A slow client, so that faults find mails under way.
		c.letter.pace = time.Duration(200+c.rand.IntN(2800)) * time.Millisecond
	}
	return c.letter
}

type composer struct {
	rand   *rand.Rand
	buf    bytes.Buffer
	letter letter
}

func (c *composer) add(format string, args ...any) { fmt.Fprintf(&c.buf, format, args...) }

func (c *composer) header() {
	c.add("From: Bartholomew <%s>\r\nTo: <%s>\r\nSubject: letter %d\r\nDate: Sun, 22 Nov 2026 20:00:00 +0000\r\n", stage.Sender, stage.Recipient, c.letter.id)
	c.add("Message-ID: <%d@chaos.example>\r\nMIME-Version: 1.0\r\n", c.letter.id)
}

var messageID = regexp.MustCompile(`(?m)^Message-ID: <(\d+)@chaos\.example>\r$`)

// idOf returns the number of the letter that a delivered mail is a copy of.
func idOf(mail []byte) (int, bool) {
	head, _, _ := bytes.Cut(mail, []byte("\r\n\r\n"))
	m := messageID.FindSubmatch(append(head, '\r', '\n'))
	if m == nil {
		return 0, false
	}
	id, err := strconv.Atoi(string(m[1]))
	return id, err == nil
}

// open begins a multipart, and next one of its parts.
func (c *composer) open(subtype string) {
	c.add("Content-Type: multipart/%s; boundary=\"=_%d\"\r\n\r\npreamble\r\n", subtype, c.letter.id)
}

func (c *composer) next(header string) { c.add("--=_%d\r\n%s\r\n", c.letter.id, header) }

// end closes the multipart. The epilogue belongs to no part, so it shows that the whole mail
// arrived.
func (c *composer) end() {
	c.letter.ending = fmt.Sprintf("--=_%d--\r\nend of letter %d\r\n", c.letter.id, c.letter.id)
	c.add("%s", c.letter.ending)
}

const (
	textHeader = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
	htmlHeader = "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"
)

// text adds lines that begin with dots, and empty lines, which a mail server could get wrong.
func (c *composer) text() {
	c.add("Grüße,\r\n\r\n.\r\n..dots\r\n.\r\n\r\n")
	for range c.rand.IntN(40) {
		c.add("line %x\r\n", c.rand.Uint64())
	}
}

func (c *composer) plain() {
	c.add("%s\r\n", textHeader)
	c.text()
}

func (c *composer) alternative() {
	c.open("alternative")
	c.next(textHeader)
	c.text()
	c.next(htmlHeader)
	c.add("<p>Gr=C3=BC=C3=9Fe</p>\r\n")
	c.end()
}

// signed has a file under a signature: it stays.
func (c *composer) signed() {
	c.open("signed; protocol=\"application/pgp-signature\"; micalg=pgp-sha256")
	c.file(c.size())
	c.next("Content-Type: application/pgp-signature; name=signature.asc\r\n")
	c.add("-----BEGIN PGP SIGNATURE-----\r\n\r\n-----END PGP SIGNATURE-----\r\n")
	c.end()
}

// broken has a file whose encoding goes wrong at its end, when most of it is stored: it is put
// back. Programs skip other ASCII characters in base64, so these would break nothing.
func (c *composer) broken() {
	c.open("mixed")
	c.next(textHeader)
	c.text()
	c.file(c.size())
	c.add("Grüße\r\n")
	c.end()
}

// late has a picture above the HTML that shows it: the picture is stored, and put back at the end.
func (c *composer) late() {
	c.open("mixed")
	c.next("Content-Type: image/png\r\nContent-ID: <late@chaos.example>\r\nContent-Transfer-Encoding: base64\r\n")
	c.base64(c.size())
	c.next(htmlHeader)
	c.add("<img src=3D\"cid:late@chaos.example\">\r\n")
	c.end()
}

// small has a file that is not worth a link.
func (c *composer) small() {
	c.open("mixed")
	c.next(textHeader)
	c.text()
	c.file(1 + c.rand.IntN(30<<10))
	c.end()
}

// mixed has one to three files, and sometimes a small one that stays. Otherwise the text takes the
// multipart's place, and the links after the text show that the whole mail arrived.
func (c *composer) mixed() {
	c.open("mixed")
	c.next(textHeader)
	c.text()
	stays := c.rand.IntN(4) == 0
	if stays {
		c.file(1 + c.rand.IntN(2<<10))
	}
	for range 1 + max(0, c.rand.IntN(5)-2) {
		c.letter.files = append(c.letter.files, c.file(c.size()))
	}
	if c.end(); !stays {
		c.letter.ending = ""
	}
}

// scanned is a file without a text.
func (c *composer) scanned() {
	c.add("%s\r\n", pdf)
	c.letter.files = append(c.letter.files, c.base64(c.size()))
}

const pdf = "Content-Type: application/pdf; name=scan.pdf\r\nContent-Disposition: attachment; filename=scan.pdf\r\n" +
	"Content-Transfer-Encoding: base64\r\n"

func (c *composer) file(size int) string {
	c.next(pdf)
	return c.base64(size)
}

// size draws the size of a file: many are small, some are large.
func (c *composer) size() int {
	return int(minFile * math.Exp(c.rand.Float64()*math.Log(float64(maxFile)/minFile)))
}

// base64 adds so many bytes of noise, in lines as mail programs write them, and returns their hash.
func (c *composer) base64(size int) string {
	noise := make([]byte, size)
	var key [32]byte
	for i := range key {
		key[i] = byte(c.rand.Uint32())
	}
	rand.NewChaCha8(key).Read(noise)
	c.buf.WriteString(stage.Base64Lines(noise))
	return stage.SHA256(noise)
}
