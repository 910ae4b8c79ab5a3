package transfer

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"mime/quotedprintable"
	"regexp"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// decodeIn decodes text in pieces of size bytes. rest is damaged and was not decoded.
func decodeIn(tr Decoder, text []byte, size int) (decoded, rest []byte, err error) {
	for len(text) > 0 {
		n := min(size, len(text))
		if decoded, err = tr.Decode(decoded, text[:n]); err != nil {
			return decoded, text, err
		}
		text = text[n:]
	}
	decoded, err = tr.Finish(decoded, true)
	return decoded, nil, err
}

// roundTrip checks that encoding the decoded bytes in their layout gives text again, in whatever
// pieces the text is decoded, and also if decoding stopped halfway.
func roundTrip(t *testing.T, encoding string, text []byte) (decoded []byte, ok bool) {
	t.Helper()
	return roundTripOf(t, func() Decoder { return NewExact(encoding, nil) }, text)
}

func roundTripOf(t *testing.T, decoder func() Decoder, text []byte) (decoded []byte, ok bool) {
	t.Helper()
	for _, size := range []int{1, 3, 78, 4096, len(text) + 1} {
		tr := decoder()
		d, rest, err := decodeIn(tr, text, size)
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		var again bytes.Buffer
		l, encoded := tr.Layout(), io.Reader(bytes.NewReader(d))
		if l.Encoding == Encoded {
			encoded = tr.Encoded()
		}
		if err := l.Encode(&again, encoded); err != nil {
			t.Fatalf("pieces of %d: encode: %v", size, err)
		}
		again.Write(rest)
		if !bytes.Equal(again.Bytes(), text) {
			t.Fatalf("pieces of %d: got %.200q, want %.200q", size, again.Bytes(), text)
		}
		must.Succeed(t, tr.Close())
		if size > 1 && (err == nil) != ok {
			t.Fatalf("pieces of %d: damaged %v, byte by byte %v", size, err != nil, !ok)
		}
		decoded, ok = d, err == nil
	}
	return decoded, ok
}

func TestBase64IsExactOrDamaged(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789abcdef"), 5000)
	lines := func(width int, eol string) string {
		var b strings.Builder
		for s := base64.StdEncoding.EncodeToString(long); s != ""; {
			n := min(width, len(s))
			b.WriteString(s[:n] + eol)
			s = s[n:]
		}
		return b.String()
	}
	for _, tt := range []struct {
		name, in, want string
		damaged        bool
	}{
		{name: "empty", in: "\r\n"},
		{name: "one byte", in: "YQ==\r\n", want: "a"},
		{name: "two bytes", in: "YWI=\r\n", want: "ab"},
		{name: "three bytes, no line end", in: "YWJj", want: "abc"},
		{name: "padding ends many lines", in: "QUJD\r\nQUJD\r\nQUI=\r\n", want: "ABCABCAB"},
		{name: "padding in one of many lines", in: "QUJD\r\nQUJD\r\nQUI=\r\nQUJD\r\n", damaged: true},
		{name: "CR in one of many lines", in: "QUJD\r\nQUJD\r\nQU\rJD\r\nQUJD\r\n", want: "ABCABCABCABC"},
		{name: "blank in one of many lines", in: "QUJD\r\nQUJD\r\nQU JD\r\nQUJD\r\n", want: "ABCABCABCABC"},
		{name: "a short group in one of many lines", in: "QUJD\r\nQUJD\r\nQUJ\r\nQUJD\r\n", want: "ABCABCABPP\x90"},
		{name: "blanks at the end of many lines", in: "QUJD \r\nQUJD \r\nQUJD \r\n", want: "ABCABCABC"},
		{name: "blanks at the start of many lines", in: lines(60, "\r\n\t"), want: string(long)},
		{name: "quoted lines", in: "> " + lines(76, "\r\n> "), want: string(long)},
		{name: "groups with blanks", in: lines(4, " "), want: string(long)},
		{name: "groups with equals signs", in: strings.TrimRight(lines(4, "=\r\n"), "=\r\n"), want: string(long)},
		{name: "another line end among many lines", in: "QUJD\r\nQUJD\r\nQUJD\nQUJD\r\nQUJD\r\n", want: "ABCABCABCABCABC"},
		{name: "a longer line among many lines", in: "QUJD\r\nQUJD\r\nQUJDQUJD\r\nQUJD\r\nQUJD\r\n", want: "ABCABCABCABCABCABC"},
		{name: "lines of 60", in: lines(60, "\r\n"), want: string(long)},
		{name: "lines of 73", in: lines(73, "\r\n"), want: string(long)},
		{name: "lines of 76", in: lines(76, "\r\n"), want: string(long)},
		{name: "lines of 1", in: lines(1, "\r\n"), want: string(long)},
		{name: "one line", in: lines(1<<20, "\r\n"), want: string(long)},
		{name: "line feeds", in: lines(76, "\n"), want: string(long)},
		{name: "CRs", in: lines(76, "\r"), want: string(long)},
		{name: "blanks at line ends", in: lines(76, " \t\r\n"), want: string(long)},
		{name: "empty lines", in: "YWJj\r\n\r\n\r\nYWJj\r\n\r\n", want: "abcabc"},
		{name: "many empty lines", in: "YWJj" + strings.Repeat("\r\n", 100) + "YWJj" + strings.Repeat(" \r\n", 100), want: "abcabc"},
		{name: "quantum across lines", in: "YW\r\nJj\r\n", want: "abc"},
		{name: "blank within a line", in: "YW Jj\r\n", want: "abc"},
		{name: "padding left out, two bytes", in: "YWI\r\n", want: "ab"},
		{name: "padding left out, one byte", in: "YWJjYQ\r\n\r\n", want: "abca"},
		{name: "half of the padding left out", in: "YQ=\r\n", want: "a"},
		{name: "padding on the next line", in: "YQ\r\n=\r\n=", want: "a"},
		{name: "one character more", in: "YWJjY\r\n", damaged: true},
		{name: "one character more, padded", in: "YWJjY===\r\n", damaged: true},
		{name: "padding in the middle", in: "YQ==\r\nYQ==\r\n", damaged: true},
		{name: "half a padding in the middle", in: "YQ=\r\nYQ==\r\n", damaged: true},
		{name: "footer after whole groups", in: "YWJj\r\n_____\r\nlist\r\n", want: "abc\x96\x2b\x2d"},
		{name: "footer after the padding", in: "YQ==\r\n_____\r\nlist\r\n", damaged: true},
		{name: "line after the padding", in: "YQ==\r\n_____\r\n--\r\n", want: "a"},
		{name: "other characters", in: "YW!J*j\r\n<\x00YWJj\x7f\r\n", want: "abcabc"},
		{name: "8-bit", in: "YWJj\r\n\xff\r\n", damaged: true},
		{name: "other bits before the padding, one byte", in: "YR==\r\n", want: "a"},
		{name: "other bits before the padding, two bytes", in: "YWJjYWJ=\r\n", want: "abcab"},
		{name: "other bits, padding left out", in: "YR", want: "a"},
		{name: "too much padding", in: "YQ===\r\n", want: "a"},
		{name: "padding after whole groups", in: "YWJj\r\n====\r\n", want: "abc"},
		{name: "padding alone", in: "====\r\n", want: ""},
		{name: "bare CR within", in: "YW\rJj\r\n", want: "abc"},
		{name: "too long a line end", in: "YWJj" + strings.Repeat("*", MaxLineEnd+1), damaged: true},
		{name: "too many runs", in: irregularLines(MaxRuns + 2), damaged: true},
	} {
		t.Run(tt.name, func(t *testing.T) { checkDecoded(t, "base64", tt.in, tt.want, tt.damaged) })
	}
}

// irregularLines returns lines of which each is longer than the one before.
func irregularLines(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat("QUJD", 1+i) + "\r\n")
	}
	return b.String()
}

func checkDecoded(t *testing.T, encoding, in, want string, damaged bool) {
	t.Helper()
	got, ok := roundTrip(t, encoding, []byte(in))
	if ok == damaged || ok && string(got) != want {
		t.Errorf("got %.200q, damaged %v; want %.200q, damaged %v", got, !ok, want, damaged)
	}
}

func TestBase64LayoutIsSmall(t *testing.T) {
	tr := NewExact("base64", nil)
	text := EncodeBase64(make([]byte, 8<<20), "\r\n")
	_, _, err := decodeIn(tr, text, 64<<10)
	must.Succeed(t, err)
	if n := len(tr.Layout().Lines); n > 2 {
		t.Errorf("%d runs for lines of the same length, want at most 2", n)
	}
}

func TestQuotedPrintableIsExactOrDamaged(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
		damaged        bool
	}{
		{name: "text", in: "a,b\r\nc,d\r\n", want: "a,b\r\nc,d"},
		{name: "no line end", in: "a,b", want: "a,b"},
		{name: "escapes", in: "=C3=A9=c3=a9\r\n", want: "éé"},
		{name: "soft breaks", in: "ab=\r\ncd= \t\r\ne\r\n", want: "abcde"},
		{name: "soft break at the end", in: "ab=\r\n", want: "ab"},
		{name: "soft break alone on the last line", in: "ab\r\n=\r\n", want: "ab\r\n"},
		{name: "escaped blank at the end of a line", in: "ab=20\r\ncd\r\n", want: "ab \r\ncd"},
		{name: "blanks within", in: "a b\tc\r\n", want: "a b\tc"},
		{name: "line feeds", in: "a\nb\n", want: "a\nb"},
		{name: "blank at the end of a line", in: "a \r\nb\r\n", damaged: true},
		{name: "blank at the very end", in: "a ", damaged: true},
		{name: "not hexadecimal", in: "a=XYb\r\n", damaged: true},
		{name: "equals sign alone", in: "a = b\r\n", damaged: true},
		{name: "8-bit", in: "caf\xe9\r\n", damaged: true},
		{name: "NUL", in: "a\x00b\r\n", damaged: true},
		{name: "bare CR", in: "a\rb\r\n", damaged: true},
	} {
		t.Run(tt.name, func(t *testing.T) { checkDecoded(t, "quoted-printable", tt.in, tt.want, tt.damaged) })
	}
}

// A run of blanks around the limit has the same result in one chunk and in many.
func TestQuotedBlanksAtTheLimit(t *testing.T) {
	for n := maxBlanks - 2; n <= maxBlanks+2; n++ {
		for _, body := range []string{"a" + strings.Repeat(" ", n) + "b", "a=" + strings.Repeat(" ", n) + "\r\nb"} {
			if _, ok := roundTrip(t, "quoted-printable", []byte(body)); n != maxBlanks && ok != (n < maxBlanks) {
				t.Errorf("%d blanks: decoded %v", n, ok)
			}
		}
	}
}

func TestIdentityLeavesTheDelimitersLineEnd(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", "a\r\n": "a", "a\n": "a", "a\r\n\r\n": "a\r\n", "a\n\n": "a\n", "a\r": "a\r",
		"\r\n": "", "\r\r\n": "\r", "\n\r": "\n\r", "a\r\nb": "a\r\nb", "a\rb\r\n": "a\rb",
	} {
		checkDecoded(t, "8bit", in, want, false)
	}
}

// decodeQuanta gives what encoding/base64 gives, and refuses what that refuses or finds padded.
func FuzzQuanta(f *testing.F) {
	for _, s := range []string{"QUJD", "+/+/zZ09AAAAQUJD", "QUI=", "QU\r\n", "QUJDQU\x80D"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		text = text[:len(text)&^3]
		size := len(text) / 4 * 3
		want := make([]byte, size)
		n, err := base64.StdEncoding.Strict().Decode(want, text)
		wantOK := err == nil && n == size && !bytes.Contains(text, []byte("="))
		got := make([]byte, size+decodeSlack)
		if ok := decodeQuanta(got, text); ok != wantOK || ok && !bytes.Equal(got[:size], want) {
			t.Errorf("%q: got %x, %v, want %x, %v", text, got[:size], ok, want, wantOK)
		}
	})
}

// addBodies adds seeds, and the contents of small mails in a transfer encoding.
func addBodies(f *testing.F, encoding string, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	body := regexp.MustCompile(`(?is)content-transfer-encoding:\s*` + encoding + `\s*?\n(?:[^\r\n]+\n)*\r?\n(.*?)(?:\n--|$)`)
	for _, mail := range corpus.Small(f, 4<<10) {
		for _, m := range body.FindAllSubmatch(mail, -1) {
			f.Add(m[1][:min(len(m[1]), 400)]) // short, because each is also decoded byte by byte
		}
	}
}

func FuzzBase64(f *testing.F) {
	addBodies(f, "base64", "YWJj\r\n", "YQ==", "YW\r\nJj\r\n", "Y W J j \n", "YWJj\r\n--\r\nfooter", "YQ==\r\nYQ==", "\r\n\r\n=", "YR==")
	f.Fuzz(func(t *testing.T, text []byte) {
		decoded, ok := roundTrip(t, "base64", text)
		if !ok {
			return
		}
		if want := asOthers(text); !bytes.Equal(decoded, want) {
			t.Errorf("got %q, want %q", decoded, want)
		}
	})
}

// asOthers decodes base64 by the rules of Python's binascii: skip what is not in the alphabet, skip
// equals signs between groups, and end with the padding.
func asOthers(text []byte) []byte {
	var characters []byte
	for _, c := range text {
		if strings.IndexByte(alphabet, c) >= 0 {
			characters = append(characters, c)
		} else if c == '=' && len(characters)%4 != 0 {
			break
		}
	}
	content, _ := base64.RawStdEncoding.DecodeString(string(characters))
	return content
}

func FuzzQuotedPrintable(f *testing.F) {
	addBodies(f, "quoted-printable", "a=\r\nb\r\n", "=C3=A9 x\r\n", "a =20\r\n", "=", "= \r\n", "a\rb", "=3", "x=3D\n")
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, ok := roundTrip(t, "quoted-printable", text); !ok || len(text) == 0 {
			return
		}
		tr := NewExact("quoted-printable", nil)
		decoded, err := tr.Decode(nil, text)
		must.Succeed(t, err)
		decoded, err = tr.Finish(decoded, false)
		must.Succeed(t, err)
		want, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(text)))
		if err == nil && !bytes.Equal(decoded, want) { // it refuses some text about which mail programs agree
			t.Errorf("got %q, want %q", decoded, want)
		}
	})
}

func BenchmarkBase64(b *testing.B) {
	content := make([]byte, 1<<20)
	rand.Read(content)
	text := EncodeBase64(content, "\r\n")
	out := make([]byte, 0, 1<<20)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		t := &base64Decoder{}
		var err error
		for p := text; len(p) > 0 && err == nil; {
			n := min(len(p), 32<<10)
			out, err = t.Decode(out[:0], p[:n])
			p = p[n:]
		}
		must.Succeed(b, err)
	}
}
