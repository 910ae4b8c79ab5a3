package notice

import (
	"regexp"
	"strings"
)

// A spot is the place of the notice in a text, and what separates it from the text around it.
type spot struct {
	at            int
	before, after string
	colored       bool // text in the colors of the HTML around it cannot be read
}

const (
	// maxReplyLines is the length of the longest text that is searched for a quotation.
	maxReplyLines = 50_000
	// maxSignature is generous. More lines below "-- " are not a signature.
	maxSignature = 30
)

// A line is a line of a text, without its line end.
type line struct {
	off   int
	text  string
	armor bool // of the sender: a line in it begins neither a signature nor a quotation
}

func (l line) blank() bool { return strings.TrimSpace(l.text) == "" }
func (l line) quoted() bool {
	return strings.HasPrefix(l.text, ">") && !strings.HasPrefix(l.text, ">From ")
}

func splitLines(text string, spans []sealed) []line {
	var lines []line
	for off := 0; off < len(text); {
		for len(spans) > 0 && spans[0].end <= off {
			spans = spans[1:]
		}
		s, _, _ := strings.Cut(text[off:], "\n")
		own := len(spans) > 0 && spans[0].off <= off && !spans[0].quoted
		lines = append(lines, line{off, strings.TrimSuffix(s, "\r"), own})
		off += len(s) + 1
	}
	return lines
}

// plainSpot finds the notice's place in plain text: at the top, or below the sender's text and
// above the text replied to, or at the end. It is never within armor.
func plainSpot(text string, position Position, flowed bool) spot {
	start := len(text) - len(strings.TrimPrefix(text, byteOrderMark))
	switch {
	case strings.TrimSpace(text[start:]) == "":
		// The line end between an empty text and its delimiter may be the header's blank line.
		s := spot{at: len(text), after: "\n"}
		if len(text) > start && !strings.HasSuffix(text, "\n") {
			s.before = "\n" // blanks would indent the notice
		}
		return s
	case position == Top:
		return spot{at: start, after: "\n\n"}
	}
	spans := armored(text)
	if strings.Count(text, "\n") <= maxReplyLines {
		lines := splitLines(text, spans)
		if i := newTextEnd(lines); i > 0 {
			return spot{at: lines[i].off, before: gap(text[:lines[i].off], flowed), after: "\n\n"}
		}
	}
	if n := len(spans); n > 0 && spans[n-1].end == endless {
		if at := spans[n-1].off; !spans[n-1].quoted && strings.TrimSpace(text[start:at]) != "" {
			return spot{at: at, before: gap(text[:at], flowed), after: "\n\n"}
		}
		return spot{at: start, after: "\n\n"}
	}
	if strings.HasSuffix(text, "\n") {
		return spot{at: len(text), before: gap(text, flowed), after: "\n"}
	}
	return spot{at: len(text), before: "\n" + gap(text+"\n", flowed)}
}

// gap returns the line ends that make a blank line after the text above.
func gap(above string, flowed bool) string {
	above = strings.ReplaceAll(above, "\r\n", "\n")
	blanks := len(above) - len(strings.TrimRight(above, "\n")) - 1
	want := 1
	// A flowed line that ends in a blank continues in the next line (RFC 3676 section 4.1), so one
	// blank line would only end its paragraph.
	if last := strings.TrimRight(above, "\n"); flowed && strings.HasSuffix(last, " ") && !strings.HasSuffix(last, "\n-- ") {
		want = 2
	}
	return strings.Repeat("\n", max(0, want-blanks))
}

// newTextEnd returns the first line after the sender's text, or -1 if no line certainly ends it.
func newTextEnd(lines []line) int {
	quote := quoteStart(lines)
	signature, written := -1, false
	for i, l := range lines[:quote] {
		if l.text == "-- " && written && !l.armor { // RFC 3676 section 4.3
			signature = i
		}
		written = written || !l.blank()
	}
	switch {
	case !written:
		return -1
	case signature > 0 && quote-signature <= maxSignature:
		return signature
	case quote < len(lines):
		return quote
	}
	return -1
}

var (
	separator = regexp.MustCompile(`(?i)^\s*-{2,}\s*(original message|original appointment|forwarded message|ursprüngliche nachricht|originalnachricht|` +
		`weitergeleitete nachricht|message d.origine|message original|message transféré|courriel d.origine|mensaje original|mensaje reenviado|forwarded by .*)\s*-{2,}\s*$`)
	rule        = regexp.MustCompile(`^\s*_{10,}\s*$`)
	fromField   = regexp.MustCompile(`(?i)^\s*\*?(from|von|de)\s?:\*?\s*\S`)
	otherField  = regexp.MustCompile(`(?i)^\s*\*?(sent|date|gesendet|datum|envoyé|enviado|enviado el|fecha|to|an|à|para|subject|betreff|objet|asunto)\s?:\*?(\s|$)`)
	attribution = regexp.MustCompile(`(?i)^\s*(on|am|le|el|il|op|em|den) .*\d`)
)

// quoteStart returns the first line of the text replied to, if the rest is only that text;
// otherwise len(lines).
func quoteStart(lines []line) int {
	for i, l := range lines {
		switch {
		case l.armor:
		case separator.MatchString(l.text):
			return i
		case (i == 0 || lines[i-1].blank()) && headerBlock(lines[i:]):
			return i
		case i > 0 && rule.MatchString(lines[i-1].text) && headerBlock(lines[i:]):
			return i - 1
		case l.quoted() && onlyQuoted(lines[i:]):
			return attributionStart(lines, i)
		case l.quoted():
			return len(lines) // the sender answers between or below the quoted lines
		}
	}
	return len(lines)
}

// headerBlock reports whether lines begin with the fields that Outlook puts above the text replied
// to.
func headerBlock(lines []line) bool {
	if !fromField.MatchString(lines[0].text) {
		return false
	}
	others := 0
	for _, l := range lines[1:min(6, len(lines))] {
		if otherField.MatchString(l.text) {
			others++
		}
	}
	return others >= 2
}

// onlyQuoted reports whether the sender wrote none of the lines. A signature and a mailing list's
// footer may follow the quoted ones.
func onlyQuoted(lines []line) bool {
	for _, l := range lines {
		switch {
		case l.text == "-- ", rule.MatchString(l.text):
			return true
		case !l.blank() && !l.quoted():
			return false
		}
	}
	return true
}

// attributionStart returns the first of the lines that name the author of the text quoted from line
// quote on, or quote if there are no such lines.
func attributionStart(lines []line, quote int) int {
	last := quote - 1
	if last >= 0 && lines[last].blank() {
		last--
	}
	if last < 0 || !strings.HasSuffix(strings.TrimSpace(lines[last].text), ":") {
		return quote
	}
	for first := last; first >= max(0, last-2) && !lines[first].blank(); first-- {
		if attribution.MatchString(lines[first].text) {
			return first
		}
	}
	if strings.ContainsAny(lines[last].text, "@0123456789") {
		return last
	}
	return quote
}
