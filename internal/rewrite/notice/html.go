package notice

import (
	"strings"

	"golang.org/x/net/html"
)

// htmlSpot finds the notice's place in HTML, as browsers read it: where the body is visible.
func htmlSpot(text string, position Position) spot {
	p := htmlPlaces{top: -1, bodyEnd: -1, htmlEnd: -1, quote: -1, signature: -1}
	p.read(text)
	at := p.end
	switch {
	case position == Top && p.top >= 0:
		at = p.top
	case position == Top:
	case p.signature >= 0 && (p.quote < 0 || p.signature < p.quote):
		at = p.signature
	case p.quote >= 0:
		at = p.quote
	case p.bodyEnd >= 0:
		at = p.bodyEnd
	case p.htmlEnd >= 0:
		at = p.htmlEnd
	}
	// The notice gets separate lines, so it makes no other line too long (RFC 5322 section 2.1.1).
	s := spot{at: at}
	if at > 0 && text[at-1] != '\n' && !(at == len(byteOrderMark) && strings.HasPrefix(text, byteOrderMark)) {
		s.before = "\n"
	}
	if text == "" || at < len(text) && text[at] != '\r' && text[at] != '\n' {
		s.after = "\n"
	}
	return s
}

// htmlPlaces has the offsets that matter in an HTML text, -1 if not found, and the search's state.
type htmlPlaces struct {
	top, bodyEnd, htmlEnd int
	end                   int // of the markup that is complete and visible
	quote                 int // where the text replied to begins
	signature             int

	written     bool // the sender's text was found
	interleaved bool // the sender's text continues after a quotation
	final       bool // the rest is the text replied to
	tables      int  // open

	inside string // the element being skipped with its content
	depth  int    // of open elements with that name
}

// unseen elements have text that browsers do not show.
var unseen = map[string]bool{"script": true, "style": true, "title": true}

// headTags may stand before the body begins.
var headTags = map[string]bool{"html": true, "head": true, "meta": true, "link": true, "base": true, "title": true, "style": true, "script": true}

// rawTags swallow everything up to their end tag or, without one, to the end of the text.
var rawTags = map[string]bool{"script": true, "style": true, "title": true, "textarea": true, "iframe": true, "noembed": true, "noframes": true, "noscript": true, "xmp": true, "plaintext": true}

func (p *htmlPlaces) read(text string) {
	rest := strings.TrimPrefix(text, byteOrderMark)
	z := html.NewTokenizer(strings.NewReader(rest))
	open, pos := "", len(text)-len(rest)
	p.end = pos
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			return
		}
		start, raw := pos, string(z.Raw())
		pos += len(raw)
		switch kind {
		case html.TextToken:
			p.text(raw, open, start)
		case html.StartTagToken, html.SelfClosingTagToken:
			name, attrs := tag(z)
			p.startTag(name, attrs, start, pos, kind == html.SelfClosingTagToken)
			if open = ""; rawTags[name] {
				open = name
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			p.endTag(string(name), start)
			open = ""
		case html.CommentToken:
			if pos == len(text) && strings.HasPrefix(raw, "<!--") && !strings.HasSuffix(raw, "-->") {
				continue // never closed
			}
		}
		if open == "" {
			p.end = pos
		}
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

func (p *htmlPlaces) text(raw, open string, start int) {
	if unseen[open] || strings.TrimSpace(strings.NewReplacer("&nbsp;", "", "\u00a0", "", "\u200b", "").Replace(raw)) == "" {
		return
	}
	p.content(start)
}

// content notes visible content.
func (p *htmlPlaces) content(at int) {
	if p.top < 0 {
		p.top = at
	}
	if p.inside != "" || p.final {
		return
	}
	p.written, p.signature = true, -1
	if p.quote >= 0 {
		p.quote, p.interleaved = -1, true
	}
}

func (p *htmlPlaces) startTag(name string, attrs map[string]string, start, end int, closed bool) {
	switch {
	case name == "body":
		p.top = end
		return
	case p.top < 0 && !headTags[name]:
		p.top = start
	}
	if name == "table" {
		p.tables++
	}
	if name == p.inside && !closed {
		p.depth++
	}
	if p.inside != "" || p.final {
		return
	}
	if name == "img" {
		p.content(start)
		return
	}
	switch kind := reply(name, attrs); {
	case kind == quoteToEnd && p.written && !p.interleaved:
		if p.final = true; p.quote < 0 && p.tables == 0 {
			p.quote = start
		}
	case kind == quoteElement && !closed:
		p.inside, p.depth = name, 1
		if !p.written {
			p.interleaved = true
		}
		if p.quote < 0 && !p.interleaved && p.tables == 0 {
			p.quote = start
		}
	case kind == signatureElement && !closed:
		p.inside, p.depth = name, 1
		if p.written && p.signature < 0 && p.tables == 0 {
			p.signature = start
		}
	}
}

func (p *htmlPlaces) endTag(name string, start int) {
	switch name {
	case "body":
		p.bodyEnd = start
	case "html":
		p.htmlEnd = start
	case "table":
		p.tables = max(0, p.tables-1)
	}
	if name == p.inside {
		if p.depth--; p.depth == 0 {
			p.inside = ""
		}
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
	style := strings.ToLower(strings.ReplaceAll(attrs["style"], " ", ""))
	switch {
	case name == "blockquote" && strings.EqualFold(attrs["type"], "cite"):
		return quoteElement
	case name == "div" && (strings.Contains(style, "border-top:solid#e1e1e11.0pt") || strings.Contains(style, "border-top:solid#b5c4df1.0pt")):
		return quoteToEnd // Word draws a line above From: and Sent:
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
