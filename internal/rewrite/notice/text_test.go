package notice

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// insertInto puts a notice into a text and returns the text before and after.
func insertInto(t testing.TB, b Body, n *Notice, position Position) (before, after *Text, ok bool) {
	t.Helper()
	b.EOL = "\r\n"
	if before, ok = Read(b); !ok {
		return nil, nil, false
	}
	c, ok := before.Insert(n, position)
	if !ok {
		return before, nil, false
	}
	b.Raw = slices.Concat(b.Raw[:c.Off], c.Piece, b.Raw[c.End:])
	if c.Encoding != "" {
		b.Encoding = c.Encoding
	}
	if c.Charset != "" {
		b.Charset = c.Charset
	}
	if after, ok = Read(b); !ok {
		t.Fatalf("the changed text cannot be read: %+v", b)
	}
	return before, after, true
}

func testNotice(language, name string) *Notice {
	return &Notice{Language: texts.In(language), Operator: "files.example.org", Files: []File{{Name: name, Size: 12345,
		Link: "https://files.example.org/bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku#z6YdrhhwvdjjZ9BMDC9fZ2YuqRKSRBwrMHUNJCjCmTBN9"}}}
}

// checkInserted checks that after is before with the notice inserted, and has no other change.
func checkInserted(t *testing.T, before, after *Text, n *Notice) {
	t.Helper()
	url := n.Files[0].Link
	was, is := strings.TrimPrefix(before.text, byteOrderMark), strings.TrimPrefix(after.text, byteOrderMark)
	if got, want := strings.Count(is, url)-strings.Count(was, url), 1; got != want {
		t.Fatalf("%d more links than before in %q, want 1", got, is)
	}
	prefix := 0
	for prefix < min(len(was), len(is)) && was[prefix] == is[prefix] {
		prefix++
	}
	if !strings.HasSuffix(is, was[prefix:]) {
		t.Fatalf("the text around the notice changed:\n%q\n%q", was, is)
	}
	for _, line := range strings.SplitAfter(string(after.body.Raw), "\n") {
		limit := 998
		if after.body.Encoding == "quoted-printable" || after.body.Encoding == "base64" {
			limit = 76
		}
		if l := strings.TrimRight(line, "\r\n"); len(l) > limit && !bytes.Contains(before.body.Raw, []byte(l)) {
			t.Fatalf("a line of %d bytes, want at most %d: %q", len(l), limit, l)
		}
	}
	if before.body.Encoding == "7bit" && isASCII(before.body.Raw) && !isASCII(after.body.Raw) {
		t.Fatal("7bit did not stay 7bit")
	}
}

// Texts in every charset and transfer encoding that mail uses take a notice, whether or not the
// charset has the characters of the file name.
func TestNoticeFitsEveryCharsetAndEncoding(t *testing.T) {
	faults.Covers(t, 69)
	texts := map[string]string{
		"us-ascii": "Hello", "utf-8": "Grüße 你好", "iso-8859-1": "Grüße", "iso-8859-15": "Preis: 5 €", "iso-8859-2": "Zażółć", "iso-8859-5": "Привет",
		"iso-8859-7": "Γειά", "iso-8859-8-i": "שלום", "windows-1250": "Zażółć", "windows-1251": "Привет", "windows-1252": "“Grüße”", "windows-1255": "שלום",
		"windows-1256": "مرحبا", "koi8-r": "Привет", "koi8-u": "Привіт", "iso-2022-jp": "こんにちは", "shift_jis": "表示", "euc-jp": "こんにちは",
		"gb18030": "你好", "gb2312": "你好", "gbk": "你好", "big5": "許功蓋", "euc-kr": "안녕", "utf-16": "Grüße", "utf-16le": "Grüße", "utf-16be": "你好",
	}
	for charset, text := range texts {
		for _, sub := range []string{"plain", "html"} {
			for _, encoding := range []string{"7bit", "8bit", "quoted-printable", "base64"} {
				text := "<body>\r\n" + text + "\r\n</body>"
				var mark []byte
				if charset == "utf-16" {
					mark = []byte("\xFE\xFF")
				}
				cs, ok := findCharset(charset, mark)
				_, content, said := cs.encode(text)
				if !ok || !said {
					t.Fatalf("%s does not have the characters of %q", charset, text)
				}
				if encoding == "7bit" && !isASCII(content) {
					continue
				}
				switch encoding {
				case "quoted-printable":
					content = transfer.EncodeQuoted(content, "\r\n")
				case "base64":
					content = transfer.EncodeBase64(content, "\r\n")
				}
				body := Body{Raw: content, Encoding: encoding, Charset: charset, HTML: sub == "html"}
				for _, name := range []string{"report.pdf", "été – 报告 – отчёт.pdf"} {
					for _, position := range []Position{Bottom, Top} {
						n := testNotice("fr", name)
						before, after, ok := insertInto(t, body, n, position)
						if !ok {
							t.Fatalf("%s, %s, %s: not inserted", charset, sub, encoding)
						}
						checkInserted(t, before, after, n)
						if sub == "plain" && !strings.Contains(after.text, n.Files[0].Name) {
							t.Fatalf("%s, %s: the name is missing in %q", charset, encoding, after.text)
						}
					}
				}
			}
		}
	}
}

// A text that looks like ASCII and is not, or whose charset is unknown, takes a notice in ASCII,
// and is not declared to be in another charset.
func TestUndeclaredTextsKeepTheirCharset(t *testing.T) {
	faults.Covers(t, 69)
	for name, text := range map[string]string{
		"ISO-2022-JP": "\x1b$B$*@$OC$K$J$C$F$*$j$^$9!#\x1b(B\r\n\x1b$BEDCf\x1b(B\r\n",
		"HZ":          "Hello\r\n~{2FNq1(8f~}\r\n",
		"UTF-7":       "Gr+APwA3w-e\r\n+bUuL1Q-\r\n",
		"latin-1":     "gr\xfc\xdfe\r\n",
		"Shift_JIS":   "\x95\x5c\x8e\xa6\r\n",
	} {
		for _, charset := range []string{"", "us-ascii"} {
			for _, encoding := range []string{"7bit", "8bit", "quoted-printable", "base64"} {
				raw := []byte(text)
				switch encoding {
				case "quoted-printable":
					raw = transfer.EncodeQuoted(raw, "\r\n")
				case "base64":
					raw = transfer.EncodeBase64(raw, "\r\n")
				}
				b := Body{Raw: raw, Encoding: encoding, Charset: charset}
				n := testNotice("en", "report.pdf")
				before, after, ok := insertInto(t, b, n, Bottom)
				if !ok {
					t.Fatalf("%s, %s: a notice in ASCII is not inserted", name, encoding)
				}
				if after.body.Charset != charset || !bytes.HasPrefix(after.content, []byte(text)) {
					t.Errorf("%s, %s: the charset is %q in\n%s", name, encoding, after.body.Charset, after.content)
				}
				checkInserted(t, before, after, n)
				if _, after, ok := insertInto(t, b, testNotice("fr", "été.pdf"), Bottom); ok {
					t.Errorf("%s, %s: a notice that is not ASCII is inserted: %q", name, encoding, after.body.Raw)
				}
			}
		}
	}
}

// Texts that have the shifts of these charsets, and are ASCII.
func TestTextsInASCIIBecomeUTF8(t *testing.T) {
	for _, text := range []string{
		"Call +49-89-1234\r\n", "C++ and 1+1\r\n", "if (~{x}) {\r\n", "\x1b[31mred\x1b[0m\r\n", "a+b-c\r\n", "ann+list-x@example.org, +foo-\r\n",
	} {
		b := Body{Raw: []byte(text), Encoding: "7bit"}
		if _, after, ok := insertInto(t, b, testNotice("fr", "été.pdf"), Bottom); !ok || after.body.Charset != "utf-8" {
			t.Errorf("%q: got %v", text, ok)
		}
	}
}

// Bytes that the declared charset does not have stay readable: programs take the Windows charset
// that contains the declared one, or the charset that the bytes are in.
func TestTextsInASupersetStayReadable(t *testing.T) {
	for _, tt := range []struct{ charset, raw, text string }{
		{"iso-8859-1", "\x93Gr\xfc\xdfe\x94 \x96 5 \x80\r\n", "“Grüße” – 5 €\r\n"},
		{"iso-8859-9", "\x93\xfe\x94\r\n", "“ş”\r\n"},
		{"gb2312", "\x96|\xd6\xec\xe9F\xbb\xf9\r\n", "東朱镕基\r\n"},
		{"euc-kr", "\x8cc\xb9\xe6\r\n", "똠방\r\n"},
		{"shift_jis", "\x87@\xfa\xb1\r\n", "①﨑\r\n"},
	} {
		b := Body{Raw: []byte(tt.raw), Encoding: "8bit", Charset: tt.charset}
		for _, name := range []string{"report.pdf", "été – 报告 – отчёт 똠 ① € 髙.pdf"} {
			_, after, ok := insertInto(t, b, testNotice("en", name), Bottom)
			if !ok || !strings.HasPrefix(after.text, tt.text) {
				t.Fatalf("%s: got %v", tt.charset, ok)
			}
			if after.body.Charset == tt.charset && !bytes.HasPrefix(after.body.Raw, []byte(tt.raw)) {
				t.Errorf("%s: the bytes of the text changed to %q", tt.charset, after.body.Raw)
			}
		}
	}
	// Declared to be UTF-8, and in latin-1: programs that show ü do not take the text for UTF-8.
	b := Body{Raw: []byte("gr\xfc\xdfe\r\n"), Encoding: "8bit", Charset: "utf-8"}
	if _, after, ok := insertInto(t, b, testNotice("fr", "été.pdf"), Bottom); ok {
		t.Errorf("UTF-8 is inserted into latin-1: %q", after.body.Raw)
	}
}

// A text that cannot be decoded with certainty stays unchanged.
func TestDoubtfulTextsGetNoNotice(t *testing.T) {
	for _, b := range []Body{
		{Charset: "utf-7", Encoding: "7bit", Raw: []byte("hi")},
		{Charset: "x-unknown", Encoding: "7bit", Raw: []byte("hi")},
		{Charset: "x-user-defined", Encoding: "7bit", Raw: []byte("hi")},
		{Charset: "iso-2022-kr", Encoding: "7bit", Raw: []byte("hi")},
		{Charset: "utf-16", Encoding: "base64", Raw: []byte("YWJj")},
		{Charset: "utf-8", Encoding: "base64", Raw: []byte("YWJ=YWJj")},
		{Charset: "utf-8", Encoding: "x-uuencode", Raw: []byte("hi")},
		{Charset: "us-ascii", Encoding: "8bit", Raw: []byte("gr\xfc\xdfe")},
		{Charset: "koi8-r", Encoding: "quoted-printable", Raw: []byte("1 =1= 2")},
		{Charset: "utf-8", Encoding: "8bit", Raw: bytes.Repeat([]byte("x"), MaxText+1)},
	} {
		if _, after, ok := insertInto(t, b, testNotice("fr", "été.pdf"), Bottom); ok {
			t.Errorf("%s, %s: inserted: %q", b.Charset, b.Encoding, after.body.Raw)
		}
	}
}

// For any text, either the notice is inserted once and the rest stays, or nothing changes.
func FuzzInsert(f *testing.F) {
	var bodies []Body
	for _, kind := range []Body{{}, {HTML: true}, {Flowed: true}} {
		for _, charset := range []string{"us-ascii", "utf-8", "iso-8859-1", "iso-2022-jp", "gb18030", "shift_jis", "big5", "euc-kr", "utf-16", "koi8-r"} {
			for _, encoding := range []string{"7bit", "8bit", "quoted-printable", "base64"} {
				kind.Charset, kind.Encoding = charset, encoding
				bodies = append(bodies, kind)
			}
		}
	}
	for i, mail := range corpus.Small(f, 16<<10) {
		if _, text, ok := bytes.Cut(mail, []byte("\r\n\r\n")); ok {
			f.Add(uint8(i%len(bodies)), i%2 == 0, text)
		}
	}
	f.Fuzz(func(t *testing.T, body uint8, onTop bool, text []byte) {
		position := Bottom
		if onTop {
			position = Top
		}
		b := bodies[int(body)%len(bodies)]
		b.Raw = text
		for _, name := range []string{"report.pdf", "é报.pdf"} {
			n := testNotice("de", name)
			if before, after, ok := insertInto(t, b, n, position); ok {
				checkInserted(t, before, after, n)
			}
		}
	})
}
