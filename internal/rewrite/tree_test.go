package rewrite

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// An arranged mail is written as its structure (see arrange), as is what is left of it. files has
// the contents of the detached parts.
type arranged struct{ mail, left, files string }

// samples are the parts of arranged mails. A file's content is its letter, so that no two are
// equal.
var samples = map[byte]string{
	't': "Content-Type: text/plain\n\nHello",
	'h': "Content-Type: text/html\n\n<p>Hello</p>",
	'_': "Content-Type: text/plain\nContent-Description: empty\n\n",
	'-': "Content-Type: text/html\nContent-Description: empty\n\n",
	'e': "Content-Type: text/enriched\n\n<bold>Hello</bold>",
	'u': "Content-Type: text/html; charset=x-unknown\n\n<p>Hello</p>",
	'U': "Content-Type: text/plain\nContent-Disposition: =?utf-8?Q?invalid?=\n\nU",
	'p': "Content-Type: application/pdf; name=p.pdf\n\np",
	'P': "Content-Type: application/pdf; name=P.pdf\nContent-Disposition: attachment\n\nP",
	'l': "Content-Type: text/plain; name=l.log\nContent-Disposition: attachment\n\nl",
	'L': "Content-Type: text/html; name=l.html\nContent-Disposition: attachment\n\nL",
	'n': "Content-Type: text/plain; name=n.txt\nContent-Disposition: inline\n\nn",
	'd': "Content-Type: text/plain; name=d.doc\n\nd",
	'b': "Content-Type: text/plain; name=\" \"\nContent-Disposition: inline\n\nb",
	'y': "Content-Type: text/plain\n\n\xd0\xcf\x11\xe0\x00\x00y",
	'o': "Content-Type: charset=binary; name=o.jpg\n\no",
	'N': "Content-Disposition: inline; filename=N.jpg\n\nN",
	'm': "Content-Type: application/octet-stream; name=smime.p7m\n\nm",
	'w': "Content-Type: application/octet-stream; name=Winmail.dat\n\nw",
	'v': "Content-Type: application/pgp-encrypted\n\nVersion: 1",
	'c': "Content-Type: application/octet-stream; name=any.bin\n\nc",
	'a': "Content-Type: application/octet-stream; name=encrypted.asc\n\na",
	'A': "Content-Type: application/octet-stream\n\n-----BEGIN PGP MESSAGE-----\n\nA\n-----END PGP MESSAGE-----",
	's': "Content-Type: application/pgp-signature; name=signature.asc\n\ns",
	'S': "Content-Type: application/octet-stream; name=smime.p7s\n\nS",
	'q': "Content-Type: application/pgp-signature; name=p.pdf.asc\n\nq",
	'Q': "Content-Type: application/octet-stream; name=p.pdf.sig\n\nQ",
	'i': "Content-Type: image/png\nContent-ID: <i>\n\ni",
	'I': "Content-Type: text/html\n\n<img src=\"cid:i\">",
	'j': "Content-Type: image/png; name=j.png\n\nj",
	'J': "Content-Type: text/html\n\n<img src=\"j.png\">",
	'k': "Content-Type: text/calendar\n\nBEGIN:VCALENDAR",
	'K': "Content-Type: application/ics; name=k.ics\n\nK",
	'f': "Content-Type: message/rfc822\n\nSubject: x\n\nf",
	'x': "Content-Type: text/rfc822-headers; name=x.txt\n\nSubject: x",
	'z': "Content-Type: application/autocrypt-setup\nContent-Disposition: attachment\n\nz",
}

var subtypes = map[byte]string{'[': "mixed", '{': "alternative", '<': "related"}

// arrange writes a mail. A bracket opens a mixed, a brace an alternative, and < a related; the
// mirrored one closes it.
func arrange(structure string) string {
	at := 0
	var part func() string
	part = func() string {
		c := structure[at]
		at++
		subtype, open := subtypes[c]
		if !open {
			return samples[c] + "\n"
		}
		boundary := subtype + strings.Repeat("x", at)
		s := "Content-Type: multipart/" + subtype + "; boundary=" + boundary + "\n\n"
		for structure[at] != ']' && structure[at] != '}' && structure[at] != '>' {
			s += "--" + boundary + "\n" + part()
		}
		at++
		return s + "--" + boundary + "--\n"
	}
	return part()
}

// shorthand writes the structure of a mail as arrange reads it. A notice that is a part of its own
// is "*", and * follows each text that has the notice.
func (n *node) shorthand() string {
	kind := n.field("Content-Type")
	for c, subtype := range subtypes {
		if strings.HasPrefix(kind, "multipart/"+subtype) {
			s := string(c)
			for _, p := range n.parts {
				s += p.shorthand()
			}
			return s + string(map[byte]byte{'[': ']', '{': '}', '<': '>'}[c])
		}
	}
	body, _ := n.decoded()
	own := ""
	if strings.Contains(body, anyLink) {
		own = "*"
	}
	for c, sample := range samples {
		header, content, _ := strings.Cut(sample, "\n\n")
		if strings.Contains("\n"+n.header, "\n"+header+"\n") && strings.HasPrefix(body, content) {
			return string(c) + own
		}
	}
	return own
}

// checkArranged rewrites arranged mails.
func checkArranged(t *testing.T, mails []arranged) {
	t.Helper()
	for _, tt := range mails {
		out, files := outcome(t, arrange(tt.mail))
		var names []byte
		for _, f := range files {
			names = append(names, bytes.TrimSpace(f.content)...)
		}
		slices.Sort(names)
		if got := cutMail("", out).shorthand(); got != tt.left || string(names) != tt.files {
			t.Errorf("%s became %s without %q, want %s without %q", tt.mail, got, names, tt.left, tt.files)
		}
	}
}

// A part with the disposition attachment is a file, wherever it stands, and so is one with a file
// name and no type. The notice is in no file.
func TestFilesAreNotTakenForTexts(t *testing.T) {
	faults.Covers(t, 73)
	checkArranged(t, []arranged{
		{"[lt]", "t*", "l"},
		{"[lp]", "*", "lp"},
		{"[LhP]", "h*", "LP"},
		{"{tP}", "{t*}", "P"},
		{"{thp}", "{thp}", ""}, // a rendering
		{"[{thL}p]", "{t*h*}", "Lp"},
		{"l", "*", "l"},
		{"L", "*", "L"},
		{"n", "n", ""},
		{"d", "*", "d"},
		{"o", "*", "o"},
		{"[op]", "*", "op"},
		{"[tN]", "t*", "N"},
		{"[dd]", "*", "dd"},
		{"[bp]", "b*", "p"},
		{"[tbp]", "[t*b]", "p"},
		{"[hnp]", "h*", "np"},
		{"[np]", "[*n]", "p"}, // programs show it as the text, but it may be a file
		{"[ntp]", "[nt*]", "p"},
		{"{nh}", "{nh}", ""},
		{"[{nh}p]", "{n*h*}", "p"},
		{"[<np>p]", "<n*>", "pp"},
		{"[yp]", "[y*]", "p"},
		{"[fp]", "[*f]", "p"},
		{"[xp]", "[*x]", "p"},
		{"[tzp]", "[t*z]", "p"},
	})
}

func TestFileWithoutTypeIsBytes(t *testing.T) {
	for _, header := range []string{
		"Content-Disposition: attachment", "Content-Disposition: inline; filename=a.txt", "Content-Type: garbage; name=a.txt",
		"Content-Type: charset=binary\r\nContent-Disposition: attachment", "Content-Type: ; name=a.txt", "Content-Type: text; name=a.txt",
	} {
		d := newMemory()
		mustRewrite(t, strings.NewReader(multipart("mixed", "\r\nHello", header+"\r\n\r\nx")), Policy{MinSize: 1}, d)
		if f := d.attachments(); len(f) != 1 || f[0].mediaType != "application/octet-stream" {
			t.Errorf("%q: detached %+v, want one application/octet-stream", header, f)
		}
	}
}

// A name or a type that is for files makes a part a file although it stands in the place of the
// text. Data stays if the sender says that it is to be shown, or if it is the whole mail.
func TestNamedFilesAreNotTakenForTheText(t *testing.T) {
	faults.Covers(t, 73)
	for header, gone := range map[string]bool{
		"Content-Type: text/plain; name=plan.dwg":                                 true,
		"Content-Type: text/html; name=plan.bin\r\nContent-Disposition: inline":   true,
		"Content-Type: text/plain; name=order.xml":                                true,
		"Content-Type: text/plain; name=order.XML\r\nContent-Disposition: inline": false,
		"Content-Type: text/plain; name=letter.txt":                               false,
		"Content-Type: text/plain; name=\"Minutes, 12. May\"":                     false,
	} {
		d := newMemory()
		mustRewrite(t, strings.NewReader(multipart("mixed", header+"\r\n\r\nx", "\r\nHello")), Policy{MinSize: 1}, d)
		if got := len(d.attachments()) == 1; got != gone {
			t.Errorf("%q: detached %t, want %t", header, got, gone)
		}
	}
	untouched(t, "Content-Type: text/plain; name=order.xml\r\n\r\nHello\r\n")
}

// A message that calls itself an attachment is shown.
func TestMessageWithADispositionIsShown(t *testing.T) {
	mail := "Content-Disposition: attachment\r\n" + multi(abc)
	if out := detached(t, mail, "abc"); strings.Count(out, "Content-Type") > 1 {
		t.Errorf("the notice is a part of its own:\n%s", out)
	}
}

// A part is kept if its name or the parts beside it show that it is signed or encrypted, though its
// type does not say so.
func TestSignedWithoutSayingSo(t *testing.T) {
	faults.Covers(t, 57)
	checkArranged(t, []arranged{
		{"m", "m", ""},
		{"[tmp]", "[t*m]", "p"},
		{"[twp]", "[t*w]", "p"},
		{"a", "a", ""},
		{"A", "A", ""},
		{"[tA]", "[tA]", ""},
		{"[ta]", "[ta]", ""},
		{"[tvc]", "[tvc]", ""},
		{"[vc]", "[vc]", ""},
		{"[cv]", "[cv]", ""},
		{"[tcv]", "[tcv]", ""},
		{"[[tvc]p]", "[[tvc]*]", "p"},
		{"[t[cv]p]", "[t*[cv]]", "p"},
		{"<tvc>", "<tvc>", ""},
		{"[[tp]s]", "[[tp]s]", ""},
		{"[[tp]S]", "[[tp]S]", ""},
		{"[[[tp]s]P]", "[[[tp]s]*]", "P"},
		{"[t[{th}P]sc]", "[t[{th}P]sc]", ""},
	})
}

// Names and types that gateways leave, when a signature or ciphertext has lost its own.
func TestSignedByItsNameOrParameters(t *testing.T) {
	faults.Covers(t, 57)
	for _, name := range []string{"signature.asc", "OpenPGP_signature.asc", "OpenPGP_signature", "smime.p7s"} {
		signature := "Content-Type: application/octet-stream; name=" + name + "\r\n\r\nx"
		untouched(t, multipart("mixed", "\r\nHello", "Content-Type: application/pdf; name=a.pdf\r\n\r\nx", signature))
	}
	untouched(t, "Content-Type: application/octet-stream; smime-type=enveloped-data\r\n\r\nx\r\n")
	for _, name := range []string{"noname", "attachment.asc", "unnamed"} {
		armor := "\r\n\r\n" + pgpMessage + "\r\n\r\nx\r\n-----END PGP MESSAGE-----\r\n"
		untouched(t, multipart("mixed", "\r\n", "Content-Type: application/octet-stream; name="+name+armor))
	}
}

// A file and its detached signature stay together.
func TestFileAndItsSignatureStayTogether(t *testing.T) {
	faults.Covers(t, 57)
	checkArranged(t, []arranged{
		{"[tpq]", "t*", "pq"},
		{"[tpQ]", "t*", "Qp"},
		{"[tqp]", "[tqp]", ""},
		{"[tqpP]", "[t*qp]", "P"},
		{"[tPq]", "[t*q]", "P"}, // the signature of something else
	})
	// The signature is too small to go alone, and the file is large enough.
	large := strings.Replace(arrange("[tpQ]"), "\np\n", "\n"+strings.Repeat("p", 2000)+"\n", 1)
	d := newMemory()
	if mustRewrite(t, strings.NewReader(large), Policy{MinSize: 1000}, d); len(d.attachments()) != 2 {
		t.Errorf("%d detached, want the file and its signature", len(d.attachments()))
	}
	// The signature cannot be decoded, so it stays, and the file stays with it.
	damaged := strings.Replace(arrange("[tpQ]"), "name=p.pdf.sig\n", "name=p.pdf.sig\nContent-Transfer-Encoding: base64\n", 1)
	untouched(t, damaged)
}

// A picture stays if any HTML of the mail refers to it, in whichever order they come.
func TestLaterTextsReferToEarlierParts(t *testing.T) {
	faults.Covers(t, 73)
	checkArranged(t, []arranged{
		{"[iI]", "[iI]", ""},
		{"[iIp]", "[iI*]", "p"},
		{"[hip]", "h*", "ip"},
		{"[jJ]", "[jJ]", ""},
		{"[hiI]", "[hiI]", ""},
		{"[hpiI]", "[h*iI]", "p"},
		{"<iI>", "<iI>", ""},
		{"<hi>", "<h*>", "i"},
		{"{t[hpIi]}", "{t*[h*Ii]}", "p"},
		{"[Kk]", "[Kk]", ""},
		{"[t{tk}K]", "[t{tk}K]", ""},
		{"[tK]", "t*", "K"},
	})
}

// A part that is not read may refer to any picture.
func TestPicturesStayBesideWhatIsNotRead(t *testing.T) {
	const picture = "\r\nContent-Type: image/png\r\nContent-ID: <i>\r\n\r\ni\r\n"
	for name, part := range map[string]string{
		"boundary that stands twice": "Content-Type: multipart/mixed; boundary=c; boundary=d\r\n\r\n--c\r\n\r\nHello\r\n--c--\r\n",
		"header that is no header":   "Content-Type\r\n\r\nHello\r\n",
		"beside a PGP message": "Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: application/pgp-encrypted\r\n\r\nx\r\n" +
			"--c\r\nContent-Type: text/html\r\n\r\n<img src=cid:i>\r\n--c--\r\n",
	} {
		for _, mail := range []string{"--b" + picture + "--b\r\n" + part, "--b\r\n" + part + "--b" + picture} {
			t.Run(name, func(t *testing.T) {
				detached(t, "Content-Type: multipart/mixed; boundary=b\r\n\r\n"+mail+"--b\r\n"+pdf(abc)+"--b--\r\n", "abc")
			})
		}
	}
	// A signed text may refer to the parts that are signed with it.
	signed := "--b\r\nContent-Type: multipart/signed; boundary=c\r\n\r\n--c\r\n\r\nHello\r\n--c\r\n\r\nx\r\n--c--\r\n"
	detached(t, "Content-Type: multipart/mixed; boundary=b\r\n\r\n"+signed+"--b"+picture+"--b--\r\n", "i")
}

// The notice stands in every rendering that mail programs may show, or else in a part that all of
// them show.
func TestNoticeIsInEveryRendering(t *testing.T) {
	faults.Covers(t, 69)
	checkArranged(t, []arranged{
		{"[thp]", "[t*h*]", "p"},
		{"[htp]", "[h*t]", "p"},
		{"[tth]", "[tth]", ""},
		{"[tthp]", "[t*th*]", "p"},
		{"[{th}hp]", "[{t*h*}h]", "p"},
		{"[t<hi>p]", "[t*<h*>]", "ip"},
		{"[{thh}p]", "{t*h*h*}", "p"},
		{"[{t-}p]", "[{t-}*]", "p"},
		{"[{t-h}p]", "[{t-h}*]", "p"},
		{"[{_h}p]", "{_*h*}", "p"},
		{"[{_-}p]", "{_*-*}", "p"},
		{"[{te}p]", "[{te}*]", "p"},
		{"[tup]", "[tu*]", "p"},
		{"[ep]", "[e*]", "p"},
		{"[<ui>p]", "[<u>*]", "ip"},
		{"[Up]", "[U*]", "p"},
		{"<up>", "[<u>*]", "p"},
		{"{t<up>}", "[{t<u>}*]", "p"},
		{"{t[up]}", "[{tu}*]", "p"},
		{"[{t[up]}]", "[{tu}*]", "p"},
		{"[{tk}p]", "{t*k}", "p"},
		{"[{tIi}p]", "{t*I*i}", "p"},
		{"[{thp}p]", "[{thp}*]", "p"},
		{"<pP>", "*", "Pp"},
		{"<fp>", "[*<f>]", "p"},
		{"<thp>", "<t*h*>", "p"},
		{"<[cv]tp>", "[<[cv]t>*]", "p"},
	})
}

// A message that becomes a part keeps its fields about the body, and loses none of the others.
func TestWrappedMessage(t *testing.T) {
	mail := "From: a@example.org\r\nContent-Transfer-Encoding: 8bit\r\nContent-Length: 9\r\nContent-Language: de\r\nX: y\r\n" +
		"Content-Type: multipart/related;\r\n boundary=b\r\n\r\n--b\r\nContent-Type: text/html; charset=x-unknown\r\n\r\n\xff\r\n--b\r\n" + pdf(abc) + "--b--"
	out := detached(t, mail, "abc")
	for _, want := range []string{
		"From: a@example.org\r\nContent-Language: de\r\nX: y\r\n",
		"\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--detach-",
		"\r\nContent-Transfer-Encoding: 8bit\r\nContent-Type: multipart/related;\r\n boundary=b\r\n\r\n--b\r\n",
		"\r\n--b--\r\n--detach-",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

// Without memory for the tree the rest of the mail stays.
func TestTreeTakesMemoryOfTheBudget(t *testing.T) {
	faults.Covers(t, 64)
	parts := slicesOf("\r\nHello", 1000)
	mail := multipart("mixed", append(append([]string{pdfPart + "QUJD"}, parts...), pdfPart+"QUJD")...)
	for size, want := range map[int64]int{0: 1, 64 << 20: 2} {
		policy := Policy{MinSize: 1, Language: "en", Restore: true, Space: space(t, size)}
		d := newMemory()
		out, m := mustRewrite(t, strings.NewReader(mail), policy, d)
		if m.Stats().Detached != want {
			t.Errorf("budget %d: %d detached, want %d", size, m.Stats().Detached, want)
		}
		checkRestored(t, []byte(mail), out, m, d)
		wantNothingTaken(t, policy.Space)
	}
}

// A part whose encoded form cannot be read back at the end of the mail stays, if a text may refer
// to it.
func TestOddPartThatATextMayReferToStays(t *testing.T) {
	_, body := oddQuoted(300 << 10)
	odd := "Content-Type: text/css; name=a.css\r\nContent-Transfer-Encoding: quoted-printable\r\n"
	html := "Content-Type: text/html\r\n\r\n<link href=cid:a>"
	for id, want := range map[string]int{"": 1, "Content-ID: <a>\r\n": 0, "Content-ID: <b>\r\n": 0} {
		mail := multipart("mixed", odd+id+"\r\n"+body, html)
		d := newMemory()
		out, m := mustRewrite(t, strings.NewReader(mail), Policy{MinSize: 1, Language: "en", Restore: true}, d)
		checkRestored(t, []byte(mail), out, m, d)
		if n := len(d.attachments()); n != want {
			t.Errorf("%q: %d detached, want %d", id, n, want)
		}
	}
}

// Parts that go back into the mail leave nothing in the store.
func TestPartsThatGoBackAreDropped(t *testing.T) {
	content := bytes.Repeat([]byte("a picture\n"), 50_000)
	picture := "Content-Type: image/png\r\nContent-ID: <i>\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encodeBody("base64", content)
	for _, size := range []int64{0, 64 << 20} {
		policy := Policy{MinSize: 1, Language: "en", Restore: true, Space: space(t, size)}
		mail := multipart("mixed", picture, "Content-Type: text/html\r\n\r\n<img src=cid:i>", picture, pdfPart+"QUJD", strings.ReplaceAll(picture, "<i>", "<j>"))
		d := newMemory()
		out, m := mustRewrite(t, strings.NewReader(mail), policy, d)
		checkRestored(t, []byte(mail), out, m, d)
		if got := d.attachments(); len(got) != 2 || m.Stats().Detached != 2 {
			t.Errorf("budget %d: %d files are stored, want 2", size, len(got))
		}
		if n := strings.Count(string(out), encodeBody("base64", content)); n != 2 {
			t.Errorf("budget %d: %d pictures are left, want 2", size, n)
		}
		wantNothingTaken(t, policy.Space)
		alone := multipart("mixed", picture, "Content-Type: text/html\r\n\r\n<img src=cid:i>")
		d = newMemory()
		if out, _ := mustRewrite(t, strings.NewReader(alone), policy, d); string(out) != alone || len(d.files) != 0 {
			t.Errorf("budget %d: %d bytes and %d files, want the mail", size, len(out), len(d.files))
		}
	}
}

// asideSamples are those that mail programs show beside the other parts of an alternative.
const asideSamples = "PlLkKizj"

// misses reports whether a mail program may show a mail and not its notice. It takes the mail as
// shorthand writes it, from at on, and returns the index behind it, and whether it has a text.
func misses(s string, at int) (missed, hasText bool, end int) {
	c := s[at]
	at++
	if _, open := subtypes[c]; !open {
		if c == '*' {
			return false, true, at
		}
		if at < len(s) && s[at] == '*' && !own(s, at) {
			return false, true, at + 1
		}
		return true, strings.IndexByte("th_-ebIJ", c) >= 0, at
	}
	missed = c != '{'
	shown := false
	for s[at] != ']' && s[at] != '}' && s[at] != '>' {
		aside := strings.IndexByte(asideSamples, s[at]) >= 0
		m, text, next := misses(s, at)
		at = next
		switch {
		case c == '{' && !aside:
			missed, shown = missed || m, true
		case c == '[', c == '<' && text && !hasText:
			missed = missed && m
		}
		hasText = hasText || text
	}
	return missed || c == '{' && !shown, hasText, at + 1
}

// own reports whether the * at an index is a part and not the mark of the one before it.
func own(s string, at int) bool { return strings.IndexByte("th_-bnIyJ", s[at-1]) < 0 }

// Mails of any structure are restored, and every way to show them shows the notice.
func TestAnyStructure(t *testing.T) {
	faults.Covers(t, 69, 74)
	rnd := rand.New(rand.NewPCG(1, 2))
	letters := slices.Sorted(maps.Keys(samples))
	var structure func(depth int) string
	structure = func(depth int) string {
		if depth > 3 || rnd.IntN(3) > 0 && depth > 0 {
			return string(letters[rnd.IntN(len(letters))])
		}
		pair := []string{"[]", "[]", "{}", "<>"}[rnd.IntN(4)]
		s := pair[:1]
		for range 1 + rnd.IntN(4) {
			s += structure(depth + 1)
		}
		return s + pair[1:]
	}
	rewritten := 0
	for range 3000 {
		mail := arrange(structure(0))
		d := newMemory()
		got, m := mustRewrite(t, strings.NewReader(mail), Policy{MinSize: 1, Language: "en", Restore: true}, d)
		checkRestored(t, []byte(mail), got, m, d)
		if m.Stats().Detached == 0 {
			continue
		}
		rewritten++
		left := cutMail("", string(got)).shorthand()
		if missed, _, _ := misses(left, 0); missed {
			t.Errorf("%s became %s", cutMail("", mail).shorthand(), left)
		}
	}
	if rewritten < 1000 {
		t.Errorf("%d mails were rewritten, want at least 1000", rewritten)
	}
}
