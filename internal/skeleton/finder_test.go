package skeleton

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/measure"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/race"
)

func inBase64(s string) string {
	return folded(base64.StdEncoding.EncodeToString([]byte(s)), 76, "\r\n") + "\r\n"
}

func inQuotedPrintable(t *testing.T, s string) string {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	_, err := io.WriteString(w, s)
	must.Succeed(t, err)
	must.Succeed(t, w.Close())
	return b.String()
}

func TestFieldsOfForwardedMailsAreFound(t *testing.T) {
	one, two := testLink(1), testLink(2)
	field := Field + ": " + one.URL()
	inner := "Received: from x\r\n\tby y\r\nSubject: x\r\n" + field + "\r\nX-Spam: no\r\n\r\nThe text, and https://files.example.org/other#z\r\n"
	const head = "Subject: Fwd: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee below\r\n--b\r\n"
	for name, tt := range map[string]struct {
		mail string
		want []link.Link
	}{
		"attached":                  {head + "Content-Type: message/rfc822\r\n\r\n" + inner + "--b--\r\n", []link.Link{one}},
		"attached in base64":        {head + "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + inBase64(inner) + "--b--\r\n", []link.Link{one}},
		"attached, twice in base64": {head + inBase64(head+inBase64(inner)+"--b--\r\n") + "--b--\r\n", []link.Link{one}},
		"in quoted-printable":       {head + inQuotedPrintable(t, inner) + "--b--\r\n", []link.Link{one}},
		"quoted in the text":        {"Subject: x\n\n> Subject: y\n> " + Field + ": " + one.URL() + "\n> \n> text\n", []link.Link{one}},
		"quoted and wrapped":        {"Subject: x\n\n> " + Field + ":\n> " + one.URL()[:50] + "\n> " + one.URL()[50:] + "\n> Subject: y\n", []link.Link{one}},
		"in HTML":                   {"\n\n<b>Detach-Restore:</b> <a href=\"" + one.URL() + "\">" + one.URL() + "</a><br>", []link.Link{one}},
		"in lower case":             {"\n\ndetach-restore: " + one.URL(), []link.Link{one}},
		"in encoded words":          {"\n\n" + Field + ": " + encodedWords(one.URL()) + "\r\nSubject: x\r\n\r\n", []link.Link{one}},
		"two mails":                 {head + inner + "--b\r\n" + strings.Replace(inner, one.URL(), two.URL(), 1) + "--b--\r\n", []link.Link{one, two}},
		"the same twice":            {head + inner + "--b\r\n" + inner + "--b--\r\n", []link.Link{one}},
		"far behind":                {head + strings.Repeat("filler\r\n", finderBuffer/8*3) + inner, []link.Link{one}},
		"far behind, in one line":   {head + strings.Repeat("filler ", finderBuffer/7*3) + field, []link.Link{one}},
		"no mail":                   {head + "text\r\n--b--\r\n", nil},
		"no link":                   {"\n\n" + Field + ": yes\n\nSee " + one.URL(), nil},
		"a word":                    {"\n\nThe field Detach-Restore is missing.\n\n" + one.URL(), nil},
	} {
		for way, r := range map[string]io.Reader{"at once": strings.NewReader(tt.mail), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.mail))} {
			f := NewFinder()
			_, err := io.Copy(f, r)
			must.Succeed(t, err)
			if got := f.Links(); !slices.Equal(got, tt.want) {
				t.Errorf("%s, %s: got %v, want %v", name, way, got, tt.want)
			}
		}
	}
}

// A field may stand at any place of the buffer.
func TestFieldsAreFoundAtEveryOffset(t *testing.T) {
	l := testLink(1)
	field := "\n" + Field + ": " + l.URL() + "\n\n"
	for shift := range 300 {
		before := finderBuffer - maxValue - 150 + shift
		f := NewFinder()
		fmt.Fprint(f, strings.Repeat("x\n", before/2), strings.Repeat("y", before%2), field, strings.Repeat("z\n", finderBuffer))
		if got := f.Links(); !slices.Equal(got, []link.Link{l}) {
			t.Fatalf("after %d bytes: got %v", before, got)
		}
	}
}

// The worst mails have the field's name everywhere. The bound is far above what they take, and far
// below what each name would take alone.
func TestFinderIsBounded(t *testing.T) {
	size := 10 << 20
	if race.Enabled {
		size /= 10
	}
	for name, line := range map[string]string{"fields": Field + ": " + testLink(1).URL() + "\n", "names": Field, "escapes": Field + "%252525", "base64": inBase64(Field + Field + Field)} {
		f := NewFinder()
		begun := measure.CPU()
		for n := 0; n < size; n += 100 * len(line) {
			_, _ = f.Write(bytes.Repeat([]byte(line), 100))
		}
		found := len(f.Links())
		took := measure.CPU() - begun
		t.Logf("%s: %d links in %v", name, found, took)
		if took > 30*time.Second || cap(f.buf) > 2*finderBuffer || cap(f.inner.buf) > 2*finderBuffer {
			t.Errorf("%s: took %v, and buffers of %d and %d bytes", name, took, cap(f.buf), cap(f.inner.buf))
		}
	}
}
