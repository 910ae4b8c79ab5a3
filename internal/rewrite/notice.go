package rewrite

import (
	"fmt"
	"html"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// A notice is what stands in a mail in place of its attachments.
type notice struct {
	words   *words
	files   []cut
	all     *link.Link // nil: there is none
	expires time.Time  // zero: never
}

func (n *notice) heading() string {
	texts, date := n.words.Heading, ""
	if !n.expires.IsZero() {
		texts, date = n.words.HeadingUntil, n.words.day(n.expires)
	}
	return n.fill(texts, date)
}

// fill chooses the form that goes with the number of files.
func (n *notice) fill(texts map[string]string, date string) string {
	return strings.NewReplacer("{count}", fmt.Sprint(len(n.files)), "{date}", date).Replace(n.words.form(texts, len(n.files)))
}

// text is the notice in plain text, its lines parted by \n, each link on a line
// of its own. None ends in a blank, so in a flowed text each ends a paragraph
// (RFC 3676 section 4.1).
func (n *notice) text(flowed bool) string {
	var b strings.Builder
	b.WriteString(n.heading())
	for _, f := range n.files {
		name := f.name
		if flowed && (strings.HasPrefix(name, ">") || strings.HasPrefix(name, "From ")) {
			name = " " + name // space-stuffed (RFC 3676 section 4.4)
		}
		fmt.Fprintf(&b, "\n\n%s (%s)\n%s", name, n.words.size(f.size), f.link.URL())
	}
	if n.all != nil {
		fmt.Fprintf(&b, "\n\n%s\n%s", n.fill(n.words.All, ""), n.all.URL())
	}
	return b.String()
}

// boxStyle brings its own colours, both of each pair, so that it can be read on
// any ground, and a mail program that darkens a mail turns them together.
const boxStyle = "clear:both;margin:1em 0;padding:1em;border:1px solid #888;background:#eee;color:#222;" +
	"font:14px sans-serif;word-break:break-word"

// html is the notice in HTML, in ASCII, so that it can stand in any charset.
// What can be clicked shows where it leads.
func (n *notice) html() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<div dir=\"ltr\" style=\"%s\">\n%s", boxStyle, asciiHTML(n.heading()))
	for _, f := range n.files {
		fmt.Fprintf(&b, entry, "<b><bdi>"+htmlName(f.name)+"</bdi></b> ("+asciiHTML(n.words.size(f.size))+")", htmlLink(f.link))
	}
	if n.all != nil {
		fmt.Fprintf(&b, entry, asciiHTML(n.fill(n.words.All, "")), htmlLink(*n.all))
	}
	b.WriteString("</div>")
	return b.String()
}

// entry is what can be downloaded, and the link to it.
const entry = "<br><br>\n%s<br>\n%s"

func htmlLink(l link.Link) string {
	url := asciiHTML(l.URL())
	return `<a style="color:#05c" href="` + url + `">` + url + "</a>"
}

// maxHTMLName keeps the line that a name stands in under the 998 bytes of RFC
// 5322 section 2.1.1.
const maxHTMLName = 850

func htmlName(name string) string {
	s := asciiHTML(name)
	for keep := name; len(s) > maxHTMLName; s = asciiHTML(keep + "…") {
		_, size := utf8.DecodeLastRuneInString(keep)
		keep = keep[:len(keep)-size]
	}
	return s
}

func asciiHTML(s string) string {
	var b strings.Builder
	for _, r := range html.EscapeString(s) {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "&#%d;", r)
		}
	}
	return b.String()
}
