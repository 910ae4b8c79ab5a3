package notice

import (
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

const (
	signedText = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nYes.\n\n"
	signature  = "-----BEGIN PGP SIGNATURE-----\n\niHUE\n=6jNH\n-----END PGP SIGNATURE-----\n"
	header     = "From: Bob\nSent: Monday\nTo: Ann\nSubject: x\n\nold\n"
	encrypted  = "-----BEGIN PGP MESSAGE-----\n\nhF4D\n=6jNH\n-----END PGP MESSAGE-----\n"
)

func quote(text string) string {
	return "> " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n> ") + "\n"
}

// The mark § shows where the notice belongs: never between the first and the last line of armor.
func TestPlainTextKeepsArmorWhole(t *testing.T) {
	faults.Covers(t, 57)
	for name, marked := range map[string]string{
		"signed":                       signedText + signature + "§",
		"reply in it":                  signedText + header + signature + "§",
		"quoted lines in it":           signedText + "On 1 May 2026, Bob wrote:\n> old\n" + signature + "§",
		"separator in it":              signedText + "-----Original Message-----\n" + header + signature + "§",
		"signature in it":              signedText + "- -- \nAnn\n-- \nAnn\n" + signature + "§",
		"signature below it":           signedText + signature + "§-- \nAnn\n",
		"quotation below it":           signedText + signature + "\n§On 1 May 2026, Bob wrote:\n> old\n",
		"encrypted":                    encrypted + "§",
		"encrypted, words above":       "Hi\n\n" + encrypted + "§",
		"key below the text":           "Hi\n" + strings.ReplaceAll(encrypted, "MESSAGE", "PUBLIC KEY BLOCK") + "§",
		"signature alone":              "Hi\n" + header + signature + "§",
		"dash-escaped in it":           signedText + "- " + strings.ReplaceAll(encrypted, "\n-----", "\n- -----") + header + signature + "§",
		"dash-escaped end in it":       signedText + "- -----END PGP SIGNATURE-----\n" + header + signature + "§",
		"quoted end in it":             signedText + "> -----END PGP SIGNATURE-----\n" + header + signature + "§",
		"quoted":                       "Hi\n\n§" + quote(signedText+signature),
		"quoted, answer below":         quote(signedText+signature) + "Hi\n§",
		"quoted, answer within":        quote(signedText) + "Hi\n" + quote(signature) + "§",
		"quoted twice":                 "Hi\n\n§" + quote(quote(signedText+signature)),
		"quoted, left out":             quote(signedText) + "\nHi\n§-- \nAnn\n",
		"no last line":                 "Hi\n§" + signedText + header,
		"no last line, at the top":     "§" + signedText + header,
		"no last line, blank above":    "§\n\n" + signedText,
		"quoted, no last line":         "§Hi\n> a\nb\n" + quote(signedText),
		"quoted, no last line, on top": "Hi\n\n§" + quote(signedText),
		"indented":                     "  " + signedText + header + signature + "§",
		"blanks after it":              strings.ReplaceAll(signedText+header+signature, "-----\n", "----- \t\r\n") + "§",
		"another message's end":        strings.ReplaceAll(encrypted, "END PGP MESSAGE", "END PGP SIGNATURE") + header + encrypted + "§",
		"OpenSSH":                      "Hi\n" + strings.ReplaceAll(encrypted, "PGP MESSAGE", "SSH SIGNATURE") + "§",
		"only mentioned":               "Look for -----BEGIN PGP MESSAGE----- in it.\n\n§> old\n",
		"other marks":                  "-----BEGIN OF THE TEXT-----\nHi\n\n§> old\n",
		"byte order mark":              byteOrderMark + signedText + header + signature + "§",
	} {
		checkSpot(t, name, marked, func(text string) spot { return plainSpot(text, Bottom, false) })
		checkSpot(t, name+", CRLF", strings.ReplaceAll(strings.ReplaceAll(marked, "\r\n", "\n"), "\n", "\r\n"), func(text string) spot { return plainSpot(text, Bottom, false) })
	}
}

// A signature is over the bytes of its text, so a signed text does not become UTF-8 for the name of
// a file: the notice is a separate part.
func TestSignedTextKeepsItsCharset(t *testing.T) {
	faults.Covers(t, 57)
	for charset, want := range map[string]bool{"iso-8859-1": false, "utf-8": true} {
		cs, _ := findCharset(charset, nil)
		_, content, _ := cs.encode(strings.ReplaceAll(signedText, "Yes", "Grüße") + signature)
		if _, after, ok := insertInto(t, Body{Raw: content, Charset: charset, Encoding: "8bit"}, testNotice("en", "报告.pdf"), Bottom); ok != want {
			t.Errorf("%s: inserted %v, want %v: %+v", charset, ok, want, after)
		}
	}
	if _, after, ok := insertInto(t, Body{Raw: []byte(signedText + signature), Charset: "iso-8859-1", Encoding: "7bit"}, testNotice("en", "报告.pdf"), Bottom); !ok || !strings.HasPrefix(after.text, signedText+signature) {
		t.Errorf("all ASCII: inserted %v, want the same text above: %+v", ok, after)
	}
}
