package rewrite

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/python"
)

var (
	restoreLine = regexp.MustCompile(`(?m)^Detach-Restore: .*\n`)
	noticeText  = regexp.MustCompile(`(?s)[^\n]*:\n\n[^\n]* \(\d bytes\)\nhttps:.*#\w+`)
	noticePart  = regexp.MustCompile(`(?s)--\w\nContent-Type: text/plain; charset=utf-8\n.*#\w+\n`)
	wrapper     = regexp.MustCompile(`detach-[0-9a-f]{24}`)
	noticeHTML  = regexp.MustCompile(`(?s)<table.*</table>`)
)

// A multipart/mixed of which one part remains becomes that part. In these mails [pdf] is an
// attachment, and [notice] the notice.
func TestLonePartTakesThePlaceOfItsMultipart(t *testing.T) {
	faults.Covers(t, 71)
	const pdf = "Content-Type: application/pdf; name=a.pdf\n\nabc\n"
	for name, tt := range map[string]struct{ mail, want string }{
		"text": {
			"Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nX-Y: z\n\npreamble\n" +
				"--b\nContent-Type: text/plain;\n charset=utf-8\nX-Part: 1\n\nhi\n--b\n[pdf]--b--\nepilogue\n",
			"Subject: x\nMIME-Version: 1.0\nX-Y: z\nContent-Type: text/plain;\n charset=utf-8\n\nhi\n\n[notice]\n",
		},
		"the attachment first": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\n[pdf]--b\n\nhi\n--b--\n",
			"\nhi\n\n[notice]\n",
		},
		"fields about the body": {
			"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\nContent-ID: <all>\nContent-Language: en\nContent-Class: c\n\n" +
				"--b\nContent-Type:text/plain\ncontent-description:\n odd\nContent-Length: 2\n\nhi\n--b\n[pdf]--b--\n",
			"Content-Language: en\nContent-Class: c\nContent-Type: text/plain\ncontent-description: odd\n\nhi\n\n[notice]\n",
		},
		"language of the part": {
			"Content-Type: multipart/mixed; boundary=b\nContent-Language: de\n\n--b\nContent-Language: en\n\nhi\n--b\n[pdf]--b--\n",
			"Content-Language: en\n\nhi\n\n[notice]\n",
		},
		"alternative": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/alternative; boundary=c\n\npre\n--c\n\nhi\n--c\nContent-Type: text/html\n\nho\n--c--\npost\n--b\n[pdf]--b--\n",
			"Content-Type: multipart/alternative; boundary=c\n\npre\n--c\n\nhi\n\n[notice]\n--c\nContent-Type: text/html\n\nho\n[html]\n--c--\npost\n",
		},
		"mixed in mixed": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nX-B: 1\nContent-Type: multipart/mixed; boundary=c\n\n--c\n[pdf]--c\nContent-ID: <t>\n\nhi\n--c--\n--b\n[pdf]--b--\n",
			"Content-ID: <t>\n\nhi\n\n[notice]\n",
		},
		"only the inner one": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nX-B: 1\nContent-Type: multipart/mixed; boundary=c\n\n--c\nContent-ID: <t>\n\nhi\n--c\n[pdf]--c--\n\n--b\n\nho\n--b--\n",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nX-B: 1\nContent-ID: <t>\n\nhi\n\n[notice]\n--b\n\nho\n--b--\n",
		},
		"only the outer one": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\nhi\n--c\n\nho\n--c--\n--b\n[pdf]--b--\n",
			"Content-Type: multipart/mixed; boundary=c\n\n--c\n\nhi\n\n[notice]\n--c\n\nho\n--c--\n",
		},
		"mixed in alternative": {
			"Content-Type: multipart/alternative; boundary=b\n\n--b\n\nhi\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\nContent-Type: text/html\n\nho\n--c\n[pdf]--c--\n--b--\n",
			"Content-Type: multipart/alternative; boundary=b\n\n--b\n\nhi\n\n[notice]\n--b\nContent-Type: text/html\n\nho\n[html]\n--b--\n",
		},
		"signed": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhi\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\nContent-Type: multipart/signed; boundary=s\n\n--s\nA:\tb \n\nhi \n--s\n\nsig\n--s--\n\n--c\n[pdf]--c--\n--b--\n",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhi\n\n[notice]\n--b\nContent-Type: multipart/signed; boundary=s\n\n--s\nA:\tb \n\nhi \n--s\n\nsig\n--s--\n\n--b--\n",
		},
		"text above and below": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; charset=utf-8\n\nhi\n--b\n[pdf]--b\nContent-Type: text/plain; charset=us-ascii\nContent-Transfer-Encoding: 7bit\n\nbye\n--b--\n",
			"Content-Type: text/plain; charset=utf-8\n\nhi\n\n[notice]\n\nbye\n",
		},
		"texts in quoted-printable": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nh=C3=AF\n--b\n[pdf]--b\n\n\nbye\n--b--\n",
			"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nh=C3=AF\n\n[notice]\n\nbye\n",
		},
		"inner texts": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\nhi\n--c\n[pdf]--c\n\nbye\n--c--\n--b\n[pdf]--b--\n",
			"\nhi\n\n[notice]\n\nbye\n",
		},
		"inner texts that differ": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\nhi\n--c\n[pdf]--c\nContent-Type: text/html\n\nbye\n--c--\n--b\n[pdf]--b--\n",
			"Content-Type: multipart/mixed; boundary=c\n\n--c\n\nhi\n\n[notice]\n--c\nContent-Type: text/html\n\nbye\n[html]\n--c--\n",
		},
		"text without a body": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-ID: <t>\n\n--b\n[pdf]--b--\n",
			"Content-ID: <t>\n\n[notice]\n",
		},
		"nothing left": {
			"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\npre\n--b\n[pdf]--b--\npost\n",
			"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 7bit\n\n[notice]\n",
		},
		"another charset and encoding": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; charset=us-ascii\n\nhi\n--b\nContent-Type: application/pdf; name*=utf-8''%C3%A9.pdf\n\nabc\n--b--\n",
			"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nhi\n\n[notice]\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, eol := range []string{"\r\n", "\n"} {
				out, _ := outcome(t, strings.ReplaceAll(strings.ReplaceAll(tt.mail, "[pdf]", pdf), "\n", eol))
				if strings.Count(out, "\r\n") != 0 && strings.Count(out, "\n") != strings.Count(out, "\r\n") {
					t.Errorf("mixed line ends: %q", out)
				}
				got := restoreLine.ReplaceAllString(strings.NewReplacer("\r\n", "\n", "=\r\n", "", "=\n", "").Replace(out), "")
				got = noticeText.ReplaceAllString(noticeHTML.ReplaceAllString(got, "[html]"), "[notice]")
				if got != tt.want {
					t.Errorf("got\n%s\nwant\n%s", got, tt.want)
				}
			}
		})
	}
}

// A multipart stays if what is left of it is a file, or if mail programs may differ about it.
func TestDoubtfulLonePartStays(t *testing.T) {
	faults.Covers(t, 71)
	for name, header := range map[string]string{
		"two descriptions": "Content-Description: a\r\nContent-Description: b\r\n",
		"a long header":    "Content-Description: " + strings.Repeat("x", maxRaisedHeader) + "\r\n",
	} {
		out, _ := outcome(t, strings.Replace(multi(abc), "--b\r\n", "--b\r\n"+header, 1))
		if !strings.Contains(out, "\r\n--b\r\n"+header) || !strings.HasSuffix(out, "\r\n--b--\r\n") {
			t.Errorf("%s: got\n%s", name, out)
		}
	}
	for name, mail := range map[string]string{
		"another charset":   joined("Content-Type: text/plain; charset=utf-8\r\n\r\nh\xc3\xaf"),
		"another encoding":  joined("Content-Transfer-Encoding: quoted-printable\r\n\r\n1 =3D 1"),
		"base64":            joined("Content-Transfer-Encoding: base64\r\n\r\n" + abc),
		"flowed":            joined("Content-Type: text/plain; format=flowed\r\n\r\nho"),
		"text and HTML":     joined("Content-Type: text/html\r\n\r\nho"),
		"a soft line break": strings.Replace(joined("\r\nho"), "\r\n\r\nhi\r\n", "\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nhi=\r\n", 1),
		"a file":            strings.Replace(joined("Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n"+pdf(abc)+"--c\r\nContent-Type: text/plain; name=smime.p7m\r\nContent-Disposition: attachment\r\n\r\nho\r\n--c--"), "--b\r\n"+pdf(abc), "", 1),
		"not mixed":         strings.Replace(multi(abc), "mixed", "related", 1),
		"not closed":        strings.Replace(nest("c", "b"), "--b--\r\n", "", 1),
		"one part received": "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + strings.ReplaceAll(strings.Replace(multi(abc), "mixed; boundary=b", "related; boundary=c", 1), "--b", "--c") + "--b--\r\n",
	} {
		out, _ := outcome(t, mail)
		if !strings.Contains(out, "\r\n--b\r\n") {
			t.Errorf("%s: got\n%s", name, out)
		}
	}
}

// A notice that is a part of its own stands in a multipart/mixed, where mail programs show it.
func TestSeparateNoticeStandsInMixed(t *testing.T) {
	const related = "Content-Type: multipart/related; boundary=r\n\n--r\nContent-Type: text/html; charset=x-unknown\n\n<p>hi\n--r\n[pdf]--r--\n"
	const pdf, mixed = "Content-Type: application/pdf; name=a.pdf\n\nabc\n", "Content-Type: multipart/mixed; boundary=b\n\n--b\n"
	inner := strings.NewReplacer("boundary=b", "boundary=c", "--b", "--c").Replace(mixed)
	const wrapped = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"w\"\n\n--w\n"
	const left = "Content-Type: multipart/related; boundary=r\n\n--r\nContent-Type: text/html; charset=x-unknown\n\n<p>hi\n"
	for name, tt := range map[string]struct{ mail, want string }{
		"file in related, and in mixed": {mixed + related + "--b\n\nho\n--b\n[pdf]--b--\n", mixed + left + "--r--\n[notice]--b\n\nho\n--b--\n"},
		"file in related only":          {mixed + related + "--b--\n", mixed + left + "--r--\n[notice]--b--\n"},
		"no mixed":                      {"X: y\n" + related, "X: y\n" + wrapped + left + "--r--\n\n[notice]--w--\n"},
		"in the inner mixed": {mixed + inner + related + "--c--\n--b\n[pdf]--b--\n",
			inner + left + "--r--\n[notice]--c--\n"},
	} {
		out, _ := outcome(t, strings.ReplaceAll(tt.mail, "[pdf]", pdf))
		got := restoreLine.ReplaceAllString(out, "")
		got = noticePart.ReplaceAllString(wrapper.ReplaceAllString(got, "w"), "[notice]")
		if got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, tt.want)
		}
	}
}

// joined returns a mail with a text, an attachment, and a second text, whose header is in other.
func joined(other string) string {
	return strings.Replace(multi(abc), "--b--", "--b\r\n"+other+"\r\n--b--", 1)
}

// Python's email package finds the same parts in a rewritten mail as in the received one, without
// those that were detached. Texts, which may have the notice, are compared by their number.
func TestOtherParserFindsWhatIsLeft(t *testing.T) {
	faults.Covers(t, 70)
	py := python.Start(t)
	compared := 0
	corpus.Each(t, func(t *testing.T, mail []byte) {
		d := newMemory()
		got, m := mustRewrite(t, bytes.NewReader(mail), Policy{MinSize: 1}, d)
		if m.Stats().Detached == 0 {
			return
		}
		left := map[string]int{}
		for _, l := range leaves(t, py, mail) {
			if !strings.HasPrefix(l.Type, "text/") {
				left[l.SHA256]++
			}
		}
		for _, f := range d.attachments() {
			left[sum(f.content)] = max(0, left[sum(f.content)]-1)
		}
		for _, l := range leaves(t, py, got) {
			if !strings.HasPrefix(l.Type, "text/") {
				left[l.SHA256]--
			}
		}
		for sum, n := range left {
			if n != 0 {
				t.Errorf("part %s occurs %+d times more than after rewriting", sum, n)
			}
		}
		compared++
	})
	if compared < 200 {
		t.Errorf("%d mails compared, want at least 200", compared)
	}
}
