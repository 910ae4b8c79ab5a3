package reference

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
)

const (
	// maxURL bounds the URLs that are read. Longer ones have their data in themselves, and a header
	// field of this length is folded several times.
	maxURL = 4 << 10
	// before is how much of the text before a URL is read: the name of an attribute.
	before = 64
	// maxEnds bounds the places where one URL may end.
	maxEnds = 8
	// maxWork is how many bytes are looked at for each byte of all texts, in addition to freeWork.
	// Texts that need more count as referring to everything: they repeat the beginnings of URLs
	// without their ends.
	maxWork  = 8
	freeWork = 256 << 10
	// workForURL is the work for an empty URL.
	workForURL = 32
	// workForUnicode is the work for each byte of a URL that is not ASCII.
	workForUnicode = 16
)

// A scanner looks for URLs in the window of a text.
type scanner struct {
	set     *Set
	account *memory.Account
	window  []byte
	next    int // from here on the window is not scanned yet
}

// readText notes all URLs of a text.
func (s *scanner) readText(t Text) error {
	if s.set.any = s.set.any || t.Content == nil || isUTF7(t.Charset); s.set.any {
		return nil
	}
	b := bufferPool.Get().(*buffers)
	defer bufferPool.Put(b)
	s.window = b.window[:0]
	src, err := newTextReader(t, b.raw[:])
	for ended := false; err == nil && !ended && !s.set.any; {
		if ended, err = src.fill(&s.window); err == nil {
			s.set.read += src.take()
			s.scan(ended)
		}
	}
	return err
}

// scan scans the window, except for its end if more text follows, and removes what is scanned.
func (s *scanner) scan(ended bool) {
	end := len(s.window)
	if !ended {
		end = max(s.next, end-maxURL)
	}
	for i := s.next; i < end && !s.set.any; i++ {
		if !mayBegin[s.window[i]] {
			continue
		}
		left, right := s.window[max(0, i-before):i], s.window[i+1:min(len(s.window), i+1+maxURL)]
		switch s.window[i] {
		case ':':
			s.scheme(left, right)
		case '=':
			s.attribute(left, right)
		case '(':
			if endsWith(left, "url") {
				s.cssURL(right)
			}
		case '@':
			if n := len("import"); endsWith(right[:min(n, len(right))], "import") {
				s.cssString(bytes.TrimLeft(right[n:], blanks))
			}
		}
	}
	keep := max(0, end-before)
	s.next = end - keep
	s.window = s.window[:copy(s.window, s.window[keep:])]
}

// mayBegin are the bytes that stand before URLs.
var mayBegin = [256]bool{':': true, '=': true, '(': true, '@': true}

// scheme notes the URL that has its scheme at the end of left, and continues in right.
func (s *scanner) scheme(left, right []byte) {
	note := s.id
	switch {
	case endsWith(left, "cid"):
	case endsWith(left, "mid"):
		note = s.messageID
	default:
		return
	}
	right = bytes.TrimLeft(right, blanks+"<"+string(entityLess))
	left = bytes.TrimRight(left[:len(left)-len("cid")], blanks)
	if n := len(left); n > 0 && isQuote(left[n-1]) { // blanks and brackets end nothing within quotes
		if end := bytes.IndexByte(right, left[n-1]); end >= 0 {
			note(right[:end])
		}
	}
	right = until(right, hardEnds)
	note(right)
	for i, ends := 0, 0; i < len(right) && ends < maxEnds; i++ {
		if strings.IndexByte(softEnds, right[i]) >= 0 {
			note(right[:i])
			ends++
		}
	}
}

const (
	// rawBlanks are the blanks of HTML.
	rawBlanks = " \t\r\n\f"
	// blanks are rawBlanks, and character references for them.
	blanks = rawBlanks + string(entityBlank)
	// hardEnds end every URL that is not in quotes.
	hardEnds = blanks + "\"'<>`" + string(entityDouble) + string(entitySingle) + string(entityLess) + string(entityMore)
	// softEnds are characters that belong to a URL or end it, depending on the text around it.
	softEnds = `()\,;#?&|[]{}`
)

// until returns b up to the first of some bytes, or all of it.
func until(b []byte, ends string) []byte {
	if end := bytes.IndexAny(b, ends); end >= 0 {
		return b[:end]
	}
	return b
}

func isQuote(c byte) bool {
	return c == '"' || c == '\'' || c == entityDouble || c == entitySingle
}

// endsWith reports whether b ends with a word in lower case, in any case.
func endsWith(b []byte, word string) bool {
	n := len(b) - len(word)
	return n >= 0 && strings.EqualFold(string(b[n:]), word)
}

// A urlKind says how a mail program uses a URL.
type urlKind int

const (
	noURL   urlKind = iota
	link            // opens something
	picture         // shows something in the text
	list            // shows one of several pictures
)

// attributes are the attributes of HTML, SVG and VML that have URLs, without namespaces.
var attributes = map[string]urlKind{
	"href": link, "action": link, "cite": link, "longdesc": link,
	"src": picture, "background": picture, "poster": picture, "data": picture, "lowsrc": picture, "dynsrc": picture,
	"srcset": list, "imagesrcset": list,
}

// attribute notes the URLs in an attribute whose name is at the end of left, and whose value is at
// the start of right.
func (s *scanner) attribute(left, right []byte) {
	kind := attributes[attributeName(left)]
	if kind == noURL {
		return
	}
	value, whole := attributeValue(bytes.TrimLeft(right, rawBlanks))
	switch {
	case kind == list:
		s.urls(value)
	case whole:
		s.url(value, kind)
	default: // data, or a quote that is never closed
		s.url(until(value, hardEnds), kind)
	}
}

// attributeName returns the name at the end of left, in lower case and without a namespace, or "".
func attributeName(left []byte) string {
	left = bytes.TrimRight(left, blanks)
	n := len(left)
	for n > 0 && ('a' <= left[n-1]|0x20 && left[n-1]|0x20 <= 'z' || left[n-1] == '-') {
		n--
	}
	if name := left[n:]; len(name) <= len("imagesrcset") {
		return strings.ToLower(string(name))
	}
	return ""
}

// attributeValue returns the value at the start of b, and whether its end was found.
func attributeValue(b []byte) (value []byte, whole bool) {
	if len(b) > 0 && (b[0] == '"' || b[0] == '\'') {
		value, _, whole = bytes.Cut(b[1:], b[:1])
		return value, whole
	}
	value = until(b, rawBlanks+">")
	return value, len(value) < len(b)
}

// urls notes the URLs of a list: blanks end a URL, and commas do if blanks follow (srcset of HTML).
// Programs also write lists without blanks.
func (s *scanner) urls(list []byte) {
	for _, u := range bytes.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(blanks, r) }) {
		u = bytes.Trim(u, ",")
		s.url(u, picture)
		if bytes.IndexByte(u, ',') >= 0 {
			for piece := range bytes.SplitSeq(u, []byte(",")) {
				s.url(piece, picture)
			}
		}
	}
}

// cssURL notes the URL of CSS that begins after "url(".
func (s *scanner) cssURL(b []byte) {
	b = bytes.TrimLeft(b, blanks)
	if s.cssString(b) {
		return
	}
	// Without quotes parentheses must be escaped, but programs also write and read others.
	first, balanced := cssEnd(b, ')', 0), cssEnd(b, ')', '(')
	s.cssText(b, first)
	if balanced != first {
		s.cssText(b, balanced)
	}
}

// cssString notes the URL in a string of CSS, and reports whether b begins with a string.
func (s *scanner) cssString(b []byte) bool {
	if len(b) == 0 || !isQuote(b[0]) {
		return false
	}
	s.cssText(b[1:], cssEnd(b[1:], b[0], 0))
	return true
}

// cssText notes the URL that b has up to end. If end is -1, the URL is too long.
func (s *scanner) cssText(b []byte, end int) {
	if end < 0 {
		s.spend(len(b))
		return
	}
	s.url(cssUnescape(b[:end]), picture)
}

// cssEnd returns the offset of the first end that is not escaped, and that closes no open before
// it, or -1.
func cssEnd(b []byte, end, open byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\\':
			i++
		case c == end && depth == 0:
			return i
		case c == end:
			depth--
		case c == open:
			depth++
		}
	}
	return -1
}

// cssUnescape decodes the escapes of CSS (CSS Syntax Level 3 section 4.3.7).
func cssUnescape(b []byte) []byte {
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			out = append(out, b[i])
			continue
		}
		char, digits := rune(0), 0
		for ; digits < 6 && hexAt(b, i+1+digits) >= 0; digits++ {
			char = char<<4 | rune(hexAt(b, i+1+digits))
		}
		if digits == 0 { // the next character stands for itself
			if i++; i < len(b) {
				out = append(out, b[i])
			}
			continue
		}
		i += digits
		out = utf8.AppendRune(out, char)
		if i+1 < len(b) && strings.IndexByte(blanks, b[i+1]) >= 0 {
			i++ // ends the number
		}
	}
	return out
}

// url notes a URL of which both ends are known.
func (s *scanner) url(b []byte, kind urlKind) {
	u := strings.Trim(s.canonical(b), `"'<>`)
	switch u[:strings.IndexByte(u, ':')+1] { // the scheme
	case "cid:":
		s.add(idName(u))
		return
	case "data:", "mailto:", "tel:", "javascript:":
		return
	}
	s.add(locationName(u))
	if name := strings.TrimPrefix(u, "./"); kind == picture && !strings.ContainsAny(name, "/:") {
		s.add(name)
	}
}

// id notes a Content-ID as written in a URL.
func (s *scanner) id(b []byte) { s.add(idName(s.canonical(b))) }

// messageID notes the Content-ID after a Message-ID.
func (s *scanner) messageID(b []byte) {
	for _, slash := range [...]int{bytes.IndexByte(b, '/'), bytes.LastIndexByte(b, '/')} {
		if slash >= 0 {
			s.id(b[slash+1:])
		}
	}
}

func (s *scanner) add(name string) { s.set.add(name, s.account) }

// canonical returns the canonical form of b, or "" if the text has needed too much work.
func (s *scanner) canonical(b []byte) string {
	if !s.spend(len(b) + workForURL) {
		return ""
	}
	u := canonicalASCII(string(b))
	if isASCII(u) || !s.spend(len(u)*workForUnicode) {
		return u
	}
	return canonicalUnicode(u)
}

// spend counts the work of looking at n bytes, and reports whether it may be done.
func (s *scanner) spend(n int) bool {
	s.set.work += int64(n)
	s.set.any = s.set.any || s.set.work > freeWork+maxWork*s.set.read
	return !s.set.any
}
