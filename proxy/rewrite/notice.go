package rewrite

import (
	"fmt"
	"html"
	"strings"
	"time"
	"unicode/utf8"
)

// A notice is what stands in a mail in place of its attachments.
type notice struct {
	words   *words
	files   []cut
	expires time.Time // zero: never
}

func (n *notice) heading() string {
	texts, date := n.words.Heading, ""
	if !n.expires.IsZero() {
		texts, date = n.words.HeadingUntil, n.words.day(n.expires)
	}
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
	return b.String()
}

// boxStyle brings its own colours, both of each pair, so that it can be read on
// any ground, and a mail program that darkens a mail turns them together.
const boxStyle = "clear:both;margin:1em 0;padding:.7em 1em;border:1px solid #888;border-radius:6px;" +
	"background:#f6f6f6;color:#222;font:14px/1.4 sans-serif;text-align:left;word-break:break-word"

// html is the notice in HTML, in ASCII, so that it can stand in any charset.
// What can be clicked shows where it leads.
func (n *notice) html() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<div dir=\"ltr\" style=\"%s\">\n%s\n", boxStyle, asciiHTML(n.heading()))
	for _, f := range n.files {
		url := asciiHTML(f.link.URL())
		fmt.Fprintf(&b, "<p style=\"margin:.7em 0 0\"><b><bdi>%s</bdi></b> (%s)<br>\n<a style=\"color:#05c\" href=\"%s\">%s</a></p>\n",
			htmlName(f.name), asciiHTML(n.words.size(f.size)), url, url)
	}
	b.WriteString("</div>")
	return b.String()
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
