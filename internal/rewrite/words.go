package rewrite

import (
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/charsets"
)

// A word is an encoded word (RFC 2047 section 2).
type word struct {
	charset string
	base64  bool
	text    string
	ended   bool // with "?="
}

// maxCharset is the length of the longest charset and language in an encoded word.
const maxCharset = 64

// cutWord cuts s around its first encoded word. If it has no word, before is s, and ok is false.
//
// QUIRK: names that were cut to some length have words without an end.
func cutWord(s string) (before string, w word, after string, ok bool) {
	for start := 0; ; start += 2 {
		i := strings.Index(s[start:], "=?")
		if i < 0 {
			return s, word{}, "", false
		}
		start += i
		head := s[start+2:]
		n := strings.IndexByte(head[:min(len(head), maxCharset)], '?')
		if n <= 0 || !isWordCharset(head[:n]) {
			continue
		}
		encoding := strings.TrimLeft(head[n+1:], " ")
		if len(encoding) < 2 || !strings.ContainsRune("bBqQ", rune(encoding[0])) {
			continue
		}
		text := strings.TrimLeft(encoding[1:], " ")
		if !strings.HasPrefix(text, "?") {
			continue
		}
		w = word{charset: strings.TrimSpace(head[:n]), base64: encoding[0]|0x20 == 'b'}
		w.text, after, w.ended = cutWordText(text[1:])
		return s[:start], w, after, true
	}
}

func isWordCharset(s string) bool {
	charset, language, _ := strings.Cut(s, "*")
	return isToken(strings.TrimSpace(charset)) && isToken(strings.TrimSpace(language))
}

// cutWordText cuts the text of a word at its "?=", or before the next word.
func cutWordText(s string) (text, after string, ended bool) {
	for i := 0; i+1 < len(s); i++ {
		switch {
		case s[i] == '?' && s[i+1] == '=':
			return s[:i], s[i+2:], true
		case s[i] == '=' && s[i+1] == '?' && i+2 < len(s) && isToken(s[i+2:i+3]):
			return s[:i], s[i:], false
		}
	}
	return strings.TrimSuffix(s, "?"), "", false
}

// decodeWords decodes the encoded words in a field.
func decodeWords(s string) string {
	if len(s) > maxEncodedName {
		return s
	}
	return new(nameDecoder).decodeWords(s)
}

// decodeWords decodes encoded words and the text between them.
//
// QUIRK: many programs put words into parameters, although RFC 2047 section 5 forbids it.
func (d *nameDecoder) decodeWords(s string) string {
	var b strings.Builder
	var run []word // consecutive words in the same charset
	for {
		before, w, after, ok := cutWord(s)
		blank := strings.TrimSpace(before) == ""
		if len(run) > 0 && (!ok || !blank || !strings.EqualFold(run[0].charset, w.charset)) {
			b.WriteString(d.decodeRun(run))
			run = nil
			if ok && blank {
				before = "" // blanks between words (RFC 2047 section 6.2)
			}
		} else if len(run) > 0 {
			before = ""
		}
		b.WriteString(d.decode("", before))
		if !ok {
			return b.String()
		}
		if !w.ended {
			d.endIsMissing()
		}
		run, s = append(run, w), after
	}
}

// decodeRun decodes consecutive words in the same charset.
//
// QUIRK: RFC 2047 section 5 requires whole characters in each word, but many programs split names
// within a character, or within four characters of base64.
func (d *nameDecoder) decodeRun(run []word) string {
	charset := run[0].charset
	joined, separate := joinWords(run, true), joinWords(run, false)
	if joined != separate {
		if text, _, clean := charsets.Decode(charset, joined); clean {
			return text
		}
	}
	return d.decode(charset, separate)
}

// joinWords returns the bytes of words. If acrossWords, the base64 of a word without padding goes
// on in the next word.
func joinWords(run []word, acrossWords bool) string {
	var b strings.Builder
	for i := 0; i < len(run); i++ {
		if !run[i].base64 {
			b.WriteString(decodeQ(run[i].text))
			continue
		}
		text := run[i].text
		var parts []string
		for acrossWords && i+1 < len(run) && run[i+1].base64 && !strings.HasSuffix(run[i].text, "=") {
			parts = append(parts, run[i].text)
			i++
			text = run[i].text
		}
		b.WriteString(decodeB(strings.Join(append(parts, text), "")))
	}
	return b.String()
}

// decodeQ decodes the Q encoding (RFC 2047 section 4.2).
//
// QUIRK: senders leave blanks as they are, and fold lines within a character.
func decodeQ(s string) string { return decodeHex(strings.ReplaceAll(s, "_", " "), '=') }

// decodeB decodes base64 in either alphabet.
//
// QUIRK: senders leave out the padding, and have blanks or padding in the middle.
func decodeB(s string) string {
	var b strings.Builder
	bits, n := uint32(0), 0
	for i := range len(s) {
		v := base64Value(s[i])
		if v < 0 {
			if s[i] == '=' {
				bits, n = 0, 0
			}
			continue
		}
		bits, n = bits<<6|uint32(v), n+6
		if n >= 8 {
			n -= 8
			b.WriteByte(byte(bits >> n))
		}
	}
	return b.String()
}

func base64Value(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '+', c == '-':
		return 62
	case c == '/', c == '_':
		return 63
	}
	return -1
}
