package notice

import (
	"math"
	"regexp"
	"strings"
)

// armorLine matches the first and the last line of armor (RFC 9580 section 6.2), also quoted or
// dash-escaped (section 7.2), and the same lines of other formats (RFC 7468, OpenSSH, age).
var armorLine = regexp.MustCompile(`^([\s>|]*)(- )?-----(BEGIN|END) (PGP [A-Z0-9 ,/]+|[A-Z ]*SIGNED MESSAGE|[A-Z ]*SIGNATURE|` +
	`PRIVACY-ENHANCED MESSAGE|PKCS7|CMS|[A-Z ]*ENCRYPTED (?:FILE|MESSAGE))-----\s*$`)

// armor follows armored and clear-signed text through the lines of a text. Nothing may be inserted
// between the first and the last line of armor: that would break the signature or the ciphertext.
type armor struct {
	open   bool
	quotes string // the signs that quote the armor's lines, without blanks
	label  string
}

// next reads the next line. It reports whether the line is the first one, or outside of armor, so
// that a notice may stand above it. If the armor is not open after the line, a notice may stand
// below it.
func (a *armor) next(line string) (free bool) {
	if a.open && a.quotes != "" && strings.TrimSpace(line) != "" && !strings.HasPrefix(quoteSigns(line), a.quotes) {
		a.open = false // the rest of the quotation was left out
	}
	free = !a.open
	if !strings.Contains(line, "-----") {
		return free
	}
	m := armorLine.FindStringSubmatch(line)
	if m == nil {
		return free
	}
	begins, label, quotes := m[3] == "BEGIN", m[4], quoteSigns(m[1])+strings.TrimSpace(m[2])
	switch {
	case begins && !a.open:
		*a = armor{open: true, quotes: quotes, label: label}
	case !begins && a.open && quotes == a.quotes:
		signed := strings.HasSuffix(a.label, "SIGNED MESSAGE") && strings.HasSuffix(label, "SIGNATURE")
		a.open = !signed && label != a.label
	}
	return free
}

// quoteSigns returns the signs with which a line is quoted, without blanks.
func quoteSigns(line string) string {
	var signs []byte
	for i := 0; i < len(line) && strings.IndexByte(" \t>|", line[i]) >= 0; i++ {
		if line[i] == '>' || line[i] == '|' {
			signs = append(signs, line[i])
		}
	}
	return string(signs)
}

// A sealed is a span of a text into which nothing may be inserted, except at its ends.
type sealed struct {
	off, end int  // offsets of whole lines
	quoted   bool // by signs at the beginning of each line
}

// endless is the end of armor that has no last line.
const endless = math.MaxInt

// armored returns the spans of a plain text that are armor.
func armored(text string) (spans []sealed) {
	if !strings.Contains(text, "-----BEGIN ") {
		return nil
	}
	a := armor{}
	for off := len(text) - len(strings.TrimPrefix(text, byteOrderMark)); off < len(text); {
		line, _, _ := strings.Cut(text[off:], "\n")
		was := a.open
		free, next := a.next(line), min(len(text), off+len(line)+1)
		if last := len(spans) - 1; was && free {
			spans[last].end = off
		} else if was && !a.open {
			spans[last].end = next
		}
		if free && a.open {
			spans = append(spans, sealed{off, endless, a.quotes != ""})
		}
		off = next
	}
	return spans
}
