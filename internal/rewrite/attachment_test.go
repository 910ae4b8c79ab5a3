package rewrite

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// A part is detached if it is large enough and can be decoded to its very end. The sizes of reads
// make no difference, nor does the place of the damage.
func TestOutcomeDependsOnThePartAlone(t *testing.T) {
	const minSize = 3000
	damages := map[string]string{"base64": "\r\n\xff", "quoted-printable": "=X", "8bit": ""}
	for encoding, damage := range damages {
		for _, size := range []int{0, 1, minSize - 1, minSize, minSize + 1, 2 * minSize, scanBuffer - 100, scanBuffer + 1} {
			content := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
			body := encodeBody(encoding, content)
			good := encoded(encoding, body)
			alone := "Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n" + body
			enough := size >= minSize
			for name, tt := range map[string]struct {
				mail string
				want bool
			}{
				"good":                  {good, enough},
				"the whole message":     {alone, enough},
				"cut by the end":        {strings.TrimSuffix(good, "--b--\r\n"), enough && encoding == "base64"},
				"damaged at its end":    {encoded(encoding, body+damage), enough && damage == ""},
				"message, damaged":      {alone + damage, enough && damage == ""},
				"damaged in the middle": {encoded(encoding, body[:len(body)/2]+damage+body[len(body)/2:]), enough && damage == ""},
			} {
				if name == "damaged in the middle" && size < 2 {
					continue
				}
				for _, n := range []int{1, 2, 3, 77, 1 << 20} {
					if n < 77 && size > 2*minSize {
						continue
					}
					d := newMemory()
					got, m := mustRewrite(t, pieces{strings.NewReader(tt.mail), n}, Policy{MinSize: minSize, Restore: true}, d)
					what := encoding + " of " + strconv.Itoa(size) + ", " + name + ", reads of " + strconv.Itoa(n)
					files := d.attachments()
					if (len(files) == 1) != tt.want {
						t.Errorf("%s: detached %v, want %v", what, len(files) == 1, tt.want)
					}
					if len(files) == 1 && damage != "" && !bytes.Equal(files[0].content, content) {
						t.Errorf("%s: detached %d other bytes", what, len(files[0].content))
					}
					checkRestored(t, []byte(tt.mail), got, m, d)
				}
			}
		}
	}
}

// A part is detached only if every program decodes it to the same file. (Package transfer tests the
// layouts.)
func TestFilesAreExactOrKept(t *testing.T) {
	faults.Covers(t, 67)
	for _, name := range []string{"base64", "Base64", "BASE64", " base64 ", "base64 ", "\r\n base64"} {
		detached(t, encoded(name, abc), "abc")
	}
	for _, name := range []string{"base64 (comment)", "base-64", "bas64", "base64;", `"base64"`, "base64 base64", "x-unknown", "uuencode", "b", "quoted printable"} {
		untouched(t, encoded(name, abc))
	}
	for _, name := range []string{"7-bit", "8-bit", "8 bit", "7bits", "8bit;", "7bit (comment)", "binary;", "16bit", "utf-8", "plain", "none", "text/html"} {
		detached(t, encoded(name, abc), abc)
	}
	// Without the field a body is 7bit (RFC 2045 section 6.1), even if it looks like base64.
	detached(t, strings.Replace(multi(abc), "Content-Transfer-Encoding: base64\r\n", "", 1), abc)
	detached(t, encoded("", abc), abc)
	for body, want := range map[string]string{
		"YW!Jj": "abc", "YWI": "ab", "YQ": "a", "YWJj=": "abc", "YR==": "a", "YWJj\x00": "abc", "YW Jj": "abc", "YWJj\r\n>YWJj": "abcabc",
		"YWJj\r\n_______\r\n--": "abc", "YQ==\r\n-- ": "a", "YWJj\r\n====": "abc",
	} {
		detached(t, encoded("base64", body), want)
	}
	for _, body := range []string{
		"YWJjY", "Y=WJj", "YQ==YQ==", "YQ==\r\n\r\nYQ==", "YQ==\r\n_______\r\na list's footer", "YQ==\r\n-- \r\nsignature", "YWJj\xa0", "-_-_",
	} {
		untouched(t, encoded("base64", body))
	}
	for _, width := range []int{1, 4, 60, 61, 64, 72, 73, 76, 80, 998, 1 << 20} {
		content := strings.Repeat("all of it ", 1000)
		text, body := base64.StdEncoding.EncodeToString([]byte(content)), ""
		if width == 1 {
			text, content = text[:400], content[:300]
		}
		for ; len(text) > width; text = text[width:] {
			body += text[:width] + "\r\n"
		}
		detached(t, encoded("base64", body+text), content)
	}
	for body, want := range map[string]string{"a=\r\nb=3D": "ab=", "a=20\r\nb": "a \r\nb", "=C3=A9": "é", "a= \t\r\nb": "ab"} {
		detached(t, encoded("quoted-printable", body), want)
	}
	for _, body := range []string{"a=4", "a=\x00", "caf\xe9", "a \r\nb", "a=b=c", "\x89PNG\r\n\x1a\n"} {
		untouched(t, encoded("quoted-printable", body))
	}
	// On a multipart the field means nothing (RFC 2045 section 6.4).
	for _, name := range []string{"7bit", "8bit", "quoted-printable", "base64"} {
		detached(t, strings.Replace(multi(abc), "boundary=b\r\n", "boundary=b\r\nContent-Transfer-Encoding: "+name+"\r\n", 1), "abc")
	}
}

func TestSourceErrorComesBack(t *testing.T) {
	mail := mixed(200 << 10)
	for _, n := range []int{0, 10, 150, 400, 1000, 100_000, len(mail) - 3} {
		broken := io.MultiReader(bytes.NewReader(mail[:n]), iotest.ErrReader(io.ErrUnexpectedEOF))
		d := newMemory()
		_, _, err := rewriteAll(broken, Policy{MinSize: 1 << 10, Restore: true}, d)
		if source := new(SourceError); !errors.As(err, &source) {
			t.Errorf("source fails after %d bytes: got error %v, want a *SourceError", n, err)
		}
		if len(d.files) > 0 {
			t.Errorf("source fails after %d bytes: %d files stored", n, len(d.files))
		}
	}
}
