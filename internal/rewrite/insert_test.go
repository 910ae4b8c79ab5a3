package rewrite

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// insertInto puts a notice into a mail of one text and returns the text before
// and after in UTF-8, the edits, and the spool's bytes.
func insertInto(t testing.TB, head string, content []byte, n *notice, position Position) (before, after *inserter, ok bool) {
	t.Helper()
	s := spool.New("")
	defer s.Close()
	raw := append([]byte(head+"\r\n"), content...)
	if _, err := s.Write(raw); err != nil {
		t.Fatal(err)
	}
	h := parseHeader(raw[:len(head)+2])
	ct := h.contentType()
	b := body{header: h, text: span{int64(len(head) + 2), s.Size()}, html: ct.sub == "html"}
	before, err := b.read(s)
	if err != nil {
		t.Fatal(err)
	}
	if before == nil {
		return nil, nil, false
	}
	edits, ok := before.insert(n, position)
	if !ok {
		return before, nil, false
	}
	sortEdits(edits)
	var out bytes.Buffer
	if _, err := writeEdited(&out, s, edits); err != nil {
		t.Fatal(err)
	}
	s2 := spool.New("")
	defer s2.Close()
	if _, err := s2.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	m, err := Read(bytes.NewReader(out.Bytes()), Policy{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	b = body{header: m.header, text: span{int64(len(m.header.raw)), s2.Size()}, html: b.html}
	if after, err = b.read(s2); err != nil || after == nil {
		t.Fatalf("cannot be read any more (%v): %q", err, out.Bytes())
	}
	return before, after, true
}

func testNotice(t testing.TB, language, name string) *notice {
	l, err := newMemory().Detach(t.Context(), name, "", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	return &notice{words: catalogue()[language], files: []cut{{name: displayName(name, ""), size: 12345, link: l}}}
}

// checkInserted: the text is the one before with the notice in it, nothing else.
func checkInserted(t *testing.T, before, after *inserter, n *notice) {
	t.Helper()
	url := n.files[0].link.URL()
	was, is := strings.TrimPrefix(before.text, byteOrderMark), strings.TrimPrefix(after.text, byteOrderMark)
	if got, want := strings.Count(is, url)-strings.Count(was, url), 1; got != want && got != 2*want {
		t.Fatalf("%d links in %q", got, is)
	}
	prefix := 0
	for prefix < min(len(was), len(is)) && was[prefix] == is[prefix] {
		prefix++
	}
	if !strings.HasSuffix(is, was[prefix:]) {
		t.Fatalf("the text around it changed:\n%q\n%q", was, is)
	}
	for _, line := range strings.SplitAfter(string(after.raw), "\n") {
		limit := 998
		if after.encoding == "quoted-printable" || after.encoding == "base64" {
			limit = 76
		}
		if l := strings.TrimRight(line, "\r\n"); len(l) > limit && !bytes.Contains(before.raw, []byte(l)) {
			t.Fatalf("a line of %d bytes, want at most %d: %q", len(l), limit, l)
		}
	}
	if before.encoding == "7bit" && isASCII(before.raw) && !isASCII(after.raw) {
		t.Fatal("7bit did not stay 7bit")
	}
}

// Every charset and transfer encoding that mail uses, with a name it can say and
// one it cannot.
func TestInsertCharsets(t *testing.T) {
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
				cs, ok := findCharset(charset, []byte("\xFE\xFF"))
				_, content, said := cs.encode(text)
				if !ok || !said {
					t.Fatalf("%s cannot say %q", charset, text)
				}
				if encoding == "7bit" && !isASCII(content) {
					continue
				}
				switch encoding {
				case "quoted-printable":
					content = encodeQuoted(content, "\r\n")
				case "base64":
					content = wrapBase64(content, "\r\n")
				}
				head := fmt.Sprintf("Content-Type: text/%s; charset=%s\r\nContent-Transfer-Encoding: %s\r\n", sub, charset, encoding)
				for _, name := range []string{"report.pdf", "été – 报告 – отчёт.pdf"} {
					for _, position := range []Position{Bottom, Top} {
						n := testNotice(t, "fr", name)
						before, after, ok := insertInto(t, head, content, n, position)
						if !ok {
							t.Fatalf("%s, %s, %s: not inserted", charset, sub, encoding)
						}
						checkInserted(t, before, after, n)
						if sub == "plain" && !strings.Contains(after.text, n.files[0].name) {
							t.Fatalf("%s, %s: no name in %q", charset, encoding, after.text)
						}
					}
				}
			}
		}
	}
}

// What is not surely understood is left alone.
func TestNotInserted(t *testing.T) {
	for head, content := range map[string]string{
		"Content-Type: text/plain; charset=utf-7\r\n":                                                         "hi",
		"Content-Type: text/plain; charset=x-unknown\r\n":                                                     "hi",
		"Content-Type: text/plain; charset=x-user-defined\r\n":                                                "hi",
		"Content-Type: text/plain; charset=iso-2022-kr\r\n":                                                   "hi",
		"Content-Type: text/plain; charset=utf-16\r\nContent-Transfer-Encoding: base64\r\n":                   "YWJj",
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n":                    "YWJ=YWJj",
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: x-uuencode\r\n":                "hi",
		"Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 8bit\r\n":                   "gr\xfc\xdfe",
		"Content-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: quoted-printable\r\nX: 1\r\n": "1 =1= 2",
	} {
		if _, after, ok := insertInto(t, head, []byte(content), testNotice(t, "fr", "été.pdf"), Bottom); ok {
			t.Errorf("%q: inserted: %q", head, after.raw)
		}
	}
}

// FuzzInsert: whatever the text, the notice is in it once and the rest as before,
// or it is not touched.
func FuzzInsert(f *testing.F) {
	heads := []string{}
	for _, sub := range []string{"plain", "html", "plain; format=flowed"} {
		for _, charset := range []string{"us-ascii", "utf-8", "iso-8859-1", "iso-2022-jp", "gb18030", "shift_jis", "big5", "euc-kr", "utf-16", "koi8-r"} {
			for _, encoding := range []string{"7bit", "8bit", "quoted-printable", "base64"} {
				heads = append(heads, "Content-Type: text/"+sub+"; charset="+charset+"\r\nContent-Transfer-Encoding: "+encoding+"\r\n")
			}
		}
	}
	for i, path := range goldenAndCorpus(f) {
		mail, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		if _, text, ok := bytes.Cut(mail, []byte("\r\n\r\n")); ok && len(mail) < 16<<10 {
			f.Add(uint8(i%len(heads)), i%2 == 0, text)
		}
	}
	f.Fuzz(func(t *testing.T, head uint8, onTop bool, text []byte) {
		position := Bottom
		if onTop {
			position = Top
		}
		for _, name := range []string{"report.pdf", "é报.pdf"} {
			n := testNotice(t, "de", name)
			if before, after, ok := insertInto(t, heads[int(head)%len(heads)], text, n, position); ok {
				checkInserted(t, before, after, n)
			}
		}
	})
}

func goldenAndCorpus(tb testing.TB) []string {
	var paths []string
	for _, pattern := range []string{"testdata/golden/*.eml", corpusDir + "/*/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			tb.Fatal(err)
		}
		paths = append(paths, found...)
	}
	return paths
}
