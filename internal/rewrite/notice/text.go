package notice

import (
	"bytes"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/charsets"
	"github.com/nkirchhoffer/detach-mta/internal/lines"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

const (
	// MaxText is the length, in bytes of a Body's Raw, of the longest text that takes a notice.
	MaxText = 1 << 20
	// maxShown is the length of HTML, in bytes of UTF-8 without a transfer encoding, above which
	// the notice stands on top: Gmail hides what is beyond 102 KB of a message.
	maxShown = 90_000
)

// Position says where in a text the notice goes.
type Position int

const (
	Bottom Position = iota // below what the sender wrote
	Top
)

// A Body is one of a mail's texts as received, without the line end that belongs to a delimiter.
type Body struct {
	Raw      []byte
	Encoding string // Content-Transfer-Encoding, in lower case
	Charset  string // from the Content-Type; may be empty
	HTML     bool
	Flowed   bool   // text/plain with format=flowed (RFC 3676)
	EOL      string // the line end of the header; used if Raw has no line end
}

// A Text is a decoded Body.
type Text struct {
	body    Body
	charset codec
	content []byte // Raw without its transfer encoding
	certain bool   // mail programs agree about content
	text    string // content in UTF-8
	clean   bool   // every byte of content is valid in the charset
	rawEOL  string
	eol     string // of text
}

// A Change replaces the bytes of a Body's Raw from Off up to End by Piece. A non-empty Encoding or
// Charset is that of the changed text; the caller must write it into the header.
type Change struct {
	Off, End          int
	Piece             []byte
	Encoding, Charset string
}

// Read decodes a body. ok is false if the body is too long, has an unknown charset, cannot be
// decoded, or has bytes that no text has.
func Read(b Body) (t *Text, ok bool) {
	if len(b.Raw) > MaxText {
		return nil, false
	}
	t = &Text{body: b}
	var err error
	if t.content, t.certain, err = transfer.DecodeText(b.Encoding, b.Raw); err != nil {
		return nil, false
	}
	if t.charset, ok = findCharset(b.Charset, t.content); !ok {
		return nil, false
	}
	t.text, t.clean = t.charset.decode(t.content)
	if strings.IndexByte(t.text, 0) >= 0 {
		return nil, false // web forms say text/plain of any file
	}
	t.rawEOL = lines.Ending(b.Raw, b.EOL)
	t.eol = t.rawEOL
	if b.Encoding == "base64" {
		t.eol = lines.Ending([]byte(t.text), t.rawEOL)
	}
	return t, true
}

// ReadTheSame reports whether two bodies have the same text, wherever the bodies stand in a longer
// one.
func ReadTheSame(a, b Body) bool {
	ta, ok := Read(a)
	tb, ok2 := Read(b)
	return ok && ok2 && ta.independent() && tb.independent() && ta.text == tb.text
}

// independent reports whether the meaning of each line is certain and depends on that line alone,
// unlike in base64, in charsets with shifts, and in UTF-16.
func (t *Text) independent() bool {
	c, ok := t.charset.charset.(charsets.Charset)
	single := ok && c.SingleByte()
	utf8 := t.charset.charset == nil && (!t.charset.ascii || isASCII(t.content))
	return t.certain && t.clean && !t.charset.opaque && t.body.Encoding != "base64" && (single || utf8)
}

// Beginning returns text by which the language of a mail can be detected: the first of its texts
// that is not empty. It skips nil texts, which could not be read.
func Beginning(texts []*Text) string {
	for _, t := range texts {
		switch {
		case t == nil:
		case t.body.HTML:
			return htmlText(t.text, maxDetect)
		case strings.TrimSpace(t.text) != "":
			return t.text
		}
	}
	return ""
}

// Place returns the place of the notice in each of a mail's texts. Gmail shows the HTML texts below
// each other, so all of them count if it hides what is too long.
func Place(texts []*Text, wanted Position) Position {
	shown := 0
	for _, t := range texts {
		if t != nil && t.body.HTML {
			shown += len(t.text)
		}
	}
	if shown > maxShown {
		return Top
	}
	return wanted
}

// Insert returns the change that puts the notice into the text. ok is false if the notice must be a
// separate part instead; it always is for a nil Text, which could not be read.
func (t *Text) Insert(n *Notice, position Position) (c Change, ok bool) {
	if t == nil {
		return Change{}, false
	}
	var where spot
	var added string
	if t.body.HTML {
		if len(t.text) > maxShown {
			position = Top
		}
		where = htmlSpot(t.text, position)
		added = n.html(where.colored)
	} else {
		where, added = plainSpot(t.text, position, t.body.Flowed), n.text(t.body.Flowed)
	}
	added = strings.ReplaceAll(where.before+added+where.after, "\n", t.eol)
	if c, ok = t.inPlace(where.at, added); !ok {
		c, ok = t.encodedAnew(where.at, added)
	}
	return c, ok
}

// inPlace inserts into the encoded text and changes no other byte. ok is true only if the result
// decodes to the text with the notice.
func (t *Text) inPlace(at int, added string) (_ Change, ok bool) {
	added, encoded, ok := t.charset.encode(added)
	if !ok {
		return Change{}, false
	}
	off, ok := t.charset.offset(t.content, t.text, at)
	if !ok || !t.takes(encoded) {
		return Change{}, false
	}
	raw := t.body.Raw
	if t.body.Encoding == "quoted-printable" {
		if off = transfer.QuotedOffset(raw, off); lines.Blanks(raw[off:]) == len(raw)-off {
			off = len(raw) // decoders ignore blanks at the end
		}
		if encoded, ok = t.between(off, transfer.EncodeQuoted(encoded, t.rawEOL)); !ok {
			return Change{}, false
		}
	}
	content, _, err := transfer.DecodeText(t.body.Encoding, splice(raw, off, encoded))
	text, _ := t.charset.decode(content)
	if err != nil || text != t.text[:at]+added+t.text[at:] {
		return Change{}, false
	}
	return Change{Off: off, End: off, Piece: encoded}, true
}

// takes reports whether encoded can be inserted without a change of the transfer encoding.
func (t *Text) takes(encoded []byte) bool {
	switch t.body.Encoding {
	case "7bit":
		return isASCII(encoded) && !bytes.Contains(encoded, []byte{0})
	case "8bit":
		return !bytes.Contains(encoded, []byte{0}) // UTF-16 (RFC 2045 section 2.8)
	case "binary":
		return true
	case "quoted-printable":
		// A soft break at the very end would continue the notice's last line.
		return !bytes.HasSuffix(bytes.TrimRight(t.body.Raw, " \t\r\n"), []byte("="))
	}
	return false
}

// between makes a piece of quoted-printable fit between the bytes before off and those after it,
// with soft breaks if off is within a line. ok is false if a soft break would make the line before
// too long.
func (t *Text) between(off int, piece []byte) (_ []byte, ok bool) {
	before, after := t.body.Raw[:off], t.body.Raw[off:]
	if n := len(before); n > 0 && before[n-1] != '\n' {
		blank := len(after) > 0 && lines.IsBlank(before[n-1]) // a hard break would strip it
		if blank || !bytes.HasPrefix(piece, []byte(t.rawEOL)) {
			if n-1-bytes.LastIndexByte(before, '\n') >= transfer.MaxLine {
				return nil, false
			}
			piece = append([]byte("="+t.rawEOL), piece...)
		}
	}
	if len(after) > 0 && !bytes.HasSuffix(piece, []byte("\n")) && !bytes.HasPrefix(after, []byte(t.rawEOL)) {
		piece = append(piece, "="+t.rawEOL...)
	}
	return piece, true
}

// encodedAnew encodes the whole text with the notice. It is needed for base64, into which nothing
// can be inserted, for 7bit, which cannot carry every character, and for a charset that lacks
// characters of a file name, which becomes UTF-8.
func (t *Text) encodedAnew(at int, added string) (_ Change, ok bool) {
	if !t.certain {
		return Change{}, false
	}
	content, toUTF8, ok := t.withNotice(at, added)
	if !ok {
		return Change{}, false
	}
	c := Change{End: len(t.body.Raw)}
	encoding := "quoted-printable"
	if t.body.Encoding == "base64" {
		encoding, c.Piece = "base64", transfer.EncodeBase64(content, t.rawEOL)
		if len(t.body.Raw) == 0 { // perhaps nothing else separates it from the delimiter
			c.Piece = append(c.Piece, t.rawEOL...)
		}
	} else {
		c.Piece = transfer.EncodeQuoted(content, t.rawEOL)
	}
	if back, certain, err := transfer.DecodeText(encoding, c.Piece); err != nil || !certain || !bytes.Equal(back, content) {
		return Change{}, false
	}
	if encoding != t.body.Encoding {
		c.Encoding = encoding
	}
	if toUTF8 {
		c.Charset = "utf-8"
	}
	return c, true
}

// withNotice returns the text with the notice: in its charset, if that has all the characters and
// the bytes around the notice can stay; otherwise in UTF-8, if every byte of the text is valid.
func (t *Text) withNotice(at int, added string) (content []byte, toUTF8, ok bool) {
	said, encoded, sayable := t.charset.encode(added)
	readable := t.body.Encoding == "base64" || !bytes.Contains(encoded, []byte{0})
	if off, ok := t.charset.offset(t.content, t.text, at); ok && sayable && readable {
		content = splice(t.content, off, encoded)
		if text, _ := t.charset.decode(content); text == t.text[:at]+said+t.text[at:] {
			return content, false, true
		}
	}
	if len(armored(t.text)) > 0 && !bytes.Equal(t.content, []byte(t.text)) {
		return nil, false, false // a signature is over the bytes in their charset
	}
	text := t.text[:at] + added + t.text[at:]
	if t.charset.charset != nil {
		text = strings.TrimPrefix(text, byteOrderMark)
	}
	return []byte(text), true, t.clean && !t.charset.opaque
}

func splice(b []byte, at int, piece []byte) []byte {
	out := make([]byte, 0, len(b)+len(piece))
	return append(append(append(out, b[:at]...), piece...), b[at:]...)
}
