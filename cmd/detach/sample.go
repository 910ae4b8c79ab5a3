package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"mime"
	"net"
	"path/filepath"
	"time"

	"github.com/emersion/go-message/mail"
	"github.com/emersion/go-smtp"
)

const (
	sampleFrom    = "ada@example.org"
	sampleTo      = "you@mailbox.example"
	sampleSubject = "The fern I promised"
	sampleName    = "Fougère – 1600 × 1200.png" // beyond ASCII, as real names are

	sampleText = "Hello,\r\n\r\nhere is the file I promised. It is too large for most mailboxes.\r\n\r\nAda\r\n"
	sampleHTML = `<!doctype html><html><body style="font-family: sans-serif"><p>Hello,</p>` +
		`<p>here is the <b>file</b> I promised. It is too large for most mailboxes.</p><p>Ada</p></body></html>` + "\r\n"
)

// sendMail mails a file of any size to the proxy at addr, encoding it while it is read. It returns
// the Message-ID and the size of the mail.
func sendMail(ctx context.Context, addr, subject, name string, file io.Reader) (id string, size int64, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", 0, err
	}
	c := smtp.NewClient(conn)
	// Close, never Quit: after half a mail, Quit would send the dot that delivers it.
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	err = errors.Join(c.Hello("sender.example"), c.Mail(sampleFrom, nil), c.Rcpt(sampleTo, nil))
	if err != nil {
		return "", 0, err
	}
	data, err := c.Data()
	if err != nil {
		return "", 0, err
	}
	id = "<" + rand.Text() + "@sender.example>"
	counted := &counter{w: data}
	if err := writeMail(counted, id, subject, name, file); err != nil {
		return "", 0, err
	}
	return id, counted.n, data.Close()
}

// writeMail writes a mail with a text, the same in HTML, and one attachment, as mail programs do.
func writeMail(w io.Writer, id, subject, name string, file io.Reader) error {
	var h mail.Header
	h.SetAddressList("From", []*mail.Address{{Name: "Ada", Address: sampleFrom}})
	h.SetAddressList("To", []*mail.Address{{Address: sampleTo}})
	h.SetSubject(subject)
	h.SetDate(time.Now())
	h.Set("Message-Id", id)
	m, err := mail.CreateWriter(w, h)
	if err != nil {
		return err
	}
	text, err := m.CreateInline()
	if err != nil {
		return err
	}
	for _, body := range [][2]string{{"text/plain", sampleText}, {"text/html", sampleHTML}} {
		var h mail.InlineHeader
		h.SetContentType(body[0], map[string]string{"charset": "utf-8"})
		if err := writePart(text.CreatePart(h))(bytes.NewReader([]byte(body[1]))); err != nil {
			return err
		}
	}
	var a mail.AttachmentHeader
	mediaType, params, err := mime.ParseMediaType(mime.TypeByExtension(filepath.Ext(name)))
	if err != nil {
		mediaType, params = "application/octet-stream", nil
	}
	a.SetContentType(mediaType, params)
	a.SetFilename(name)
	return errors.Join(text.Close(), writePart(m.CreateAttachment(a))(file), m.Close())
}

func writePart(part io.WriteCloser, err error) func(io.Reader) error {
	return func(r io.Reader) error {
		if err != nil {
			return err
		}
		_, err := io.Copy(part, r)
		return errors.Join(err, part.Close())
	}
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// drawFern draws Barnsley's fern from four affine maps, chosen at random. The constant seed makes
// the picture constant.
func drawFern(width, height int) []byte {
	hits := make([]float64, width*height)
	x, y, seed := 0.0, 0.0, uint32(1)
	for range 40 * width * height / 10 {
		seed = seed*1664525 + 1013904223 // the generator in Numerical Recipes
		switch chance := seed >> 24; {
		case chance < 3:
			x, y = 0, 0.16*y
		case chance < 218:
			x, y = 0.85*x+0.04*y, -0.04*x+0.85*y+1.6
		case chance < 236:
			x, y = 0.2*x-0.26*y, 0.23*x+0.22*y+1.6
		default:
			x, y = -0.15*x+0.28*y, 0.26*x+0.24*y+0.44
		}
		scale := float64(height) / 10.6
		px, py := width/2+int(x*scale), height-int((y+0.3)*scale)
		if px >= 0 && px < width && py >= 0 && py < height {
			hits[py*width+px]++
		}
	}
	picture := image.NewRGBA(image.Rect(0, 0, width, height))
	for i, h := range hits {
		light := 1 - math.Exp(-h/6)
		fade := float64(i/width) / float64(height)
		picture.SetRGBA(i%width, i/width, color.RGBA{
			R: uint8(18 + 10*fade + 120*light*light), G: uint8(24 + 14*fade + 200*light), B: uint8(32 + 10*fade + 90*light*light), A: 255,
		})
	}
	var b bytes.Buffer
	_ = png.Encode(&b, picture) // writing to memory does not fail
	return b.Bytes()
}
