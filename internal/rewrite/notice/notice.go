package notice

import (
	"fmt"
	"html"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"

	"github.com/nkirchhoffer/detach-mta/internal/texts"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// A Notice says which files were taken out of a mail, and where they can be downloaded.
type Notice struct {
	Language *texts.Language
	Operator string // who keeps the files: a name on one line, or a host
	Files    []File
	All      string    // the link to all files; may be empty
	Expires  time.Time // when the links stop working: the first second after the last day; zero: never
}

// A File is a file that was taken out.
type File struct {
	Name string // safe to show
	Type string // media type, in lower case
	Size int64  // bytes
	Link string // ASCII
}

// heading returns the sentence that says why the files are not in the mail, who keeps them, and
// until when.
func (n *Notice) heading() string {
	forms, date := n.Language.Heading, ""
	if !n.Expires.IsZero() {
		forms, date = n.Language.HeadingUntil, n.Language.Day(texts.LastDay(n.Expires))
	}
	return n.fill(forms, date)
}

// fill fills in the plural form for the number of files.
func (n *Notice) fill(forms texts.Forms, date string) string {
	values := strings.NewReplacer("{count}", fmt.Sprint(len(n.Files)), "{name}", n.Operator, "{date}", date)
	return values.Replace(n.Language.Form(forms, len(n.Files)))
}

// text returns the notice in plain text, its lines separated by \n, each link on a separate line.
// No line ends in a blank, so in a flowed text each ends a paragraph (RFC 3676 section 4.1).
func (n *Notice) text(flowed bool) string {
	var b strings.Builder
	b.WriteString(n.heading())
	for _, f := range n.Files {
		name := f.Name
		if flowed && (strings.HasPrefix(name, ">") || strings.HasPrefix(name, "From ")) {
			name = " " + name // space-stuffed (RFC 3676 section 4.4)
		}
		fmt.Fprintf(&b, "\n\n%s (%s)\n%s", name, n.Language.Size(f.Size), f.Link)
	}
	if n.All != "" {
		fmt.Fprintf(&b, "\n\n%s\n%s", n.fill(n.Language.All, ""), n.All)
	}
	return b.String()
}

// The notice in HTML is a table of one cell, because Outlook for Windows knows padding only in
// table cells. It sets no color for texts, links and backgrounds: its texts have the color of the
// mail's own texts, also after a mail program with a dark mode has changed that. Quiet texts have
// less opacity instead of another color. The border is as visible on white as on black. A property
// that a mail program does not know, like rounded corners, changes only the looks
// (https://www.caniemail.com/features/).
const (
	tableTags = "<table dir=\"%s\" style=\"margin:16px 0;border:1px solid #888;border-radius:6px\">\n" +
		"<tr><td style=\"padding:10px 14px 2px;text-align:%s;font:14px Arial,sans-serif;word-break:break-word%s\">\n"
	// rowTags has a link, its text, and what is said about it. The text begins with a downwards
	// arrow: without it, spam filters take a name like "film.mov" for a host, and the link for a
	// forged one.
	rowTags = "\n<p style=\"margin:8px 0\"><a style=\"color:inherit\" href=\"%s\">\n" +
		"<u>&#8595;&#160;%s</u></a>&#160; <span style=\"opacity:.75\">%s</span></p>"
	endTags = "</td></tr></table>"
)

// html returns the notice in HTML, one row for each file, and one for all of them. It is ASCII, so
// it fits into any charset. The text of each link is the file's name. It has colors of its own only
// if those of the mail's body cannot be read.
func (n *Notice) html(colored bool) string {
	var b strings.Builder
	side := "left"
	if n.Language.Dir == "rtl" {
		side = "right"
	}
	own := ""
	if colored {
		own = ";background:#fff;color:#222"
	}
	fmt.Fprintf(&b, tableTags, n.Language.Dir, side, own)
	b.WriteString(asciiHTML(n.heading()))
	total := int64(0)
	for _, f := range n.Files {
		about := unbroken(n.Language.Size(f.Size))
		if kind := f.kind(n.Language); kind != "" {
			about = asciiHTML(kind) + ", " + about
		}
		fmt.Fprintf(&b, rowTags, asciiHTML(f.Link), n.isolated(f.Name), about)
		total += f.Size
	}
	if n.All != "" {
		fmt.Fprintf(&b, rowTags, asciiHTML(n.All), asciiHTML(n.fill(n.Language.All, "")), unbroken(n.Language.Size(total)))
	}
	return b.String() + endTags
}

// unbroken returns text in HTML that stays on one line: phones would end a line between "23" and
// "KB".
func unbroken(s string) string { return asciiHTML(strings.ReplaceAll(s, " ", "\u00a0")) }

// isolated returns a name in HTML. If its direction may differ from the notice's, bdi keeps it from
// the text that follows. A mark with the notice's direction (Unicode Standard Annex 9 section 2.6)
// does so in most mail programs, which do not know bdi.
func (n *Notice) isolated(name string) string {
	switch {
	case n.Language.Dir == "rtl":
		return "<bdi>" + htmlName(name) + "</bdi>&#8207;"
	case strings.ContainsFunc(name, rightToLeft):
		return "<bdi>" + htmlName(name) + "</bdi>&#8206;"
	}
	return htmlName(name)
}

func rightToLeft(r rune) bool {
	p, _ := bidi.LookupRune(r)
	return p.Class() == bidi.R || p.Class() == bidi.AL
}

var extension = regexp.MustCompile(`\.([0-9]*[A-Za-z][0-9A-Za-z]*)$`)

// maxExtension is the length of the longest extension that is shown as a file's kind.
const maxExtension = 5

// kind returns what kind of file f is: its extension in capitals, or, without one, a word for the
// type. It is empty if neither says anything. It names no program, since a link that says "Word
// document" looks like the imitations of file sharing services in forged mail.
func (f File) kind(l *texts.Language) string {
	if m := extension.FindStringSubmatch(f.Name); m != nil && len(m[1]) <= maxExtension {
		return strings.ToUpper(m[1])
	}
	major, _, _ := strings.Cut(f.Type, "/")
	return l.Kinds[major]
}

// maxHTMLName keeps the line that has a name under the 998 bytes of RFC 5322 section 2.1.1.
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

// ContentType is the Content-Type of the entity that Entity returns.
const ContentType = "text/plain; charset=utf-8"

// Entity returns the notice as the body of a separate entity, in lines that end with eol, and its
// transfer encoding.
func (n *Notice) Entity(eol string) (content []byte, encoding string) {
	content = []byte(strings.ReplaceAll(n.text(false)+"\n", "\n", eol))
	if isASCII(content) {
		return content, "7bit"
	}
	return transfer.EncodeQuoted(content, eol), "quoted-printable"
}
