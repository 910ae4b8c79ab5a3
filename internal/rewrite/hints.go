package rewrite

import (
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/charsets"
)

// maxCharsets bounds how many charsets are noted of a mail.
const maxCharsets = 8

// noteCharset notes a charset that the mail names, for the file names that follow: programs that
// write names as raw bytes use the charset of their texts.
func (s *seen) noteCharset(charset string) {
	if charset != "" && len(charset) <= maxCharset && len(s.charsets) < maxCharsets {
		s.charsets = append(s.charsets, strings.Clone(charset))
	}
}

// noteLocale notes the charsets that the message's header suggests: by the languages that it names,
// and by its first encoded words.
func (s *seen) noteLocale(h *header) {
	for _, f := range h.fields {
		switch {
		case f.is("Content-Language"), f.is("Accept-Language"):
			tag, _, _ := strings.Cut(f.value(), ",")
			s.noteCharset(charsets.OfLanguage(tag))
		case f.is("Subject"), f.is("From"):
			if _, word, _, ok := cutWord(f.value()); ok {
				s.noteCharset(word.charset)
			}
		}
	}
}
