package reference

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// pieces are what FuzzReferences makes HTML of.
var pieces = []string{
	"<", ">", "/>", "</", "<!--", "-->", "<!--[if mso]>", "<![endif]-->", "img", "td", "v:fill", "style", "script", " ", "\n", "\t", "=", `"`, "'", "`",
	"src", "href", "background", "srcset", "style=", "alt=", "data", "cid:", "mid:", "CID:", "c&#105;d:", "http://x/", "a", "logo", ".png", "@x", "/", "\\", "#", "?", "&", "%41", "%2541", "%", "é", "\xE9",
	"&quot;", "&#39;", "&quot", "&#34", "&lt;", "&gt;", "&#32;", "&amp;", "&copy", "&copy=", "url(", "URL(", "&#40;", ")", "(", ";", ":", ",", " 2x", "@import ", `\28 `, `\29`, `\"`, "\\\n", `\000041`, "{", "}",
	`<img src="`, `<img src='`, `<img src=`, `<td style="`, `<td style='`, `<style>`, `</style>`, `<img srcset="`, `<a href="`,
}

// Every URL that an HTML parser finds in an attribute, and every URL of CSS, is found, as a
// Content-ID or as a location.
func FuzzReferences(f *testing.F) {
	for i := range pieces {
		for j := range 8 {
			f.Add([]byte{byte(i), byte(i * j), byte(i + j), byte(j), 27, byte(i ^ j), 32, 17, 1})
		}
	}
	f.Fuzz(func(t *testing.T, picks []byte) {
		var text strings.Builder
		for _, p := range picks {
			text.WriteString(pieces[int(p)%len(pieces)])
		}
		if text.Len() < maxURL {
			checkURLs(t, text.String())
		}
	})
}

func checkURLs(t *testing.T, text string) {
	s := read(t, htmlText(text))
	for _, u := range urlsOf(text) {
		p := withLocation(u)
		if id, ok := strings.CutPrefix(u, "cid:"); ok {
			p = withID("<" + id + ">")
		}
		if named(p) && !s.RefersTo(p) {
			t.Fatalf("no reference to %q in %q", u, text)
		}
	}
}

// urlsOf returns the URLs in HTML, as an HTML parser and patterns of CSS find them.
func urlsOf(text string) (urls []string) {
	inStyle := false
	for z := html.NewTokenizer(strings.NewReader(text)); z.Next() != html.ErrorToken; {
		token := z.Token()
		if token.Type == html.TextToken && inStyle && !strings.Contains(token.Data, "&") { // programs differ about those
			urls = append(urls, cssURLsOf(token.Data)...)
		}
		inStyle = token.Type == html.StartTagToken && token.Data == "style"
		for _, a := range token.Attr {
			switch attributes[a.Key] {
			case link, picture:
				urls = append(urls, cleanURL(a.Val)...)
			case list:
				first, _, _ := strings.Cut(strings.TrimLeft(blankLines.Replace(a.Val), " ,")+" ", " ")
				urls = append(urls, cleanURL(strings.TrimRight(first, ","))...)
			case noURL:
				if a.Key == "style" {
					urls = append(urls, cssURLsOf(a.Val)...)
				}
			}
		}
	}
	return urls
}

var (
	blankLines = strings.NewReplacer("\t", " ", "\n", " ", "\r", " ", "\f", " ")
	cssURL     = regexp.MustCompile(`(?is)url\([ \t\r\n\f]*(?:"((?:[^"\\\n]|\\.)*)"|'((?:[^'\\\n]|\\.)*)'|((?:[^"'()\\ \t\r\n\f]|\\[^\n])+))[ \t\r\n\f]*\)`)
	cssEscape  = regexp.MustCompile(`(?s)\\([0-9a-fA-F]{1,6}[ \t\n\r\f]?|.)`)
)

func cssURLsOf(css string) (urls []string) {
	for _, m := range cssURL.FindAllStringSubmatch(css, -1) {
		u := cssEscape.ReplaceAllStringFunc(m[1]+m[2]+m[3], func(e string) string {
			n, err := strconv.ParseUint(strings.TrimSpace(e[1:]), 16, 32)
			switch {
			case err == nil:
				return string(rune(n))
			case e == "\\\n":
				return ""
			}
			return e[1:]
		})
		urls = append(urls, cleanURL(u)...)
	}
	return urls
}

// cleanURL returns a URL as browsers parse it (URL Standard, section 4.4), if it may mean a part.
func cleanURL(u string) []string {
	u = strings.TrimFunc(u, func(r rune) bool { return r <= ' ' })
	u = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(u)
	scheme, rest, found := strings.Cut(u, ":")
	switch {
	case found && strings.EqualFold(scheme, "cid"):
		return []string{"cid:" + rest}
	case found && strings.ContainsFunc(scheme, func(r rune) bool { return r == '%' || r > '~' }):
		return nil
	}
	return []string{u}
}

// named reports whether the part has a name at all.
func named(p Part) bool {
	for _, id := range p.IDs {
		if idName(canonical(id)) == "" {
			return false
		}
	}
	for _, location := range p.Locations {
		if name := locationName(canonical(location)); name == "" || strings.Contains(location, ":") && !strings.HasPrefix(location, "http:") {
			return false
		}
	}
	return true
}
