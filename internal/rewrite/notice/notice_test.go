package notice

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

// The notice stays small even for a name of 60 letters beyond ASCII, in 8bit text and with the
// longest escapes in HTML. (Quoted-printable needs nine bytes for such a letter, and is larger.)
func TestNoticeIsSmallWithLongNames(t *testing.T) {
	for name, limit := range map[string]int{
		strings.Repeat("n", 60) + ".pdf": 1000,
		strings.Repeat("é", 60) + ".pdf": 1250,
		strings.Repeat("報", 60) + ".pdf": 1500,
	} {
		n := testNotice("en", name)
		one := len(n.text(false)) + len(n.html(false))
		if one >= limit {
			t.Errorf("%s: %d bytes, want under %d", name, one, limit)
		}
		n.Files = append(n.Files, n.Files[0])
		t.Logf("%.8s: first %d bytes, each further %d", name, one, len(n.text(false))+len(n.html(false))-one)
	}
}

func TestKindIsTheExtensionOrAWordForTheType(t *testing.T) {
	for _, tt := range []struct{ name, mediaType, want string }{
		{"report.pdf", "application/octet-stream", "PDF"},
		{"film.mov", "video/quicktime", "MOV"},
		{"backup.tar.7z", "", "7Z"},
		{"no extension", "image/png", "Bild"},
		{"version 1.25", "video/mp4", "Video"},
		{"letter.document", "application/msword", ""},
		{"résumé.décembre", "audio/mpeg", "Audio"},
		{"notes", "text/plain", ""},
	} {
		f := File{Name: tt.name, Type: tt.mediaType}
		if got := f.kind(texts.In("de")); got != tt.want {
			t.Errorf("%q, %s: got %q, want %q", tt.name, tt.mediaType, got, tt.want)
		}
	}
}

// A name in letters of the other direction does not turn what follows it, also where bdi is not
// known: 450 stays between the name and its unit.
func TestNamesOfTheOtherDirectionAreIsolated(t *testing.T) {
	for name, want := range map[string]string{
		"תקציר":      "<bdi>&#1514;&#1511;&#1510;&#1497;&#1512;</bdi>&#8206;</u>",
		"تقرير.pdf":  "</bdi>&#8206;</u>",
		"report.pdf": ";report.pdf</u>",
	} {
		if got := testNotice("en", name).html(false); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s in it", name, got, want)
		}
	}
	rtl := *texts.English()
	rtl.Dir = "rtl"
	n := testNotice("en", "report.pdf")
	n.Language = &rtl
	if got := n.html(false); !strings.Contains(got, "<bdi>report.pdf</bdi>&#8207;</u>") || !strings.Contains(got, "text-align:right") {
		t.Errorf("written from right to left: got %s", got)
	}
}

// The notice has no image, no class, and no property that breaks it where it is unknown. It has no
// colors besides the border's, which has a contrast of 3.5 or more with both white and black: any
// other color could become unreadable in a mail program that inverts only texts or backgrounds.
func TestHTMLLooksRightInEveryMailProgram(t *testing.T) {
	known := []string{
		"margin:16px 0", "margin:8px 0", "padding:10px 14px 2px", "text-align:left", "font:14px Arial,sans-serif",
		"border:1px solid #888", "color:inherit", // Outlook for Windows takes its own color for links
		"border-radius:6px", "opacity:.75", "word-break:break-word", // do without where unknown
	}
	n := testNotice("en", "תקציר.pdf")
	n.Files, n.All = append(n.Files, n.Files[0]), n.Files[0].Link
	z := html.NewTokenizer(strings.NewReader(n.html(false)))
	for z.Next() != html.ErrorToken {
		token := z.Token()
		if token.Type != html.StartTagToken {
			continue
		}
		if !slices.Contains([]string{"table", "tr", "td", "p", "a", "u", "span", "bdi"}, token.Data) {
			t.Errorf("got <%s>", token.Data)
		}
		for _, a := range token.Attr {
			if !slices.Contains([]string{"dir", "href", "style"}, a.Key) {
				t.Errorf("<%s>: got %s", token.Data, a.Key)
			}
			for _, property := range strings.Split(a.Val, ";") {
				if a.Key == "style" && !slices.Contains(known, property) {
					t.Errorf("<%s>: got %s", token.Data, property)
				}
			}
		}
	}
}

// Where the mail's body has no readable text of its own, only tables with other colors, the notice
// has colors, too.
func TestNoticeHasColorsWhereTheBodyIsUnreadable(t *testing.T) {
	for body, want := range map[string]bool{
		"<p>hi</p>":                         false,
		"<body>hi</body>":                   false,
		`<body bgcolor="#000000">hi</body>`: true,
		`<body bgcolor="#000000" text="#ffffff">hi</body>`:                                       false,
		`<body style="Background-Color: black; color: #FFF !important">hi</body>`:                false,
		`<body style="color: rgb(255, 255, 255)">hi</body>`:                                      true,
		`<body style="background:url(a)">hi</body>`:                                              false,
		`<body bgcolor=333>hi</body>`:                                                            true,
		`<body bgcolor="#f5f5f5" text="#333">hi</body>`:                                          false,
		`<head><style>td{color:#fff} html, body { color: white; }</style></head><body>hi</body>`: true,
		`<style>.body{color:#fff}</style>hi`:                                                     false,
		`<body>hi<blockquote type=cite><body bgcolor="#000000">old</body></blockquote></body>`:   false,
	} {
		if got := htmlSpot(body, Bottom).colored; got != want {
			t.Errorf("%s: got %v, want %v", body, got, want)
		}
	}
	if got := testNotice("en", "report.pdf").html(true); !strings.Contains(got, ";background:#fff;color:#222\">") {
		t.Errorf("got %s", got)
	}
}

// On a phone, a line does not end between "23" and "KB".
func TestSizeStaysOnOneLine(t *testing.T) {
	n := testNotice("en", "report.pdf")
	n.Files[0].Size = 23_000
	n.All = n.Files[0].Link
	if got := n.html(false); strings.Count(got, "23&#160;KB</span>") != 2 || !strings.Contains(got, "PDF, 23") {
		t.Errorf("got %s", got)
	}
}
