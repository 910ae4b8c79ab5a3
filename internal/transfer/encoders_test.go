package transfer

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/quotedprintable"
	"regexp"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// An encoder is what a mail program does to a text, or to a file, whose line ends are CR LF. Each
// follows the source of its program; e2e and the corpus have what real ones wrote.
type encoder func(text string) string

var encoders = map[string]encoder{
	"Go, text":             goQuoted(false),
	"Go, binary":           goQuoted(true),
	"Python quopri":        func(s string) string { return b2aQP(s, true, false) },
	"Python email, binary": func(s string) string { return b2aQP(s, false, true) },
	"Python email, text":   pythonEmail(76),
	"Python email policy":  pythonEmail(78),
	"Thunderbird":          thunderbird,
	"Postfix":              postfix,
	"sendmail":             func(s string) string { return columnLines(s, 73) },
	"PHP":                  php,
	"Perl":                 perl,
	"JavaMail":             javaMail,
	"Evolution":            gmime,
	"Apple Mail":           appleMail,
	"Exchange":             exchange,
	"Outlook, escaped LF":  outlook,
	"ours":                 func(s string) string { return string(EncodeQuoted([]byte(s), "\r\n")) },
	"EBCDIC":               ebcdic,
	"lower case":           func(s string) string { return lowerHex(goQuoted(false)(s)) },
}

func goQuoted(binary bool) encoder {
	return func(text string) string {
		var b strings.Builder
		w := quotedprintable.NewWriter(&b)
		w.Binary = binary
		io.WriteString(w, text)
		w.Close()
		return b.String()
	}
}

func hexByte(c byte) string { return fmt.Sprintf("=%02X", c) }

func isPlain(c byte) bool { return c == '\t' || c >= ' ' && c <= '~' && c != '=' }

// b2aQP is CPython's binascii.b2a_qp, of a text with LF; its LF is then sent as CR LF.
func b2aQP(text string, isText, quoteTabs bool) string {
	data := text
	if isText {
		data = strings.ReplaceAll(text, "\r\n", "\n")
	}
	var out []byte
	column := 0
	for i := 0; i < len(data); i++ {
		c, last := data[i], i+1 == len(data)
		next := byte(0)
		if !last {
			next = data[i+1]
		}
		blank := c == ' ' || c == '\t'
		switch {
		case c > 126 || c == '=' || c == '.' && column == 0 && (last || next == '\n' || next == '\r') ||
			!isText && (c == '\r' || c == '\n') || blank && last || c < 33 && c != '\r' && c != '\n' && (quoteTabs || !blank):
			if column+3 >= 76 {
				out, column = append(out, "=\n"...), 0
			}
			out, column = append(out, hexByte(c)...), column+3
		case isText && c == '\n':
			if n := len(out); n > 0 && (out[n-1] == ' ' || out[n-1] == '\t') {
				out = append(out[:n-1], hexByte(out[n-1])...)
			}
			out, column = append(out, '\n'), 0
		default:
			if !last && next != '\n' && column+1 >= 76 {
				out, column = append(out, "=\n"...), 0
			}
			out, column = append(out, c), column+1
		}
	}
	return strings.ReplaceAll(string(out), "\n", "\r\n")
}

// pythonEmail is email.quoprimime.body_encode.
func pythonEmail(max int) encoder {
	return func(text string) string {
		var out []string
		for line := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
			var quoted strings.Builder
			for i := range len(line) {
				if isPlain(line[i]) {
					quoted.WriteByte(line[i])
				} else {
					quoted.WriteString(hexByte(line[i]))
				}
			}
			line := quoted.String()
			start, lastStart := 0, len(line)-1-max
			for start <= lastStart {
				stop := start + max - 1
				switch {
				case line[stop-2] == '=':
					out = append(out, line[start:stop-1]+"\n")
					start = stop - 2
				case line[stop-1] == '=':
					out = append(out, line[start:stop]+"\n")
					start = stop - 1
				default:
					out = append(out, line[start:stop]+"=\n")
					start = stop
				}
			}
			rest := line[start:]
			if n := len(rest); n > 0 && (rest[n-1] == ' ' || rest[n-1] == '\t') {
				switch room := start - lastStart; {
				case room >= 3:
					rest = rest[:n-1] + hexByte(rest[n-1])
				case room == 2:
					rest += "=\n"
				default:
					rest = rest[:n-1] + "=\n" + hexByte(rest[n-1])
				}
			}
			out = append(out, rest+"\n")
		}
		return strings.ReplaceAll(strings.TrimSuffix(strings.Join(out, ""), "\n"), "\n", "\r\n")
	}
}

// thunderbird is the QPEncoder of Mozilla's MimeEncoder.
func thunderbird(text string) string {
	var out []byte
	column := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch n := len(out); {
		case c == '\r' && strings.HasPrefix(text[i:], "\r\n"):
			if n > 0 && (out[n-1] == ' ' || out[n-1] == '\t') {
				out = append(out[:n-1], hexByte(out[n-1])...)
			}
			out, column, i = append(out, "\r\n"...), 0, i+1
			continue
		case column == 0 && (c == '.' || strings.HasPrefix(text[i:], "From ")), !isPlain(c):
			out, column = append(out, hexByte(c)...), column+3
		default:
			out, column = append(out, c), column+1
		}
		if column >= 73 {
			out, column = append(out, "=\r\n"...), 0
		}
	}
	return string(out)
}

// postfix is mime_state_downgrade.
func postfix(text string) string { return columnLines(text, 73) }

func columnLines(text string, limit int) string {
	var out strings.Builder
	for i, line := range strings.Split(text, "\r\n") {
		if i > 0 {
			out.WriteString("\r\n")
		}
		column := 0
		for j := range len(line) {
			c := line[j]
			if column >= limit {
				out.WriteString("=\r\n")
				column = 0
			}
			if isPlain(c) && (j+1 < len(line) || c != ' ' && c != '\t') {
				out.WriteByte(c)
				column++
			} else {
				out.WriteString(hexByte(c))
				column += 3
			}
		}
	}
	return out.String()
}

// php is quoted_printable_encode.
func php(text string) string {
	const limit = 75
	var out strings.Builder
	column := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if strings.HasPrefix(text[i:], "\r\n") {
			out.WriteString("\r\n")
			column, i = 0, i+1
			continue
		}
		if c < ' ' || c >= 0x7f || c == '=' || c == ' ' && strings.HasPrefix(text[i+1:], "\r") {
			column += 3
			if column > limit && c <= 0x7f || c > 0x7f && c <= 0xdf && column+3 > limit ||
				c > 0xdf && c <= 0xef && column+6 > limit || c > 0xef && c <= 0xf4 && column+9 > limit {
				column = 3
				out.WriteString("=\r\n")
			}
			out.WriteString(hexByte(c))
			continue
		}
		if column++; column > limit {
			column = 1
			out.WriteString("=\r\n")
		}
		out.WriteByte(c)
	}
	return out.String()
}

// perl is encode_qp of MIME::QuotedPrint.
func perl(text string) string {
	const max = 76
	text = strings.ReplaceAll(text, "\r\n", "\n")
	var out []byte
	column, p := 0, 0
	for {
		start := p
		for p < len(text) && isPlain(text[p]) {
			p++
		}
		if p == len(text) || text[p] == '\n' {
			for p > start && (text[p-1] == ' ' || text[p-1] == '\t') {
				p--
			}
		}
		piece := text[start:p]
		for len(piece) > 0 && len(piece) > max-1-column {
			n := max - 1 - column
			out = append(append(out, piece[:n]...), "=\n"...)
			piece, column = piece[n:], 0
		}
		out, column = append(out, piece...), column+len(piece)
		if p == len(text) {
			break
		}
		if text[p] == '\n' {
			if n := len(out); column == 1 && n > 2 && out[n-2] == '\n' && out[n-3] == '=' {
				out = append(out[:n-3], out[n-1]) // the soft line break was not needed
			}
			out, column = append(out, '\n'), 0
		} else {
			if column > max-4 && !(column == max-3 && p+1 < len(text) && text[p+1] == '\n') {
				out, column = append(out, "=\n"...), 0
			}
			out, column = append(out, hexByte(text[p])...), column+3
		}
		p++
	}
	if len(out) > 0 && column > 0 {
		out = append(out, "=\n"...)
	}
	return strings.ReplaceAll(string(out), "\n", "\r\n")
}

// javaMail is QPEncoderStream.
func javaMail(text string) string {
	var out strings.Builder
	column := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\r' || c == '\n' {
			out.WriteString("\r\n")
			if c == '\r' && strings.HasPrefix(text[i+1:], "\n") {
				i++
			}
			column = 0
			continue
		}
		s := string(text[i : i+1])
		if c < ' ' || c >= 0x7f || c == '=' || c == ' ' && (i+1 == len(text) || text[i+1] == '\r' || text[i+1] == '\n') {
			s = hexByte(c)
		}
		if column += len(s); column > 75 {
			column = len(s)
			out.WriteString("=\r\n")
		}
		out.WriteString(s)
	}
	return out.String()
}

// gmime is g_mime_encoding_step of GMime, which Evolution uses.
func gmime(text string) string {
	var out strings.Builder
	column, held := 0, byte(0)
	for _, c := range []byte(strings.ReplaceAll(text, "\r\n", "\n")) {
		if c == '\n' {
			if held != 0 {
				out.WriteString(hexByte(held))
			}
			out.WriteByte('\n')
			column, held = 0, 0
			continue
		}
		if held != 0 {
			out.WriteByte(held)
			column, held = column+1, 0
		}
		if isPlain(c) {
			if column > 74 {
				out.WriteString("=\n")
				column = 0
			}
			if c == ' ' || c == '\t' {
				held = c
			} else {
				out.WriteByte(c)
				column++
			}
		} else {
			if column > 72 {
				out.WriteString("=\n")
				column = 0
			}
			out.WriteString(hexByte(c))
			column += 3
		}
	}
	if held != 0 {
		out.WriteString(hexByte(held))
	}
	return strings.ReplaceAll(out.String(), "\n", "\r\n")
}

// appleMail breaks lines between words where it can.
func appleMail(text string) string {
	var out strings.Builder
	for i, line := range strings.Split(text, "\r\n") {
		if i > 0 {
			out.WriteString("\r\n")
		}
		column := 0
		for line != "" {
			n := strings.IndexByte(line, ' ') + 1
			if n == 0 {
				n = len(line)
			}
			var word []string
			width := 0
			for j := range n {
				c := line[j]
				s := string(line[j : j+1])
				if !isPlain(c) || c == ' ' && j+1 == len(line) {
					s = hexByte(c)
				}
				word, width = append(word, s), width+len(s)
			}
			if column > 0 && width <= 75 && column+width > 75 {
				out.WriteString("=\r\n")
				column = 0
			}
			for _, s := range word {
				if column+len(s) > 75 {
					out.WriteString("=\r\n")
					column = 0
				}
				out.WriteString(s)
				column += len(s)
			}
			line = line[n:]
		}
	}
	return out.String()
}

// exchange fills lines, and may use the column of the "=" where a line ends anyway.
func exchange(text string) string { return fillLines(text, "") }

// ebcdic escapes what is not in all EBCDIC code pages (RFC 2045 section 6.7).
func ebcdic(text string) string { return fillLines(text, "!\"#$@[\\]^`{|}~") }

func fillLines(text, more string) string {
	var out strings.Builder
	for i, line := range strings.Split(text, "\r\n") {
		if i > 0 {
			out.WriteString("\r\n")
		}
		column := 0
		for j := range len(line) {
			c, last := line[j], j+1 == len(line)
			s := string(line[j : j+1])
			if !isPlain(c) || strings.IndexByte(more, c) >= 0 || last && (c == ' ' || c == '\t') {
				s = hexByte(c)
			}
			limit := 75
			if last {
				limit++
			}
			if column+len(s) > limit {
				out.WriteString("=\r\n")
				column = 0
			}
			out.WriteString(s)
			column += len(s)
		}
	}
	return out.String()
}

// outlook escapes all line ends, and breaks the line after each.
func outlook(text string) string {
	var out strings.Builder
	column := 0
	for i := range len(text) {
		c := text[i]
		s := string(text[i : i+1])
		if !isPlain(c) {
			s = hexByte(c)
		}
		if column > 0 && (column+len(s) > 75 || text[i-1] == '\n') {
			out.WriteString("=\r\n")
			column = 0
		}
		out.WriteString(s)
		column += len(s)
	}
	return out.String()
}

func lowerHex(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '=' && b[i+1] != '\r' {
			copy(b[i+1:], bytes.ToLower(b[i+1:i+3]))
		}
	}
	return string(b)
}

// sampleText returns lines of about n bytes in all: words in several alphabets, long lines and
// short ones, tables, markup, dots and blanks at the ends of lines.
func sampleText(n int) string {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	words := strings.Fields("the From a=b straße Überprüfung, naïve café 数据 😀 . .. name;value 3.14 <td style=\"x\"> {json:[1]} C:\\temp\\~x ==== $5 @home `q` #1 it!")
	var b strings.Builder
	for b.Len() < n {
		switch rnd.IntN(12) {
		case 0:
			b.WriteString([]string{".", "From ", "", ".. ", "\tindented", "  two"}[rnd.IntN(6)])
		case 1:
			b.WriteString(strings.Repeat("x", 60+rnd.IntN(200)))
		case 2:
			b.WriteString(strings.Repeat("1\t", rnd.IntN(60)) + "2")
		}
		for range rnd.IntN(30) {
			b.WriteString(words[rnd.IntN(len(words))] + " ")
		}
		if rnd.IntN(8) > 0 {
			b.WriteString("end")
		}
		b.WriteString("\r\n")
	}
	return b.String() + "the end"
}

// Text from each encoder in the field is written again by a rule: nothing of it is kept.
func TestRulesWriteWhatEncodersWrite(t *testing.T) {
	text := sampleText(256 << 10)
	for name, encode := range encoders {
		for _, eol := range []string{"\r\n", "\n"} {
			raw := []byte(strings.ReplaceAll(encode(text), "\r\n", eol) + eol)
			tr := NewExact("quoted-printable", nil)
			decoded, rest, err := decodeIn(tr, raw, 32<<10)
			l := tr.Layout()
			if err != nil || l.Encoding != Quoted || l.Check() != nil {
				t.Errorf("%s: no rule (%v) after %d of %d bytes: %s %v", name, err, len(raw)-len(rest), len(raw), l.Encoding, l.Check())
				continue
			}
			var again bytes.Buffer
			must.Succeed(t, l.Encode(&again, bytes.NewReader(decoded)))
			if !bytes.Equal(again.Bytes(), raw) {
				t.Errorf("%s: the rule does not write the text again", name)
			}
		}
	}
}

func BenchmarkQuotedPrintable(b *testing.B) {
	text := EncodeQuoted([]byte(sampleText(1<<20)), "\r\n")
	var decoded []byte
	var layout Layout
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			t := NewExact("quoted-printable", nil)
			var err error
			decoded, _, err = decodeIn(t, text, 32<<10)
			must.Succeed(b, err)
			layout = t.Layout()
		}
	})
	b.Run("encode", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			must.Succeed(b, layout.Encode(io.Discard, bytes.NewReader(decoded)))
		}
	})
}

// The layout is right wherever the text is cut off by damage.
func TestRulesWriteWhatCameBeforeDamage(t *testing.T) {
	for _, size := range []int{100, 20 << 10, 40 << 10} {
		for name, encode := range encoders {
			good := encode(sampleText(size))
			for _, at := range []int{len(good) / 2, min(maxSample+7, len(good)), len(good) - 1} {
				text := []byte(good[:max(0, at)] + "=\x00" + good[max(0, at):])
				for _, piece := range []int{1, 500, maxSample - 100, maxSample} {
					tr := NewExact("quoted-printable", nil)
					decoded, rest, _ := decodeIn(tr, text, piece)
					var again bytes.Buffer
					var from io.Reader = bytes.NewReader(decoded)
					l := tr.Layout()
					if l.Encoding == Encoded {
						from = tr.Encoded()
					}
					must.Succeed(t, l.Encode(&again, from))
					again.Write(rest)
					if !bytes.Equal(again.Bytes(), text) {
						t.Fatalf("%s, %d bytes, damage at %d, pieces of %d: %d other bytes, rule %+v", name, size, at, piece, again.Len(), l.Rule)
					}
					must.Succeed(t, tr.Close())
				}
			}
		}
	}
}

// Nearly all quoted-printable in the corpus is written again by a rule, and all of it exactly.
func TestRulesWriteTheCorpus(t *testing.T) {
	field := regexp.MustCompile(`(?i)(?:^|\n)content-transfer-encoding:\s*quoted-printable\s*?\r?\n(?:[^\r\n]+\r?\n)*\r?\n`)
	mails := 0
	var texts, byRule, encoded, damaged, exceptions int
	for name, mail := range corpus.Mails(t) {
		mails++
		for _, at := range field.FindAllIndex(mail, -1) {
			body := mail[at[1]:]
			if end := bytes.Index(body, []byte("\n--")); end >= 0 {
				body = body[:end+1]
			}
			for _, text := range [][]byte{body, corpus.CRLF(body)} {
				texts++
				if _, ok := roundTrip(t, "quoted-printable", text); !ok {
					damaged++ // mail programs differ about it
					continue
				}
				tr := NewExact("quoted-printable", nil)
				_, _, err := decodeIn(tr, text, 32<<10)
				must.Succeed(t, err)
				l := tr.Layout()
				must.Succeed(t, l.Check())
				if exceptions += len(l.Exceptions); l.Encoding == Quoted {
					byRule++
				} else {
					encoded++
					t.Logf("%s: no rule for %d bytes", name, len(text))
				}
				must.Succeed(t, tr.Close())
			}
		}
	}
	corpus.Want(t, mails)
	t.Logf("%d texts: %d by rule with %d exceptions in all, %d without a rule, %d damaged", texts, byRule, exceptions, encoded, damaged)
	if byRule < 9*encoded {
		t.Errorf("%d texts by rule, %d not", byRule, encoded)
	}
}

// A rule that is learned from very little of a text, and then breaks or has exceptions, writes the
// text again nevertheless, up to the damage.
func FuzzRule(f *testing.F) {
	text := sampleText(1000)
	for _, encode := range encoders {
		f.Add([]byte(encode(text)), uint16(300))
		f.Add([]byte(encode(text)), uint16(1))
	}
	f.Fuzz(func(t *testing.T, text []byte, sample uint16) {
		if len(text) > 4<<10 {
			return // each is also decoded byte by byte
		}
		roundTripOf(t, func() Decoder { return &quotedDecoder{most: 1 + int(sample)} }, text)
	})
}
