package stage

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/quotedprintable"
	"slices"
	"strings"
)

// Attachment is one file of a hand-made mail.
type Attachment struct {
	Name    string // as people see it
	Header  string // Content-Type and Content-Disposition
	Content []byte
}

// FileOf returns a file of no particular type.
func FileOf(name string, content []byte) Attachment {
	return Attachment{name, "Content-Type: application/octet-stream; name=\"" + name + "\"\r\nContent-Disposition: attachment; filename=\"" + name + "\"\r\n", content}
}

// SHA256 returns the file's hash in hex.
func (a Attachment) SHA256() string { return SHA256(a.Content) }

// Part returns the file as a part of a mail, from its header on.
func (a Attachment) Part() string {
	return a.Header + "Content-Transfer-Encoding: base64\r\n\r\n" + Base64Lines(a.Content)
}

// SHA256 returns a hash in hex.
func SHA256(content []byte) string { return fmt.Sprintf("%x", sha256.Sum256(content)) }

// Hashes returns the files' hashes in hex.
func Hashes(files []Attachment) (sums []string) {
	for _, f := range files {
		sums = append(sums, f.SHA256())
	}
	return sums
}

// Noise returns random bytes, the same on every run.
func Noise(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// Base64Lines encodes in lines as mail programs do.
func Base64Lines(b []byte) string {
	var lines bytes.Buffer
	Encode(&lines, bytes.NewReader(b), "\r\n")
	return lines.String()
}

// Encode writes base64 in lines of 76 characters.
func Encode(w io.Writer, r io.Reader, lineEnd string) error {
	const line = 57 // bytes
	in, out := make([]byte, 1000*line), []byte(nil)
	for {
		n, err := io.ReadFull(r, in)
		out = out[:0]
		for piece := range slices.Chunk(in[:n], line) {
			out = append(base64.StdEncoding.AppendEncode(out, piece), lineEnd...)
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func quoted(b []byte) string {
	var text bytes.Buffer
	w := quotedprintable.NewWriter(&text)
	w.Write(b)
	w.Close()
	return text.String()
}

// The people and the files of the mails.
const (
	Domain    = "recipients.example"
	Recipient = "wilhelmina@" + Domain
	Sender    = "bartholomew@senders.example"
)

// Files of several types.
var (
	Report = Attachment{"Quarterly figures 2026.pdf",
		"Content-Type: application/pdf; name=\"Quarterly figures 2026.pdf\"\r\n" +
			"Content-Disposition: attachment; filename=\"Quarterly figures 2026.pdf\"\r\n", Noise(1, 300_001)}
	Surprise = Attachment{"Überraschung für März.zip",
		"Content-Type: application/zip\r\nContent-Disposition: attachment;\r\n" +
			" filename*0*=utf-8''%C3%9Cberraschung%20f%C3%BCr;\r\n filename*1*=%20M%C3%A4rz.zip\r\n", Noise(2, 3<<20+5)}
	Table = Attachment{"Anschriftenliste.csv",
		"Content-Type: text/csv; charset=utf-8\r\nContent-Disposition: attachment; filename=Anschriftenliste.csv\r\n",
		[]byte("name;ort\r\nZoë;Köln\r\n=;\"\t\"\r\n")}
	Scan = Attachment{"Scan_20261122.pdf",
		"Content-Type: application/pdf; name=Scan_20261122.pdf\r\nContent-Disposition: attachment; filename=Scan_20261122.pdf\r\n",
		Noise(3, 1<<20)}
)

// Head returns the header of a mail, without its Content-Type and the empty line.
func Head(subject string) string {
	return "From: Bartholomew <" + Sender + ">\r\nTo: <" + Recipient + ">\r\nSubject: " + subject +
		"\r\nDate: Sun, 22 Nov 2026 20:00:00 +0000\r\nMessage-ID: <" + SHA256([]byte(subject))[:16] +
		"@senders.example>\r\nMIME-Version: 1.0\r\n"
}

// Mails with attachments as common programs write them.
var (
	TextAndPDF = Head("the quarterly figures") + "Content-Type: multipart/mixed; boundary=\"b1\"\r\n\r\nThis is a preamble.\r\n" +
		"--b1\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nDear Wilhelmina,\r\n\r\n.here they are.\r\n" +
		"--b1\r\n" + Report.Part() + "--b1--\r\nepilogue\r\n"

	AlternativeAndTwo = Head("=?utf-8?q?zwei_Anh=C3=A4nge?=") + "Content-Type: multipart/mixed; boundary=outer\r\n\r\n" +
		"--outer\r\nContent-Type: multipart/alternative; boundary=outer-inner\r\n\r\n" +
		"--outer-inner\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xfc\xdfe\r\n" +
		"--outer-inner\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
		"<html><body><p>Gr=C3=BC=C3=9Fe</p></body></html>\r\n--outer-inner--\r\n" +
		"--outer\r\n" + Surprise.Part() +
		"--outer\r\n" + Table.Header + "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted(Table.Content) + "\r\n--outer--\r\n"

	ScannersPDF = Head("message from the scanner") + Scan.Part()
)

// Untouchable are mails that must pass unchanged.
var Untouchable = map[string]string{
	"plain text": Head("just some words") + "\r\nhello\r\n.\r\n..\r\n. \r\n.x\r\n",
	"signed": Head("a signed contract") + "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=s; micalg=pgp-sha256\r\n\r\n" +
		"--s\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n\r\ntext\r\n--m\r\n" + Report.Part() + "--m--\r\n--s\r\n" +
		"Content-Type: application/pgp-signature; name=signature.asc\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\n\r\n-----END PGP SIGNATURE-----\r\n--s--\r\n",
	"encrypted": Head("an encrypted letter") + "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=e\r\n\r\n" +
		"--e\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--e\r\nContent-Type: application/octet-stream; name=encrypted.asc\r\n\r\n" +
		"-----BEGIN PGP MESSAGE-----\r\n\r\n-----END PGP MESSAGE-----\r\n--e--\r\n",
	"s/mime": Head("an enveloped letter") + "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\n" +
		"Content-Disposition: attachment; filename=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n" + Base64Lines(Noise(9, 5000)),
	"broken base64": Head("a broken enclosure") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n" + Table.Header +
		"Content-Transfer-Encoding: base64\r\n\r\nQUJD!!!!\r\n====A\r\n--b--\r\n",
	"unknown encoding": Head("an uuencoded enclosure") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n" + Table.Header +
		"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n#0V%T\r\n`\r\nend\r\n--b--\r\n",
	"odd folding": "Subject:a folded   \r\n  subject line\r\nX-Empty:\r\nx-lower: 1\r\nX-Long: " + strings.Repeat("y", 3000) + "\r\n\r\nno end of line",
	"header only": "Subject: nothing but a header\r\n\r\n",
}
