package reference

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

func free() *memory.Account { return memory.NewAccount(nil, 0) }

// read returns the set of names in a text.
func read(t testing.TB, text Text) *Set {
	t.Helper()
	var s Set
	must.Succeed(t, s.Read(text, free()))
	return &s
}

func htmlText(text string) Text { return Text{Type: "text/html", Content: strings.NewReader(text)} }

func withID(id string) Part             { return Part{IDs: []string{id}} }
func withLocation(location string) Part { return Part{Locations: []string{location}} }

// Each form refers to the Content-ID logo@x.example, as mail programs write and read it.
func TestFormsOfURLs(t *testing.T) {
	forms := map[string]string{
		"RFC 2392":                        `<img src="cid:logo@x.example">`,
		"single quotes":                   `<img src='cid:logo@x.example'>`,
		"no quotes":                       `<img src=cid:logo@x.example>`,
		"no quotes, empty tag":            `<img src=cid:logo@x.example />`,
		"blanks around =":                 "<img src \r\n=\t\"cid:logo@x.example\">",
		"capitals":                        `<IMG SRC="CID:logo@x.example">`,
		"id in another case":              `<img src="cid:Logo@X.example">`,
		"blanks in quotes":                "<img src=\" \r\n cid:logo@x.example\t\">",
		"blank after the scheme":          `<img src="cid: logo@x.example">`,
		"URL over two lines":              "<img src=\"cid:logo\r\n@x.example\">",
		"scheme over two lines":           "<img src=\"c\nid:logo@x.example\">",
		"percent-encoded":                 `<img src="cid:logo%40x.example">`,
		"percent-encoded twice":           `<img src="cid:logo%2540x.example">`,
		"brackets":                        `<img src="cid:<logo@x.example>">`,
		"brackets as entities":            `<img src="cid:&lt;logo@x.example&gt;">`,
		"percent-encoded brackets":        `<img src="cid:%3Clogo@x.example%3E">`,
		"slashes":                         `<img src="cid://logo@x.example">`,
		"fragment":                        `<use href="cid:logo@x.example#icon"/>`,
		"named entity":                    `<img src="cid:logo&commat;x.example">`,
		"decimal entity":                  `<img src="cid&#58;logo&#64;x.example">`,
		"decimal entity, no semicolon":    `<img src="cid:logo&#64x.example">`,
		"hexadecimal entity":              `<img src="&#x63;id&#X3a;logo&#x040;x.example">`,
		"quotes as entities":              `<img src="&quot;cid:logo@x.example&quot;">`,
		"second attribute":                `<img alt="a > b" src="cid:logo@x.example">`,
		"quote in the text before":        `<p>5" disk, it's</p><img src="cid:logo@x.example">`,
		"quote not closed":                `<img src="cid:logo@x.example>text`,
		"tag not closed":                  `<img src="cid:logo@x.example"`,
		"query that is no entity":         `<img src="cid:logo@x.example?a=1&copy=2">`,
		"background":                      `<table background="cid:logo@x.example">`,
		"poster":                          `<video poster="cid:logo@x.example">`,
		"object":                          `<object data="cid:logo@x.example" type="image/png">`,
		"link":                            `<a href="cid:logo@x.example">`,
		"input":                           `<input type=image src="cid:logo@x.example">`,
		"srcset":                          `<img srcset="cid:other 1x, cid:logo@x.example 2x">`,
		"srcset without blanks":           `<img srcset="cid:other,cid:logo@x.example">`,
		"SVG in HTML":                     `<svg><image xlink:href="cid:logo@x.example"/></svg>`,
		"VML (Outlook)":                   `<!--[if gte vml 1]><v:shape><v:imagedata src="cid:logo@x.example" o:title="x"/></v:shape><![endif]-->`,
		"VML fill (Outlook)":              `<!--[if mso]><v:fill type="frame" src='cid:logo@x.example'/><![endif]-->`,
		"Outlook's hidden alternative":    `<!--[if !vml]><img src="cid:logo@x.example"><![endif]-->`,
		"style":                           `<td style="background:url(cid:logo@x.example) no-repeat">`,
		"style, single quotes":            `<td style="background:url('cid:logo@x.example')">`,
		"style, double quotes":            `<td style='background:url("cid:logo@x.example")'>`,
		"style, named entities (Word)":    `<td style="background:url(&quot;cid:logo@x.example&quot;)">`,
		"style, decimal entities":         `<td style="background:url(&#39;cid:logo@x.example&#39;)">`,
		"style, hexadecimal entities":     `<td style="background:url(&#x27;cid:logo@x.example&#x27;)">`,
		"style, entities, no semicolon":   `<td style="background:url(&quotcid:logo@x.example&quot)">`,
		"style, parentheses as entities":  `<td style="background:url&#40;cid:logo@x.example&#41;">`,
		"style, blanks":                   "<td style=\"background:url(\n 'cid:logo@x.example' )\">",
		"style, capitals":                 `<td style="background:URL(cid:logo@x.example)">`,
		"style, no quotes around it":      `<td style=background:url(cid:logo@x.example)>`,
		"style sheet":                     `<style>td { background: url("cid:logo@x.example") }</style>`,
		"style sheet in a comment":        `<style><!-- td { background: url(cid:logo@x.example) } --></style>`,
		"import":                          `<style>@import "cid:logo@x.example";</style>`,
		"import with url":                 `<style>@import url(cid:logo@x.example);</style>`,
		"image-set":                       `<style>td { background: image-set("cid:logo@x.example" 2x) }</style>`,
		"escape in CSS":                   `<style>td { background: url(cid:logo\@x\.example) }</style>`,
		"hexadecimal escape in CSS":       `<style>td { background: url(cid:logo\40 x.example) }</style>`,
		"long escape in CSS":              `<style>td { background: url("cid:logo\000040x.example") }</style>`,
		"escaped scheme in CSS":           `<style>td { background: url(cid\3a logo@x.example) }</style>`,
		"escaped line end in CSS":         "<style>td { background: url('cid:logo\\\n@x.example') }</style>",
		"data before it":                  `<td style="background:url(data:image/png;base64,` + strings.Repeat("QUJD", maxURL) + `),url(cid:logo@x.example)">`,
		"open URL before it":              `<td style="background:url(` + strings.Repeat("x", 2*maxURL) + `"><img src="cid:logo@x.example">`,
		"mid (RFC 2392)":                  `<img src="mid:1234@y.example/logo@x.example">`,
		"mid with escapes":                `<img src="mid:a%2fb@y.example/logo%40x.example">`,
		"quoted HTML (srcdoc)":            `<iframe srcdoc="<img src=&quot;cid:logo@x.example&quot;>">`,
		"JSON":                            `<script type="application/ld+json">{"image":"cid:logo@x.example"}</script>`,
		"control characters":              "<img src=\"cid:lo\x00go@x.\x01example\">",
		"soft hyphen":                     "<img src=\"cid:logo@x.exam\u00adple\">",
		"blank reference":                 `<img src="cid:logo@x.example&#32;">`,
		"style after a broken attribute":  `<p title="x>y</p><td style="background:url('cid:logo@x.example')">`,
		"Word's document of many islands": `<xml><o:p src=x></xml><![if !vml]><img border=0 src="cid:logo@x.example" v:shapes="_x0000_i1025"><![endif]>`,
	}
	for name, form := range forms {
		s := read(t, htmlText("<p>Hello</p>\r\n"+form+"\r\n<p>Bye</p>"))
		if s.any || !s.RefersTo(withID("<logo@x.example>")) {
			t.Errorf("%s: not found in %.200s", name, form)
		}
		if s.RefersTo(withID("<photo@x.example>")) {
			t.Errorf("%s: refers to another part", name)
		}
	}
}

// Each field is the Content-ID of the part to which cid:logo(1).png@x.example refers.
func TestFormsOfContentIDs(t *testing.T) {
	ids := []string{
		"<logo(1).png@x.example>",
		"< logo(1).png@x.example >", // FlowCrypt/flowcrypt-browser#5011
		"logo(1).png@x.example",
		`"logo(1).png@x.example"`,
		`<"logo(1).png@x.example">`,
		"<LOGO(1).PNG@x.example>",
		"<logo%281%29.png@x.example>",
		"<logo%25281%2529.png@x.example>",
		"<cid:logo(1).png@x.example>",
		"cid:logo(1).png@x.example",
		"<logo(1).png@ x.example>", // folded
		"<logo(1).png@x.example> trailing",
		"<logo(1).png@x.example",
		"\xC2\xA0<logo(1).png@x.example>",
	}
	for _, form := range []string{
		`<img src="cid:logo(1).png@x.example">`, // jstedfast/MimeKit#472
		`<img src=cid:logo(1).png@x.example>`,
		`<img src="cid:logo%281%29.png%40x.example">`,
		`<td style="background:url('cid:logo(1).png@x.example')">`,
		`<td style="background:url(&quot;cid:logo(1).png@x.example&quot;)">`,
		`<td style="background:url(cid:logo(1).png@x.example)">`,
		`<td style="background:url(cid:logo\(1\).png@x.example)">`,
		`<style>td{background:url(cid:logo\28 1\29.png@x.example)}</style>`,
		`<style>td{background:url("cid:logo\0000281\000029.png@x.example")}</style>`,
	} {
		s := read(t, htmlText(form))
		for _, id := range ids {
			if !s.RefersTo(withID(id)) {
				t.Errorf("%s: does not refer to %q", form, id)
			}
		}
		if s.RefersTo(withID("<logo(2).png@x.example>")) {
			t.Errorf("%s: refers to another part", form)
		}
	}
	s := read(t, htmlText(`<img src="cid:abc@x.example">`))
	for _, id := range []string{"<abc@x.example> (a picture)", "(a picture) <abc@x.example>", "abc@x.example (a (nested) comment)", "<abc@(comment)x.example>"} {
		if !s.RefersTo(withID(id)) {
			t.Errorf("does not refer to %q", id)
		}
	}
	for _, id := range []string{"", "<>", " ", "<abc>", "<x.example>", "()"} {
		if s.RefersTo(withID(id)) {
			t.Errorf("refers to %q", id)
		}
	}
}

// An attribute ends at the quote that began it, whatever stands in it.
func TestCharactersOfContentIDs(t *testing.T) {
	for _, id := range []string{
		"a b", "a'b", "a<b>c", "a,b", "a;b", "a&b", "a&amp;b", "a&copy=b", "a&copyb", "a=b", "a{b}c", "a|b", "a[1]", "a#b", "a?b", "a\\b", "a/b", "100%", "50%25", "größe", "图片", "a+b", "~a!$*",
	} {
		escaped := strings.NewReplacer("&", "&amp;", `"`, "&quot;").Replace(id)
		if s := read(t, htmlText(`<img src="cid:`+escaped+`">`)); !s.RefersTo(withID("<" + id + ">")) {
			t.Errorf("no reference to %q", id)
		}
		if s := read(t, htmlText(`<img src="cid:`+id+`">`)); !s.RefersTo(withID("<"+id+">")) && !strings.Contains(id, ";") {
			t.Errorf("no reference to %q, which is not escaped", id)
		}
	}
	if s := read(t, htmlText(`<img src='cid:a"b'>`)); !s.RefersTo(withID(`<a"b>`)) {
		t.Error("no reference to an id with a quote")
	}
}

// RFC 2557 section 5: both URLs may be relative, to any of several bases.
func TestContentLocations(t *testing.T) {
	for _, c := range []struct {
		location, form string
		want           bool
	}{
		{"pic1.png", `<img src="pic1.png">`, true}, // PHPMailer/PHPMailer#2065
		{"http://www.example.net/img/pic2.png", `<img src="http://www.example.net/img/pic2.png">`, true},
		{"http://www.example.net/img/pic2.png", `<img src=http://www.example.net/img/pic2.png>`, true},
		{"http://www.example.net/img/pic2.png", `<img src="img/pic2.png">`, true},
		{"pic2.png", `<base href="http://www.example.net/img/"><img src="/img/pic2.png">`, true},
		{"pic2.png", `<img src="./pic2.png">`, true},
		{"pic2.png", `<img src="../img/pic2.png?v=3">`, true},
		{"thismessage:/pic2.png", `<img src="pic2.png">`, true},
		{"pic2.png", `<img src="thismessage:/pic2.png">`, true},
		{"file:///C:/Users/a/AppData/pic2.png", `<img src="C:\Users\a\AppData\pic2.png">`, true},
		{"file://C:\\pic 2.png", `<img src="file:///C:/pic%202.png">`, true},
		{"my%20pic.png", `<img src="my pic.png">`, true},
		{"my pic.png", `<img src=my%20pic.png>`, true},
		{"http://www.example.net/a-long-path/ that-is-folded/ pic2.png", `<img src="pic2.png">`, true}, // RFC 2557 section 4.4.2
		{"<pic2.png>", `<img src="pic2.png">`, true},
		{`"pic2.png"`, `<img src="pic2.png">`, true},
		{"cid:logo@x", `<img src="cid:logo@x">`, true},
		{"logo@x", `<img src="cid:logo@x">`, true},
		{"http://x.example/?img=1", `<img src="/?img=1">`, true},
		{"http://x.example/style.css", `<link rel=stylesheet href="style.css">`, true},
		{"http://x.example/style.css", `<style>@import 'style.css';</style>`, true},
		{"http://x.example/page2.html", `<a href="page2.html#top">`, true},
		{"http://x.example/frame.html", `<iframe src="frame.html">`, true},
		{"pic2.png", `<style>td{background:url( pic2.png )}</style>`, true},
		{"pic2.png", `<td style="background:url(&quot;img/pic2.png&quot;)">`, true},
		{"pic2.png", `<img srcset="pic1.png, pic2.png 2x">`, true},
		{"pic2.png", `<v:imagedata src="pic2.png">`, true},
		{"größe.png", `<img src="gr%C3%B6%C3%9Fe.png">`, true},
		{"gr%C3%B6%C3%9Fe.png", `<img src="gr&ouml;&szlig;e.png">`, true},
		{"pic2.png", `<img src="pic1.png" alt="pic2.png" title="pic2.png">pic2.png`, false},
		{"http://x.example/", `<img src="pic1.png">`, false},
		{"", `<img src="pic1.png"><a href="">`, false},
	} {
		if got := read(t, htmlText(c.form)).RefersTo(withLocation(c.location)); got != c.want {
			t.Errorf("%s refers to the location %q: %t, want %t", c.form, c.location, got, c.want)
		}
	}
}

// A picture is also found by its file name alone, unless the text only links to it.
func TestFileNames(t *testing.T) {
	for form, want := range map[string]bool{
		`<img src="image001.png">`:                          true,
		`<img src="./image001.PNG">`:                        true,
		`<img src="cid:image001.png">`:                      true,
		`<td background=image001.png>`:                      true,
		`<a href="image001.png">`:                           false,
		`<img src="https://x.example/image001.png">`:        false,
		`<img src="images/image001.png">`:                   false,
		`<img src="cid:image001.png@01D5">`:                 false,
		`image001.png, [cid:other] and src, image001.png="`: false,
	} {
		if got := read(t, htmlText(form)).RefersTo(Part{Name: "image001.png"}); got != want {
			t.Errorf("%s refers to image001.png: %t, want %t", form, got, want)
		}
	}
}

// A calendar's lines are folded (RFC 5545 section 3.1), and its texts may be HTML.
func TestCalendars(t *testing.T) {
	for _, line := range []string{
		"ATTACH:CID:part3.960817@x.example",
		"ATTACH;FMTTYPE=image/png:CID:part3.960817@x.example",
		"ATTACH;FMTTYPE=image/png;FILENAME=\"a.png\":cid:part3.96\r\n 0817@x.exa\r\n\tmple",
		"DESCRIPTION;ALTREP=\"CID:part3.960817@x.example\":text",
		"X-ALT-DESC;FMTTYPE=text/html:<html><img src=\"cid:part3.960\n 817@x.example\"></html>",
		"IMAGE;VALUE=URI;DISPLAY=BADGE:c\r\n id:part3.960817@x.example",
	} {
		text := Text{Type: "text/calendar", Content: strings.NewReader("BEGIN:VCALENDAR\r\n" + line + "\r\nEND:VCALENDAR\r\n")}
		if s := read(t, text); !s.RefersTo(withID("<part3.960817@x.example>")) || s.any {
			t.Errorf("no reference in %q", line)
		}
	}
}

func TestCharsets(t *testing.T) {
	const text = `<p>größe €</p><img src="cid:größe@x">`
	for name, e := range map[string]encoding.Encoding{
		"":                    unicode.UTF8,
		"utf-8":               unicode.UTF8BOM,
		"iso-8859-1":          charmap.ISO8859_1,
		"ISO-8859-15":         charmap.ISO8859_15,
		"utf-16":              unicode.UTF16(unicode.BigEndian, unicode.UseBOM),
		"utf-16le":            unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM),
		"us-ascii":            unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), // undeclared
		"unknown":             unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM),
		"gb18030":             simplifiedchinese.GB18030,
		"x-unknown-of-no-use": unicode.UTF8,
	} {
		b, err := encoding.ReplaceUnsupported(e.NewEncoder()).Bytes([]byte(text))
		must.Succeed(t, err)
		s := read(t, Text{Type: "text/html", Charset: name, Content: bytes.NewReader(b)})
		if s.any || !s.RefersTo(withID("<größe@x>")) || s.RefersTo(withID("<other@x>")) {
			t.Errorf("%q: %t, no reference in %q", name, s.any, b)
		}
	}
	for name, e := range map[string]encoding.Encoding{"iso-2022-jp": japanese.ISO2022JP, "shift_jis": japanese.ShiftJIS, "euc-jp": japanese.EUCJP} {
		b, err := e.NewEncoder().Bytes([]byte(`<p>表示"能"</p><img alt="ソ" src="cid:logo@x">`))
		must.Succeed(t, err)
		for _, declared := range []string{name, "", "utf-16"} {
			s := read(t, Text{Type: "text/html", Charset: declared, Content: bytes.NewReader(b)})
			if s.any || !s.RefersTo(withID("<logo@x>")) {
				t.Errorf("%s, declared as %q: no reference", name, declared)
			}
		}
	}
	if s := read(t, Text{Charset: "UTF-7", Content: strings.NewReader("+ADw-img")}); !s.RefersTo(withID("<any>")) {
		t.Error("UTF-7 refers to nothing")
	}
}

// A reference is found wherever the pieces of a text begin and end, and long texts are read to
// their ends.
func TestReferenceAtTheEndOfAWindow(t *testing.T) {
	for _, form := range []string{`<img src="cid:logo@x">`, `<td style="background:url(&quot;cid:logo\@x&quot;)">`, `<IMG SRC  =  'c&#x69;d:logo@x'`, "<img src=logo@x>"} {
		for _, around := range []int{pieceSize, windowSize - maxURL, windowSize, 3 * windowSize} {
			for at := around - 80; at < around+80; at += 7 {
				text := strings.Repeat(" ", at) + form + strings.Repeat("\r\ny", windowSize/2)
				s := read(t, htmlText(text))
				if s.any || !s.RefersTo(Part{IDs: []string{"<logo@x>"}, Name: "logo@x"}) {
					t.Fatalf("%s at %d: not found", form, at)
				}
			}
		}
	}
	long := strings.Repeat("<p>A paragraph of a long report</p>\r\n", 1<<18)
	if s := read(t, htmlText(long+`<img src="cid:logo@x">`)); s.any || !s.RefersTo(withID("<logo@x>")) {
		t.Error("not found at the end of 9 MB")
	}
}

func TestSizesOfReadsMakeNoDifference(t *testing.T) {
	text := strings.Repeat(`<img src="cid:a&#64;b"> &amp;&quot;&nGt;`, 700)
	for name, r := range map[string]io.Reader{
		"one byte": iotest.OneByteReader(strings.NewReader(text)), "half": iotest.HalfReader(strings.NewReader(text)),
		"error with data": iotest.DataErrReader(strings.NewReader(text)),
	} {
		if s := read(t, Text{Type: "text/html", Content: r}); s.any || s.used != 1 || !s.RefersTo(withID("<a@b>")) {
			t.Errorf("%s: %d names", name, s.used)
		}
	}
}

// A text that cannot be read refers to every part with a name. Errors of the disk are returned.
func TestTextsThatCannotBeRead(t *testing.T) {
	if s := read(t, Text{Type: "text/html"}); !s.RefersTo(withID("<a>")) {
		t.Error("a text without content refers to nothing")
	}
	for _, n := range []int{0, headSize, windowSize} {
		before := strings.Repeat("x", n)
		var s Set
		must.Succeed(t, s.Read(Text{Content: io.MultiReader(strings.NewReader(before), iotest.ErrReader(transfer.ErrDamaged))}, free()))
		if !s.RefersTo(withID("<a>")) || !s.RefersTo(withLocation("a")) || s.RefersTo(Part{Name: "a"}) {
			t.Errorf("damaged after %d bytes: got %t, %t, %t, want true, true, false", n,
				s.RefersTo(withID("<a>")), s.RefersTo(withLocation("a")), s.RefersTo(Part{Name: "a"}))
		}
		broken := errors.New("broken disk")
		s = Set{}
		if err := s.Read(Text{Content: io.MultiReader(strings.NewReader(before), iotest.ErrReader(broken))}, free()); !errors.Is(err, broken) {
			t.Errorf("broken after %d bytes: got %v", n, err)
		}
	}
}

// Without memory for the names of a text, it refers to everything that has a name.
func TestNamesTakeMemory(t *testing.T) {
	budget := memory.New(0)
	var s Set
	must.Succeed(t, s.Read(htmlText(`<img src="cid:a">`), memory.NewAccount(budget, 0)))
	if !s.RefersTo(withID("<b>")) {
		t.Error("a reference is forgotten")
	}
	for n, want := range map[int]bool{100: false, maxTable/4*3 - 8: false, maxTable: true} {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, `<p>A picture:</p> <p><img src="cid:picture%d"></p>`, i)
		}
		budget := memory.New(1 << 30)
		account := memory.NewAccount(budget, 0)
		var s Set
		must.Succeed(t, s.Read(htmlText(text.String()), account))
		if got := s.RefersTo(withID("<b>")); got != want {
			t.Errorf("%d names: refer to another one: %t, want %t", n, got, want)
		}
		if used := budget.Used(); used > maxTable*entrySize+64<<10 {
			t.Errorf("%d names: %d bytes are taken", n, used)
		}
		account.Close()
		if used := budget.Used(); used != 0 {
			t.Errorf("%d names: %d bytes are not given back", n, used)
		}
	}
}
