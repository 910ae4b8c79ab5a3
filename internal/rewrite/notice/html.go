package notice

import (
	"regexp"
	"strings"

	"golang.org/x/net/html"
)

// htmlSpot finds the notice's place in HTML, as browsers read it: where the body is visible, and
// never within armor.
func htmlSpot(text string, position Position) spot {
	p := htmlPlaces{top: -1, bodyEnd: -1, htmlEnd: -1, quote: -1, signature: -1, inLink: -1, colors: colors{background: 1}}
	p.read(text)
	at := p.choose(position)
	// The notice gets separate lines, so it makes no other line too long (RFC 5322 section 2.1.1).
	s := spot{at: at, colored: p.colors.unreadable()}
	if at == p.inLink {
		s.before = "</a>"
	}
	if at > 0 && text[at-1] != '\n' && !(at == len(byteOrderMark) && strings.HasPrefix(text, byteOrderMark)) {
		s.before += "\n"
	}
	if text == "" || at < len(text) && text[at] != '\r' && text[at] != '\n' {
		s.after = "\n"
	}
	return s
}

// htmlPlaces has the offsets that matter in an HTML text, -1 if not found, and the search's state.
type htmlPlaces struct {
	top, bodyEnd, htmlEnd int
	end                   int // the last place where the notice is visible
	quote                 int // where the text replied to begins
	signature             int
	inLink                int // the last of bodyEnd, htmlEnd and end, if it is in a link

	written     bool // the sender's text was found
	interleaved bool // the sender's text continues after a quotation
	final       bool // the rest is the text replied to

	colors colors
	open   elements
	noWord bool // Outlook for Windows does not show what follows
	line   htmlLine
	armor  armor
	quotes int // how many quotations are open around the armor
}

// choose returns the offset of the notice.
func (p *htmlPlaces) choose(position Position) int {
	found := p.end
	switch {
	case position == Top:
		found = p.top
	case p.signature >= 0 && (p.quote < 0 || p.signature < p.quote):
		return p.signature
	case p.quote >= 0:
		return p.quote
	case p.bodyEnd >= 0:
		return p.bodyEnd
	case p.htmlEnd >= 0:
		return p.htmlEnd
	case p.open.lost:
		found = p.top
	}
	if found < 0 {
		return p.end
	}
	return max(found, p.top)
}

// unseen elements have text that is not part of the mail's text.
var unseen = set("script style title")

// headTags may stand before the body begins.
var headTags = set("html head meta link base title style script")

func (p *htmlPlaces) read(text string) {
	rest := strings.TrimPrefix(text, byteOrderMark)
	z := html.NewTokenizer(strings.NewReader(rest))
	pos, closed := len(text)-len(rest), true
	p.end, p.line.above = pos, pos
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			break
		}
		start, raw := pos, string(z.Raw())
		pos += len(raw)
		switch kind {
		case html.TextToken:
			p.text(raw, start)
		case html.StartTagToken, html.SelfClosingTagToken:
			name, attrs := tag(z)
			p.startTag(name, attrs, start, pos, kind == html.SelfClosingTagToken)
		case html.EndTagToken:
			name, _ := z.TagName()
			p.endTag(string(name), start)
		case html.CommentToken:
			closed = p.comment(raw, pos == len(text))
		}
		if closed && p.free() && !p.open.inTable() {
			p.end = pos
		}
		if p.line.empty() {
			p.line.above = p.end
		}
	}
	// The notice is a table, so it ends a table that is open between two cells.
	if p.endLine(); closed && p.free() && pos == len(text) {
		if p.end = pos; p.bodyEnd < 0 && p.htmlEnd < 0 {
			p.link(pos)
		}
	}
}

// link notes whether the place is in a link that was never closed. There, Outlook for Windows would
// open that link instead of the notice's.
func (p *htmlPlaces) link(at int) {
	if p.inLink = -1; p.open.last("a", isScope) >= 0 {
		p.inLink = at
	}
}

func tag(z *html.Tokenizer) (string, map[string]string) {
	name, more := z.TagName()
	tagName, attrs := string(name), map[string]string{}
	for more && len(attrs) < 64 {
		var k, v []byte
		k, v, more = z.TagAttr()
		if _, twice := attrs[string(k)]; !twice {
			attrs[string(k)] = string(v)
		}
	}
	return tagName, attrs
}

// free reports whether a notice in this place is visible, part of the sender's text, and not within
// armor.
func (p *htmlPlaces) free() bool {
	return p.open.unfit == 0 && p.open.asides == 0 && !p.open.lost && !p.noWord && !p.armor.open
}

var blanks = strings.NewReplacer("&nbsp;", " ", "\u00a0", " ", "\u200b", "")

func (p *htmlPlaces) text(raw string, start int) {
	switch name := p.open.innermost(); {
	case name == "style":
		for _, rule := range bodyRule.FindAllStringSubmatch(raw, -1) {
			p.colors.set(rule[1])
		}
		return
	case unseen[name]:
		return
	}
	p.readLines(raw)
	if strings.TrimSpace(blanks.Replace(raw)) != "" {
		p.content(start)
	}
}

// content notes visible content.
func (p *htmlPlaces) content(at int) {
	if p.top < 0 {
		p.top = at
	}
	if p.open.asides > 0 || p.final {
		return
	}
	p.written, p.signature = true, -1
	if p.quote >= 0 {
		p.quote, p.interleaved = -1, true
	}
}

func (p *htmlPlaces) startTag(name string, attrs map[string]string, start, end int, closed bool) {
	kind := reply(name, attrs)
	if blocks[name] || lineTags[name] || kind != ownText {
		p.endLine()
	}
	switch {
	case name == "body" && p.top < 0: // later ones only add attributes
		p.top = end
		luminance(&p.colors.text, attrs["text"])
		luminance(&p.colors.background, attrs["bgcolor"])
		p.colors.set(attrs["style"])
	case p.top < 0 && !headTags[name]:
		p.top = start
	}
	switch name {
	case "html", "head", "body", "frameset":
		return
	case "img":
		p.content(start)
	}
	one := element{name: name, unfit: unfit(name, attrs), quoting: name == "blockquote" || kind == quoteElement}
	if p.open.asides == 0 && !p.final {
		p.reply(kind, start)
		one.aside = kind == quoteElement || kind == signatureElement
	}
	p.open.start(one, closed)
}

// reply notes the beginning of a part of a reply.
func (p *htmlPlaces) reply(kind replyKind, at int) {
	free := p.free() && p.open.tables == 0
	switch {
	case kind == quoteToEnd && p.written && !p.interleaved:
		if p.final = true; p.quote < 0 && free {
			p.quote = at
		}
	case kind == quoteElement:
		if !p.written {
			p.interleaved = true
		}
		if p.quote < 0 && !p.interleaved && free {
			p.quote = at
		}
	case kind == signatureElement:
		if p.written && p.signature < 0 && free {
			p.signature = at
		}
	}
}

func (p *htmlPlaces) endTag(name string, start int) {
	if blocks[name] || lineTags[name] {
		p.endLine()
	}
	switch {
	case name == "body" && p.free():
		p.bodyEnd = start
		p.link(start)
	case name == "html" && p.free():
		if p.htmlEnd = start; p.bodyEnd < 0 {
			p.link(start)
		}
	case name != "body" && name != "html": // text after these tags is still in the body
		p.open.end(name)
	}
	if p.armor.open && p.open.quotes < p.quotes {
		p.armor = armor{} // the rest of the quotation was left out
	}
}

// comment reads a comment. It reports whether the comment has an end, unless it is the text's last
// token. Conditional comments hide what is between them from Outlook for Windows.
func (p *htmlPlaces) comment(raw string, last bool) (closed bool) {
	if last && strings.HasPrefix(raw, "<!--") && !strings.HasSuffix(raw, "-->") && !strings.HasSuffix(raw, "--!>") {
		return false
	}
	condition, _, _ := strings.Cut(raw, "]")
	switch {
	case strings.Contains(raw, "[endif]"):
		p.noWord = false
	case strings.Contains(condition, "[if") && strings.Contains(strings.TrimPrefix(condition, "<!"), "!"):
		p.noWord = true
	}
	return true
}

// lineTags end a line of text, as blocks do.
var lineTags = union(cells, rows, set("br table colgroup option select textarea body html"))

// maxMarkLine is more than the first or last line of armor has, with all its quote signs.
const maxMarkLine = 200

// An htmlLine is the beginning of a line of visible text.
type htmlLine struct {
	text  []byte
	above int // the last place above the line where the notice is visible
}

func (l *htmlLine) empty() bool { return len(l.text) == 0 }

func (l *htmlLine) add(text string) {
	l.text = append(l.text, text[:min(len(text), maxMarkLine+1-len(l.text))]...)
}

var halfMark = regexp.MustCompile(`^[\s>|]*(- )?-----((BEGIN|END)( [A-Z][A-Z0-9 ,/]*)?)?\s*$`)

// readLines finds armor in a piece of text. A line ends with a line of the source, which may be in
// a pre, unless the line break is within the mark of armor.
func (p *htmlPlaces) readLines(raw string) {
	for i, piece := range strings.Split(raw, "\n") {
		switch {
		case i == 0:
		case strings.HasPrefix(strings.TrimSpace(string(p.line.text)), "-") && halfMark.Match(p.line.text):
			p.line.add(" ")
		default:
			p.endLine()
		}
		if len(p.line.text) <= maxMarkLine {
			p.line.add(blanks.Replace(html.UnescapeString(piece[:min(len(piece), 8*maxMarkLine)])))
		}
	}
}

// endLine reads a whole line.
func (p *htmlPlaces) endLine() {
	line, was := string(p.line.text), p.armor.open
	p.line.text = p.line.text[:0]
	if was && p.open.quotes != p.quotes {
		return
	}
	if p.armor.next(line); !was && p.armor.open {
		p.quotes, p.end = p.open.quotes, p.line.above
	}
}

type replyKind int

const (
	ownText          replyKind = iota
	quoteElement               // the element has the text replied to
	quoteToEnd                 // the element and everything after it are the text replied to
	signatureElement           // the element is a signature
)

// replyClasses and replyIDs are the marks by which mail programs label the parts of a reply.
var (
	replyClasses = map[string]replyKind{
		"gmail_quote": quoteElement, "gmail_quote_container": quoteElement, "moz-cite-prefix": quoteElement,
		"yahoo_quoted": quoteElement, "protonmail_quote": quoteElement, "moz-forward-container": quoteElement,
		"gmail_signature": signatureElement, "gmail_signature_prefix": signatureElement, "moz-signature": signatureElement,
	}
	replyIDs = map[string]replyKind{
		"divrplyfwdmsg": quoteToEnd, "appendonsend": quoteToEnd, "mail-editor-reference-message-container": quoteToEnd,
		"stopspelling": quoteToEnd, "olk_src_body_section": quoteElement, "reply-intro": quoteElement,
	}
)

// reply returns the role of an element in a reply.
func reply(name string, attrs map[string]string) replyKind {
	for _, class := range strings.Fields(strings.ToLower(attrs["class"])) {
		if kind, ok := replyClasses[class]; ok {
			return kind
		}
	}
	if kind, ok := replyIDs[strings.ToLower(attrs["id"])]; ok {
		return kind
	}
	style := compact(attrs["style"])
	switch {
	case name == "blockquote" && strings.EqualFold(attrs["type"], "cite"):
		return quoteElement
	case name == "div" && (strings.Contains(style, "border-top:solid#e1e1e11.0pt") || strings.Contains(style, "border-top:solid#b5c4df1.0pt")):
		return quoteToEnd // Word draws a line above From: and Sent:
	case name == "hr" && strings.Contains(style, "width:98%"):
		return quoteToEnd // the same in Outlook on the web
	}
	return ownText
}

// htmlText returns the beginning of the visible text of HTML.
func htmlText(text string, limit int) string {
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(text))
	for hidden := false; b.Len() < limit; {
		switch z.Next() {
		case html.ErrorToken:
			return b.String()
		case html.TextToken:
			if !hidden {
				b.Write(z.Text())
			}
		case html.StartTagToken:
			name, _ := z.TagName()
			hidden = unseen[string(name)]
			b.WriteByte(' ')
		case html.EndTagToken:
			hidden = false
			b.WriteByte(' ')
		}
	}
	return b.String()
}
