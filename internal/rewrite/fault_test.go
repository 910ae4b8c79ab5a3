package rewrite

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// The names of these tests carry the numbers of the faults known from other
// programs that they are against.

// outcome rewrites a mail at several sizes of reads, checks that they come to
// the same, and that restoring gives the mail again. It returns what came out
// and the attachments that were detached.
func outcome(t *testing.T, mail string) (string, []file) {
	t.Helper()
	var out string
	var files []file
	for i, src := range []io.Reader{
		strings.NewReader(mail),
		iotest.OneByteReader(strings.NewReader(mail)),
		iotest.HalfReader(strings.NewReader(mail)),
		iotest.DataErrReader(strings.NewReader(mail)),
	} {
		d := newMemory()
		got, m, err := rewriteAll(src, Policy{MinSize: 1, Language: "en", Restore: true}, d)
		if err != nil {
			t.Fatal(err)
		}
		checkRestored(t, []byte(mail), got, m, d)
		if i > 0 && string(got) != out {
			t.Fatalf("reader %d: other bytes:\n%s\nwant\n%s", i, got, out)
		}
		out, files = string(got), d.attachments()
	}
	return out, files
}

func untouched(t *testing.T, mail string) {
	t.Helper()
	out, files := outcome(t, mail)
	if out != mail || len(files) != 0 {
		t.Errorf("%d attachments detached from\n%s", len(files), fmt.Sprintf("%.200s", mail))
	}
}

// detached wants just these attachments to be detached.
func detached(t *testing.T, mail string, want ...string) string {
	t.Helper()
	out, files := outcome(t, mail)
	var got []string
	for _, f := range files {
		got = append(got, string(f.content))
	}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("detached %q, want %q", got, want)
	}
	return out
}

// multi is a mail with a text and one PDF for each body.
func multi(bodies ...string) string {
	mail := "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n"
	for _, body := range bodies {
		mail += "--b\r\n" + pdf(body)
	}
	return mail + "--b--\r\n"
}

// pdf is an attachment as a part.
func pdf(body string) string {
	return "Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body + "\r\n"
}

// encoded is an attachment with another transfer encoding than base64.
func encoded(encoding, body string) string {
	return strings.ReplaceAll(multi(body), "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: "+encoding)
}

const abc = "YWJj" // "abc" in base64

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

func TestBoundaries(t *testing.T) {
	faults.Covers(t, 61)
	with := func(params, b string) string {
		mail := strings.Replace(multi(abc), "; boundary=b", params, 1)
		return strings.ReplaceAll(mail, "--b", "--"+b)
	}
	long := strings.Repeat("x", maxBoundary)
	for _, mail := range []string{
		with("", "b"),
		with("; boundary=", ""),
		with(`; boundary=""`, ""),
		with(`; boundary=b; boundary=c`, "b"),
		with(`; boundary=c; boundary=b`, "b"),
		with(`; boundary=b; boundary*=us-ascii''c`, "b"),
		with(`; boundary*=us-ascii''b`, "b"),
		with(`; boundary*0=b; boundary*1=c`, "bc"),
		with(`; boundary="b "`, "b "),
		with("; boundary="+long+"x", long+"x"),
		with(`; boundary=never`, "b"),
		with("; boundary=b\r\nContent-Type: multipart/mixed; boundary=c", "b"),
		with("; boundary=b (a comment)", "b"),
		strings.Replace(multi(abc), "--b\r\n", "", 2),                 // no opening
		strings.TrimSuffix(multi(abc), "--b--\r\n"),                   // no closing: the last part may be cut short
		strings.TrimSuffix(multi(abc), "\r\n--b--\r\n") + "--b--",     // within a line
		strings.Replace(multi(abc), "\r\n--b--\r\n", "\r\n--b-", 1),   // cut short within it
		strings.Replace(multi(abc), "\r\n--b--\r\n", "\r\n--bb", 1),   // another
		strings.Replace(multi(abc), "\r\n--b--\r\n", "\r\n --b--", 1), // not at the line's beginning
	} {
		untouched(t, mail)
	}
	detached(t, with("; boundary="+long, long), "abc")
	detached(t, with(`; boundary="b c"`, "b c"), "abc")
	detached(t, with(`; boundary="=_b:?'()"`, "=_b:?'()"), "abc")
	detached(t, with("; charset=x;\r\n\tboundary=\"b\"", "b"), "abc")
	// The last part is kept, those before it are whole.
	detached(t, strings.TrimSuffix(multi("ZGVm", abc), "--b--\r\n"), "def")
	// A closing delimiter without line end is one.
	detached(t, strings.TrimSuffix(multi(abc), "\r\n"), "abc")
}

// nest is a multipart with boundary outer that has one with boundary inner in
// it, with a PDF, and a PDF behind that.
func nest(outer, inner string) string {
	in := strings.ReplaceAll(multi(abc), "--b", "--"+inner)
	in = strings.ReplaceAll(in, "boundary=b", `boundary="`+inner+`"`)
	return `Content-Type: multipart/mixed; boundary="` + outer + "\"\r\n\r\n--" + outer + "\r\n" + in + "--" + outer + "\r\n" + pdf("ZGVm") + "--" + outer + "--\r\n"
}

func TestBoundariesThatLookAlike(t *testing.T) {
	faults.Covers(t, 62)
	for _, pair := range [][2]string{{"b", "b-x"}, {"b-x", "b"}, {"b", "bx"}, {"b", "b1"}, {"-b", "b"}, {"b", "B"}, {"b", "--b"}, {"b", "b-"}} {
		out := detached(t, nest(pair[0], pair[1]), "abc", "def")
		if !strings.Contains(out, "\r\n--"+pair[1]+"--\r\n--"+pair[0]+"--\r\n") {
			t.Errorf("%q: delimiters are gone:\n%s", pair, out)
		}
	}
	// The same on two levels, or not to be told apart: programs differ about all
	// that follows.
	for _, pair := range [][2]string{{"b", "b"}, {"b", "b--"}, {"b--", "b"}} {
		untouched(t, nest(pair[0], pair[1]))
	}
	// What came before was not in doubt.
	detached(t, strings.Replace(nest("b", "b"), "\r\n--b\r\n", "\r\n--b\r\n"+pdf("Z2hp")+"--b\r\n", 1), "ghi")
	for _, line := range []string{"--b-junk", "--b--junk", "--bb", "-- b", "--b b", " --b", "--", "---b", "--b---", "--b\v", "--b\x00"} {
		detached(t, strings.Replace(multi(abc), "hi\r\n", "hi\r\n"+line+"\r\n", 1), "abc")
	}
	for _, line := range []string{"--b \t", "--b" + strings.Repeat(" ", 1000)} {
		detached(t, strings.Replace(multi(abc), "--b\r\nContent", line+"\r\nContent", 1), "abc")
	}
}

// A delimiter is found wherever it lies to the ends of buffers.
func TestDelimiterAnywhere(t *testing.T) {
	faults.Covers(t, 62)
	for _, around := range []int{4096, 32768, scanBuffer} {
		for n := around - 80; n < around+8; n++ {
			mail := strings.Replace(multi(abc), "hi\r\n", strings.Repeat("x", n-60)+"\r\n", 1)
			d := newMemory()
			if _, _, err := rewriteAll(strings.NewReader(mail), Policy{MinSize: 1}, d); err != nil || len(d.attachments()) != 1 {
				t.Fatalf("text of %d bytes: %d detached, want 1 (%v)", n-60, len(d.attachments()), err)
			}
		}
	}
}

// However long the blanks after a boundary, and wherever the reads end in them.
func TestDelimiterWithPaddingAtTheLimit(t *testing.T) {
	faults.Covers(t, 62)
	for n := maxDelimiterLine - 8; n <= maxDelimiterLine+3; n++ {
		for _, after := range []string{"\r\n", "\n", "x\r\n"} {
			mail := strings.Replace(multi(abc), "--b\r\nContent", "--b"+strings.Repeat(" ", n-3)+after+"Content", 1)
			_, files := outcome(t, mail)
			if want := n+len(after) <= maxDelimiterLine && after[0] != 'x'; (len(files) == 1) != want {
				t.Errorf("delimiter line of %d bytes, then %q: detached %v, want %v", n, after, len(files) == 1, want)
			}
		}
	}
}

func TestLineEnds(t *testing.T) {
	faults.Covers(t, 63)
	mail := multi(abc, "ZGVm")
	detached(t, strings.ReplaceAll(mail, "\r\n", "\n"), "abc", "def")
	detached(t, strings.Replace(mail, "--b\r\nContent", "--b\nContent", 1), "abc", "def")
	detached(t, strings.Replace(mail, "\r\n--b--", "\n--b--", 1), "abc", "def")
	detached(t, strings.ReplaceAll(strings.ReplaceAll(mail, "\r\n", "\n"), "--b\n", "--b\r\n"), "abc", "def")
	detached(t, strings.Replace(mail, "hi\r\n", "hi\rho\r\n\x00\n\r\r\n", 1), "abc", "def")
	detached(t, strings.TrimSuffix(mail, "\r\n"), "abc", "def")
	untouched(t, strings.ReplaceAll(mail, "\r\n", "\r")) // no line ends at all
	untouched(t, "Subject: no body")
	untouched(t, "")
	untouched(t, "\r\n")
	// What stands around is kept to the byte.
	odd := "preamble\r\n\n\r \x00 --b\r\n"
	mail = strings.Replace(mail, "\r\n\r\n--b", "\r\n\r\n"+odd+"--b \t", 1) + "epilogue\n\r\x00\r\n--b\r\nno part\r\n--b--"
	out := detached(t, mail, "abc", "def")
	if !strings.Contains(out, "\r\n\r\n"+odd+"--b \t\r\n") || !strings.HasSuffix(out, "--b--\r\nepilogue\n\r\x00\r\n--b\r\nno part\r\n--b--") {
		t.Errorf("preamble or epilogue changed: %q", out)
	}
}

func TestLongLines(t *testing.T) {
	faults.Covers(t, 63)
	long := strings.Repeat("x", 10<<20)
	mail := strings.Replace(multi(abc), "hi\r\n", long+"\r\n", 1)
	mail = strings.Replace(mail, "\r\n\r\n--b", "\r\n\r\n"+long+"\r\n--b", 1) + long
	d := newMemory()
	got, m, err := rewriteAll(strings.NewReader(mail), Policy{MinSize: 1, Restore: true}, d)
	if err != nil || m.Stats().Detached != 1 {
		t.Fatalf("%d detached, want 1 (%v)", m.Stats().Detached, err)
	}
	checkRestored(t, []byte(mail), got, m, d)
	if n := bytes.Count(got, []byte(long)); n != 3 {
		t.Errorf("%d of the long lines are there, want 3", n)
	}
}

// pyramid is a mail of depth multiparts, each in the one before, and a PDF in the last.
func pyramid(depth int) string {
	var open, end strings.Builder
	for i := range depth {
		fmt.Fprintf(&open, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		fmt.Fprintf(&end, "--b%d--\r\n", depth-1-i)
	}
	return open.String() + pdf(abc) + end.String()
}

func TestDepth(t *testing.T) {
	faults.Covers(t, 64)
	detached(t, pyramid(10), "abc")
	detached(t, pyramid(maxDepth), "abc")
	untouched(t, pyramid(maxDepth+1))
	untouched(t, pyramid(10_000))
}

// After the last part that is walked nothing changes, whatever it looks like.
func TestParts(t *testing.T) {
	faults.Covers(t, 64)
	head := "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	filler := strings.Repeat("--b\r\n\r\n\r\n", maxParts-1)
	detached(t, head+filler+"--b\r\n"+pdf(abc)+"--b--\r\n", "abc")
	rest := "--b\r\n\r\n\r\n--b\r\n" + pdf("ZGVm") + "--b\r\n" + nest("i", "j") + "--b\r\nContent-Type: text/html\r\n\r\n<p>x\r\n--b--\r\n"
	filler = "--b\r\nContent-Type: text/html\r\n\r\n<p>y\r\n" + filler[len("--b\r\n\r\n\r\n"):]
	untouched(t, head+filler+rest)
	out := detached(t, head+"--b\r\n"+pdf(abc)+filler+rest, "abc")
	if !strings.HasSuffix(out, rest[len("--b\r\n\r\n\r\n"):]) {
		t.Error("something changed beyond the limit")
	}
}

func TestDuplicates(t *testing.T) {
	faults.Covers(t, 66)
	for _, field := range []string{
		"Content-Type: application/pdf; name=a.pdf\r\n", "Content-Type: text/plain\r\n",
		"Content-Transfer-Encoding: base64\r\n", "Content-Transfer-Encoding: 7bit\r\n",
	} {
		untouched(t, strings.Replace(multi(abc), "--b\r\nContent", "--b\r\n"+field+"Content", 1))
	}
	twice := "Content-Disposition: attachment; filename=a\r\nContent-Disposition: inline\r\nContent-Type: application"
	untouched(t, strings.Replace(multi(abc), "Content-Type: application", twice, 1))
	for _, tt := range []struct{ disposition, typ, want string }{
		{"attachment; filename=a.doc", "application/pdf; name=b.pdf", "a.doc"},
		{"attachment; filename=a.doc", "application/pdf", "a.doc"},
		{"attachment", "application/pdf; name=b.pdf", "b.pdf"},
		{"attachment; filename=", "application/pdf; name=b.pdf", "b.pdf"},
		{"attachment; filename=a.doc; filename=b.doc", "application/pdf", "a.doc"},
		{"attachment", "application/pdf", "attachment.pdf"},
	} {
		mail := strings.Replace(multi(abc), "Content-Type: application/pdf; name=a.pdf", "Content-Type: "+tt.typ+"\r\nContent-Disposition: "+tt.disposition, 1)
		if _, files := outcome(t, mail); len(files) != 1 || files[0].name != tt.want {
			t.Errorf("%s, %s: got %+v, want %q", tt.disposition, tt.typ, files, tt.want)
		}
	}
}

// A text without even a line end has no room for the notice: the delimiter after
// it must stay at the beginning of a line.
func TestNoticeNotIntoDelimiter(t *testing.T) {
	mail := strings.Replace(multi(abc), "\r\nhi\r\n", "\r\n", 1)
	out := detached(t, mail, "abc")
	if got := cutMail("", out); len(got.parts) != 2 || got.closing == "" {
		t.Errorf("%d parts, want the text and the notice:\n%s", len(got.parts), out)
	}
}
