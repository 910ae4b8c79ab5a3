package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"mime/quotedprintable"
	"strings"
)

// attachment is one file of a hand-made mail.
type attachment struct {
	name    string // as people see it
	header  string // Content-Type and Content-Disposition
	content []byte
}

func (a attachment) sha256() string {
	sum := sha256.Sum256(a.content)
	return hex.EncodeToString(sum[:])
}

// noise is incompressible and the same on every run.
func noise(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

func base64Lines(b []byte) string {
	text := base64.StdEncoding.EncodeToString(b)
	var lines strings.Builder
	for len(text) > 76 {
		lines.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	return lines.String() + text + "\r\n"
}

func quoted(b []byte) string {
	var text bytes.Buffer
	w := quotedprintable.NewWriter(&text)
	w.Write(b)
	w.Close()
	return text.String()
}

var (
	report = attachment{"Quarterly figures 2026.pdf",
		"Content-Type: application/pdf; name=\"Quarterly figures 2026.pdf\"\r\n" +
			"Content-Disposition: attachment; filename=\"Quarterly figures 2026.pdf\"\r\n", noise(1, 300_001)}
	surprise = attachment{"Überraschung für März.zip",
		"Content-Type: application/zip\r\nContent-Disposition: attachment;\r\n" +
			" filename*0*=utf-8''%C3%9Cberraschung%20f%C3%BCr;\r\n filename*1*=%20M%C3%A4rz.zip\r\n", noise(2, 3<<20+5)}
	table = attachment{"Anschriftenliste.csv",
		"Content-Type: text/csv; charset=utf-8\r\nContent-Disposition: attachment; filename=Anschriftenliste.csv\r\n",
		[]byte("name;ort\r\nZoë;Köln\r\n=;\"\t\"\r\n")}
	scan = attachment{"Scan_20261122.pdf",
		"Content-Type: application/pdf; name=Scan_20261122.pdf\r\nContent-Disposition: attachment; filename=Scan_20261122.pdf\r\n",
		noise(3, 1<<20)}
)

func head(subject string) string {
	return "From: Bartholomew <" + sender + ">\r\nTo: <" + recipient + ">\r\nSubject: " + subject +
		"\r\nDate: Sun, 22 Nov 2026 20:00:00 +0000\r\nMessage-ID: <" + fmt.Sprintf("%x", sha256.Sum256([]byte(subject)))[:16] +
		"@senders.example>\r\nMIME-Version: 1.0\r\n"
}

// Mails with attachments as common programs write them.
var (
	textAndPDF = head("the quarterly figures") + "Content-Type: multipart/mixed; boundary=\"b1\"\r\n\r\nThis is a preamble.\r\n" +
		"--b1\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nDear Wilhelmina,\r\n\r\n.here they are.\r\n" +
		"--b1\r\n" + report.header + "Content-Transfer-Encoding: base64\r\n\r\n" + base64Lines(report.content) + "--b1--\r\nepilogue\r\n"

	alternativeAndTwo = head("=?utf-8?q?zwei_Anh=C3=A4nge?=") + "Content-Type: multipart/mixed; boundary=outer\r\n\r\n" +
		"--outer\r\nContent-Type: multipart/alternative; boundary=outer-inner\r\n\r\n" +
		"--outer-inner\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xfc\xdfe\r\n" +
		"--outer-inner\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
		"<html><body><p>Gr=C3=BC=C3=9Fe</p></body></html>\r\n--outer-inner--\r\n" +
		"--outer\r\n" + surprise.header + "Content-Transfer-Encoding: base64\r\n\r\n" + base64Lines(surprise.content) +
		"--outer\r\n" + table.header + "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted(table.content) + "\r\n--outer--\r\n"

	scannersPDF = head("message from the scanner") + scan.header + "Content-Transfer-Encoding: base64\r\n\r\n" + base64Lines(scan.content)
)

// Mails that nothing may be taken out of.
var untouchable = map[string]string{
	"plain text": head("just some words") + "\r\nhello\r\n.\r\n..\r\n. \r\n.x\r\n",
	"signed": head("a signed contract") + "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=s; micalg=pgp-sha256\r\n\r\n" +
		"--s\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n\r\ntext\r\n--m\r\n" + report.header +
		"Content-Transfer-Encoding: base64\r\n\r\n" + base64Lines(report.content) + "--m--\r\n--s\r\n" +
		"Content-Type: application/pgp-signature; name=signature.asc\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\n\r\n-----END PGP SIGNATURE-----\r\n--s--\r\n",
	"encrypted": head("an encrypted letter") + "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=e\r\n\r\n" +
		"--e\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--e\r\nContent-Type: application/octet-stream; name=encrypted.asc\r\n\r\n" +
		"-----BEGIN PGP MESSAGE-----\r\n\r\n-----END PGP MESSAGE-----\r\n--e--\r\n",
	"s/mime": head("an enveloped letter") + "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\n" +
		"Content-Disposition: attachment; filename=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64Lines(noise(9, 5000)),
	"broken base64": head("a broken enclosure") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n" + table.header +
		"Content-Transfer-Encoding: base64\r\n\r\nQUJD!!!!\r\n====A\r\n--b--\r\n",
	"unknown encoding": head("an uuencoded enclosure") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n" + table.header +
		"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n#0V%T\r\n`\r\nend\r\n--b--\r\n",
	"odd folding": "Subject:a folded   \r\n  subject line\r\nX-Empty:\r\nx-lower: 1\r\nX-Long: " + strings.Repeat("y", 3000) + "\r\n\r\nno end of line",
	"header only": "Subject: nothing but a header\r\n\r\n",
}
