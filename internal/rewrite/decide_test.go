package rewrite

import (
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

func TestSignedAndEncryptedStay(t *testing.T) {
	faults.Covers(t, 57)
	for _, head := range []string{
		`multipart/signed; protocol="application/pkcs7-signature"; boundary=b`,
		`Multipart/SIGNED; boundary=b; protocol="application/pgp-signature"`,
		`multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b`,
		`multipart/report; report-type=delivery-status; boundary=b`,
	} {
		inner := strings.Replace(multi(abc, abc), "multipart/mixed; boundary=b", head, 1)
		untouched(t, inner)
		deeper := strings.ReplaceAll(inner, "--b", "--i")
		deeper = strings.ReplaceAll(deeper, "boundary=b", "boundary=i")
		detached(t, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"+deeper+"--b\r\n"+pdf(abc)+"--b--\r\n", "abc")
	}
	for _, typ := range []string{
		"application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m", "application/x-pkcs7-mime; name=smime.p7m",
		"application/pkcs7-signature; name=smime.p7s", "application/x-pkcs7-signature; name=smime.p7s",
		"application/pgp-encrypted", "application/pgp-signature; name=signature.asc", "application/pgp-keys; name=key.asc",
	} {
		body := "\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment\r\n\r\n" + abc + "\r\n"
		untouched(t, "Content-Type: "+typ+body)
		untouched(t, strings.Replace(multi(abc), "application/pdf; name=a.pdf", typ, 1))
	}
	untouched(t, "Subject: x\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\nhi\r\n-----BEGIN PGP SIGNATURE-----\r\n")
}

func TestMessagesStay(t *testing.T) {
	faults.Covers(t, 59)
	for _, typ := range []string{
		"message/rfc822", "message/partial; id=x; number=1; total=2", "message/delivery-status", "message/global",
		`message/external-body; access-type=URL; URL="ftp://x.example/y"`, "message/rfc822; name=mail.eml",
	} {
		mail := strings.Replace(multi("Subject: x\r\n\r\nhi"), "application/pdf; name=a.pdf", typ, 1)
		untouched(t, strings.Replace(mail, "base64", "7bit", 1))
		untouched(t, "Content-Type: "+typ+"\r\n\r\nSubject: x\r\n\r\nhi\r\n")
	}
	untouched(t, "Content-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: x\r\n\r\nhi\r\n--d\r\n"+pdf(abc)+"--d--\r\n")
	inside := strings.ReplaceAll(strings.ReplaceAll(multi(abc), "--b", "--i"), "boundary=b", "boundary=i")
	untouched(t, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"+inside+"--b--\r\n")
}

func TestOldFormatsStay(t *testing.T) {
	faults.Covers(t, 60)
	for _, typ := range []string{"application/ms-tnef; name=winmail.dat", "application/vnd.ms-tnef"} {
		untouched(t, strings.Replace(multi(abc), "application/pdf; name=a.pdf", typ, 1))
	}
	uu := "begin 644 a.txt\r\n#86)C\r\n`\r\nend\r\n"
	yenc := "=ybegin line=128 size=3 name=a\r\n\x8b\x8c\x8d\r\n=yend size=3\r\n"
	hqx := "(This file must be converted with BinHex 4.0)\r\n:$f*TEQKPH#jdCA0dC@&`!!:\r\n"
	for _, body := range []string{uu, yenc, hqx} {
		untouched(t, "Subject: x\r\n\r\nhi\r\n"+body)
		untouched(t, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"+body+"--b--\r\n")
		out := detached(t, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"+body+"--b\r\n"+pdf(abc)+"--b--\r\n", "abc")
		if !strings.Contains(out, body) {
			t.Errorf("changed: %q", body)
		}
	}
	untouched(t, encoded("x-uuencode", uu))
	untouched(t, encoded("binhex", hqx))
}

func TestPartsWithContradictingFieldsAreKept(t *testing.T) {
	faults.Covers(t, 66)
	with := func(fields string) string {
		return strings.Replace(multi(abc), "--b\r\nContent", "--b\r\n"+fields+"Content", 1)
	}
	for _, field := range []string{
		"Content-Type: application/pdf; name=b.pdf\r\n", "Content-Type: application/pdf; name=A.pdf\r\n", "Content-Type: text/plain\r\n",
		"Content-Type:\r\n", "Content-Transfer-Encoding: 7bit\r\n",
		"Content-Disposition: attachment; filename=a\r\nContent-Disposition: inline\r\n",
		"Content-Type: application/pdf; name=a.pdf; x=\"; \"\r\nContent-Type: application/pdf; name=a.pdf; x=\";\"\r\n",
	} {
		untouched(t, with(field))
	}
	for _, field := range []string{
		"Content-Type: application/pdf; name=a.pdf\r\n", "content-type:\r\n APPLICATION/pdf;\r\n\tname=a.pdf\r\n",
		"Content-Type: application/pdf;name=a.pdf\r\n", "Content-Type: application/pdf;\r\n  name=a.pdf;\r\n",
		"Content-Transfer-Encoding: base64\r\n", "Content-Transfer-Encoding: BASE64\r\nContent-Transfer-Encoding: base64\r\n",
		"Content-Disposition: attachment; filename=a\r\nContent-Disposition: attachment; filename=a\r\n",
		"Content-ID: <a>\r\nContent-ID: <a>\r\n",
	} {
		detached(t, with(field), "abc")
	}
	root := "Content-Type: multipart/mixed; boundary=b\r\n"
	detached(t, root+multi(abc), "abc")
	untouched(t, strings.ToUpper(root)+multi(abc))
}

// A DKIM signature stays valid if nothing is detached, because no byte changes. Rewritten mail must
// be signed after Detach; the old signature is valid again after restoring.
func TestSignedMailWithoutAttachmentsIsUntouched(t *testing.T) {
	faults.Covers(t, 58)
	sig := "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=example.org; s=x;\r\n\th=from:subject; bh=abc=; b=def=\r\n"
	untouched(t, sig+"Subject:  odd   blanks \r\n\r\nhi \r\n\r\n\r\n")
	untouched(t, sig+multi())
	out := detached(t, sig+multi(abc), "abc")
	if !strings.HasPrefix(out, sig) {
		t.Errorf("signature changed: %s", out)
	}
}

func TestWhichPartsAreDetached(t *testing.T) {
	faults.Covers(t, 73)
	part := func(typ, rest string) string {
		return strings.Replace(multi(abc), "application/pdf; name=a.pdf\r\n", typ+"\r\n"+rest, 1)
	}
	for _, mail := range []string{
		part("text/calendar; method=REQUEST; name=invite.ics", "Content-Disposition: attachment; filename=invite.ics\r\n"),
		part("message/rfc822; name=mail.eml", "Content-Disposition: attachment\r\n"),
		part("text/csv", ""), part("text/plain", ""), part("text/x-diff", ""),
		multi(""), multi("\r\n"), multi("===="),
	} {
		untouched(t, mail)
	}
	for _, mail := range []string{
		part("text/vcard; name=a.vcf", ""), part("text/x-vcard", "Content-Disposition: attachment; filename=a.vcf\r\n"),
		part("image/png", "Content-Disposition: inline\r\nContent-ID: <unused@x>\r\n"),
		part("application/octet-stream; name=mail.eml", ""), part("application/ics; name=invite.ics", ""),
		part("text/plain; name=log.txt", "Content-Disposition: attachment\r\n"), part("video/mp4", ""), part("x-y/z", ""), part("chemical/x-pdb", ""),
	} {
		detached(t, mail, "abc")
	}
	related := func(htmlFields, html string) string {
		return "Content-Type: multipart/related; boundary=r\r\n\r\n--r\r\nContent-Type: text/html" + htmlFields + "\r\n\r\n" + html +
			"\r\n--r\r\nContent-Type: image/png\r\nContent-ID: <p@x>\r\nContent-Transfer-Encoding: base64\r\n\r\n" + abc + "\r\n--r--\r\n"
	}
	untouched(t, related("", `<img src="CID:p@x">`))
	untouched(t, related("", `<img src='cid:p%40x'>`))
	utf16 := func(text string) string { return strings.Join(strings.Split(text, ""), "\x00") + "\x00" }
	untouched(t, related("; charset=utf-16le", utf16("<img src=cid:p@x>")))
	detached(t, related("; charset=utf-16le", utf16("<img src=cid:q@x>")), "abc")
	encoded := "\r\nContent-Transfer-Encoding: base64"
	untouched(t, related(encoded, "PGltZyBz \r\ncmM9ImNpZDpwQHgiPg=="))       // cid:p@x
	detached(t, related(encoded, "PGltZyBz \r\ncmM9ImNpZDpxQHgiPg=="), "abc") // cid:q@x
	untouched(t, related(encoded, "PGltZyBz!cmM9ImNpZDpxQHgiPg=="))           // cannot be decoded
}
