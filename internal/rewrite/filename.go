package rewrite

import (
	"bytes"
	"cmp"
	"io"
	"mime"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
	"golang.org/x/text/encoding/htmlindex"

	"github.com/nkirchhoffer/detach-mta/internal/filename"
)

const (
	// maxParams bounds the work a header of a million parameters makes.
	maxParams = 256
	// maxWords is of RFC 2047, for a name of 10 kB. Each takes a decoder.
	maxWords = 256
)

// fileName is the name a part's headers give it, as its sender meant it, or "".
// The disposition's filename goes before the type's name (RFC 2183 section 2.3).
func fileName(disposition, contentType string) string {
	if name := paramValue(disposition, "filename"); name != "" {
		return name
	}
	return paramValue(contentType, "name")
}

// paramValue decodes a parameter in any notation met in mail: RFC 2231 with
// charset and continuations, RFC 2047 words, raw 8-bit, quoted or not.
func paramValue(header, name string) string {
	params := splitParams(header)
	if len(params) == 0 {
		return ""
	}
	if v, ok := params[name+"*"]; ok {
		return decodeExtended(v)
	}
	if v := continued(params, name); v != "" {
		return v
	}
	return decodeWords(params[name])
}

// splitParams reads the parameters after the first semicolon. It never fails:
// what is no parameter is passed over, and of two with one name the first counts.
func splitParams(header string) map[string]string {
	_, rest, ok := strings.Cut(header, ";")
	if !ok {
		return nil
	}
	params := map[string]string{}
	for n := 0; rest != "" && n < maxParams; n++ {
		var p string
		p, rest = cutUnquoted(rest)
		k, v, ok := strings.Cut(p, "=")
		k = strings.ToLower(strings.TrimSpace(k))
		if !ok || k == "" {
			continue
		}
		if _, twice := params[k]; !twice {
			params[k] = unquote(strings.TrimSpace(v))
		}
	}
	return params
}

// cutUnquoted cuts at the first semicolon outside a quoted string.
func cutUnquoted(s string) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ';' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func unquote(s string) string {
	if !strings.HasPrefix(s, `"`) {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s) && s[i] != '"'; i++ {
		// QUIRK: Windows programs write C:\file unescaped; only quotes and
		// backslashes are ever escaped in earnest.
		if s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\') {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// continued joins name*0, name*1*, … (RFC 2231 section 3).
func continued(params map[string]string, name string) string {
	var value, cs string
	for i := range maxParams {
		key := name + "*" + strconv.Itoa(i)
		if v, ok := params[key+"*"]; ok {
			if i == 0 {
				cs, v = cutCharset(v)
			}
			value += percentDecode(v)
		} else if v, ok := params[key]; ok {
			value += v
		} else {
			break
		}
	}
	return toUTF8(cs, value)
}

// decodeExtended decodes charset'language'text (RFC 2231 section 4).
func decodeExtended(v string) string {
	cs, text := cutCharset(v)
	return toUTF8(cs, percentDecode(text))
}

func cutCharset(v string) (cs, text string) {
	if parts := strings.SplitN(v, "'", 3); len(parts) == 3 {
		return parts[0], parts[2]
	}
	return "", v
}

func percentDecode(s string) string {
	if d, err := url.PathUnescape(s); err == nil {
		return d
	}
	return s
}

// decodeWords decodes RFC 2047 words, which many put into parameters although
// RFC 2047 section 5 forbids it, and raw 8-bit.
func decodeWords(s string) string {
	if s == "" {
		return ""
	}
	if n := strings.Count(s, "=?"); 0 < n && n <= maxWords {
		dec := mime.WordDecoder{CharsetReader: decodeCharsetOf}
		if d, err := dec.DecodeHeader(joinWords(s)); err == nil {
			return d
		}
	}
	return toUTF8("", s)
}

// joinWords makes one word of those that follow each other in the same charset.
//
// QUIRK: RFC 2047 section 5 wants whole characters in each word, and many
// programs cut names in the middle of one.
func joinWords(s string) string {
	var b strings.Builder
	open := "" // the head of the word that is not ended yet
	for {
		between, head, text, rest := cutWord(s)
		if head == "" {
			break
		}
		head = strings.ToLower(head)
		if open != head || strings.TrimSpace(between) != "" {
			if open != "" {
				b.WriteString("?=")
			}
			b.WriteString(between)
			b.WriteString(head)
		}
		b.WriteString(text)
		open, s = head, rest
		if strings.HasSuffix(text, "=") && strings.HasSuffix(head, "?b?") {
			b.WriteString("?=") // padded: nothing can be added
			open = ""
		}
	}
	if open != "" {
		b.WriteString("?=")
	}
	return b.String() + s
}

// cutWord cuts s around its first encoded word (RFC 2047 section 2): its head
// is "=?charset?encoding?", and empty where there is no word.
func cutWord(s string) (before, head, text, after string) {
	for start := 0; ; start += 2 {
		i := strings.Index(s[start:], "=?")
		if i < 0 {
			return s, "", "", ""
		}
		start += i
		charset, rest, _ := strings.Cut(s[start+2:], "?")
		if charset == "" || len(rest) < 2 || !strings.Contains("bBqQ", rest[:1]) || rest[1] != '?' {
			continue
		}
		text, after, ended := strings.Cut(rest[2:], "?")
		if ended && strings.HasPrefix(after, "=") {
			return s[:start], s[start : len(s)-len(rest)+2], text, after[1:]
		}
	}
}

// decodeCharsetOf is charset.Reader, at a tenth of its cost for a few bytes.
func decodeCharsetOf(cs string, r io.Reader) (io.Reader, error) {
	e, err := htmlindex.Get(cs)
	if err != nil {
		return charset.Reader(cs, r)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	b, err = e.NewDecoder().Bytes(b)
	return bytes.NewReader(b), err
}

func toUTF8(cs, s string) string {
	if cs == "" || strings.EqualFold(cs, "utf-8") || strings.EqualFold(cs, "us-ascii") {
		if utf8.ValidString(s) {
			return s
		}
		cs = "windows-1252" // what undeclared 8-bit nearly always is
	}
	r, err := decodeCharsetOf(cs, strings.NewReader(s))
	if err != nil {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return string(bytes.ToValidUTF8(b, []byte("\uFFFD")))
}

// extensions are for attachments without a name. They are written out here for
// mime.ExtensionsByType answers differently on every machine.
var extensions = map[string]string{
	"application/pdf": ".pdf", "application/zip": ".zip", "application/msword": ".doc",
	"image/jpeg": ".jpg", "image/png": ".png", "image/gif": ".gif", "image/tiff": ".tiff",
	"audio/mpeg": ".mp3", "video/mp4": ".mp4", "text/csv": ".csv", "text/html": ".html", "text/plain": ".txt",
}

// displayName returns the name that the notice shows. Attachments without a name get one by their type.
func displayName(name, mimeType string) string {
	return cmp.Or(filename.Display(name), filename.Nameless+extensions[mimeType])
}
