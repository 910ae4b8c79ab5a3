package notice

import (
	"fmt"
	"html"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nkirchhoffer/detach-mta/internal/texts"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// A Notice says which files were taken out of a mail, and where they can be downloaded.
type Notice struct {
	Language *texts.Language
	Operator string // who keeps the files: a name on one line, or a host
	Files    []File
	All      string    // the link to all files; may be empty
	Expires  time.Time // when the links stop working; zero: never
}

// A File is a file that was taken out.
type File struct {
	Name string // safe to show
	Size int64  // bytes
	Link string // ASCII
}

// heading returns the sentence that says why the files are not in the mail, who keeps them, and
// until when.
func (n *Notice) heading() string {
	forms, date := n.Language.Heading, ""
	if !n.Expires.IsZero() {
		forms, date = n.Language.HeadingUntil, n.Language.Day(n.Expires)
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

// boxStyle sets text and background colors together, so the notice is readable on any background,
// and a mail program with a dark mode inverts both.
const boxStyle = "clear:both;margin:1em 0;padding:1em;border:1px solid #888;background:#eee;color:#222;" +
	"font:14px sans-serif;word-break:break-word"

// html returns the notice in HTML. It is ASCII, so it fits into any charset. The text of each link
// is the file's name.
func (n *Notice) html() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<div dir=\"%s\" style=\"%s\">\n%s", n.Language.Dir, boxStyle, asciiHTML(n.heading()))
	for _, f := range n.Files {
		fmt.Fprintf(&b, entry, asciiHTML(f.Link), "<bdi>"+htmlName(f.Name)+"</bdi>", " ("+asciiHTML(n.Language.Size(f.Size))+")")
	}
	if n.All != "" {
		fmt.Fprintf(&b, entry, asciiHTML(n.All), asciiHTML(n.fill(n.Language.All, "")), "")
	}
	b.WriteString("</div>")
	return b.String()
}

// entry formats the link to a download, its text, and what follows it. The text begins with a
// downwards arrow: without it, spam filters take a name like "film.mov" for a host, and the link
// for a forged one.
const entry = "<br><br>\n<a style=\"color:#05c\" href=\"%s\">\n&#8595; %s</a>%s"

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
