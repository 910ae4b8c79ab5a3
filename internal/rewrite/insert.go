package rewrite

import (
	"bytes"
	"io"
	"maps"
	"mime"
	"regexp"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// maxText is the longest text a notice is put into. With a longer one it is a
// part of its own.
const maxText = 1 << 20

// An inserter puts the notice into one of the message's texts.
type inserter struct {
	body     body
	raw      []byte // as it stands in the mail
	encoding string
	charset  codec
	content  []byte // raw without its transfer encoding
	whole    bool   // that has a meaning beyond doubt
	text     string // content in UTF-8
	clean    bool   // and that too
	rawEOL   string
	eol      string // of the text
}

// read reads a text from the spool and decodes it; nil if it is too long, or in
// an unknown charset, or cannot be decoded.
func (b body) read(s *spool.Spool) (*inserter, error) {
	ct := b.header.contentType()
	if b.text.end-b.text.off > maxText || !ct.sure {
		return nil, nil
	}
	raw, err := io.ReadAll(s.Section(b.text.off, b.text.end))
	if err != nil {
		return nil, err
	}
	in := &inserter{body: b, raw: raw, encoding: b.header.transferEncoding()}
	if in.content, in.whole = decodeTransfer(in.encoding, raw); !in.whole && in.content == nil || in.encoding == "base64" && !in.whole {
		return nil, nil
	}
	var known bool
	if in.charset, known = findCharset(ct.params["charset"], in.content); !known {
		return nil, nil
	}
	in.text, in.clean = in.charset.decode(in.content)
	in.rawEOL = lineEnding(raw, eolOf(b.header.raw))
	in.eol = in.rawEOL
	if in.encoding == "base64" {
		in.eol = lineEnding([]byte(in.text), in.rawEOL)
	}
	return in, nil
}

// insert returns the edits that put the notice into the text, or ok = false if
// it has to be a part of its own.
func (in *inserter) insert(n *notice, position Position) (edits []edit, ok bool) {
	var where spot
	var added string
	if in.body.html {
		where, added = htmlSpot(in.text, position), n.html()
	} else {
		flowed := strings.EqualFold(in.body.header.contentType().params["format"], "flowed")
		where, added = plainSpot(in.text, position, flowed), n.text(flowed)
	}
	added = strings.ReplaceAll(where.before+added+where.after, "\n", in.eol)
	if edits, ok = in.inPlace(where.at, added); !ok {
		edits, ok = in.reencoded(where.at, added)
	}
	return edits, ok
}

// inPlace inserts into the encoded text, every other byte of which stays as it
// was. It is done only if what comes out decodes to the text with the notice.
func (in *inserter) inPlace(at int, added string) ([]edit, bool) {
	added, encoded, ok := in.charset.encode(added)
	if !ok {
		return nil, false
	}
	off, ok := in.charset.offset(in.content, in.text, at)
	if !ok || !in.takes(encoded) {
		return nil, false
	}
	if in.encoding == "quoted-printable" {
		if _, off, _ = decodeQuoted(in.raw, off); blanks(in.raw[off:]) == len(in.raw)-off {
			off = len(in.raw) // blanks at the end count for nothing
		}
		if encoded, ok = in.between(off, encodeQuoted(encoded, in.rawEOL)); !ok {
			return nil, false
		}
	}
	content, _ := decodeTransfer(in.encoding, splice(in.raw, off, encoded))
	text, _ := in.charset.decode(content)
	if text != in.text[:at]+added+in.text[at:] {
		return nil, false
	}
	start := in.body.text.off + int64(off)
	return []edit{{span{start, start}, encoded}}, true
}

// takes reports whether the transfer encoding can be inserted into.
func (in *inserter) takes(encoded []byte) bool {
	switch in.encoding {
	case "7bit":
		return isASCII(encoded) && !bytes.Contains(encoded, []byte{0})
	case "8bit":
		return !bytes.Contains(encoded, []byte{0}) // UTF-16 (RFC 2045 section 2.8)
	case "binary":
		return true
	case "quoted-printable":
		// A soft break at the very end would hang on the notice's last line.
		return !bytes.HasSuffix(bytes.TrimRight(in.raw, " \t\r\n"), []byte("="))
	}
	return false
}

// between makes a piece of quoted-printable fit between what stands before off
// and after it, with soft breaks where they are within a line. It is not ok if
// the line before has no room for one.
func (in *inserter) between(off int, piece []byte) (_ []byte, ok bool) {
	before, after := in.raw[:off], in.raw[off:]
	if n := len(before); n > 0 && before[n-1] != '\n' {
		blank := len(after) > 0 && (before[n-1] == ' ' || before[n-1] == '\t') // a hard break would strip it
		if blank || !bytes.HasPrefix(piece, []byte(in.rawEOL)) {
			if n-1-bytes.LastIndexByte(before, '\n') >= maxQuotedLine {
				return nil, false
			}
			piece = append([]byte("="+in.rawEOL), piece...)
		}
	}
	if len(after) > 0 && !bytes.HasSuffix(piece, []byte("\n")) && !bytes.HasPrefix(after, []byte(in.rawEOL)) {
		piece = append(piece, "="+in.rawEOL...)
	}
	return piece, true
}

// reencoded encodes the text with the notice in it anew: base64 cannot be
// inserted into, 7bit cannot take every character, and a charset that cannot
// say a file's name has to become UTF-8.
func (in *inserter) reencoded(at int, added string) ([]edit, bool) {
	if !in.whole {
		return nil, false
	}
	content, toUTF8, ok := in.withNotice(at, added)
	if !ok {
		return nil, false
	}
	encoding, encoded := "quoted-printable", []byte(nil)
	if in.encoding == "base64" {
		encoding, encoded = "base64", wrapBase64(content, in.rawEOL)
		if len(in.raw) == 0 { // nothing else may part it from the delimiter
			encoded = append(encoded, in.rawEOL...)
		}
	} else {
		encoded = encodeQuoted(content, in.rawEOL)
	}
	if back, ok := decodeTransfer(encoding, encoded); !ok || !bytes.Equal(back, content) {
		return nil, false
	}
	edits := []edit{{in.body.text, encoded}}
	if encoding != in.encoding {
		edits = append(edits, in.setField("Content-Transfer-Encoding", encoding))
	}
	if toUTF8 {
		edits = append(edits, in.setField("Content-Type", in.utf8Type()))
	}
	return edits, true
}

// withNotice is the text with the notice in it: in its charset if that can say
// it and the bytes around it can stay, else in UTF-8 if they all have a meaning.
func (in *inserter) withNotice(at int, added string) (content []byte, toUTF8, ok bool) {
	said, encoded, sayable := in.charset.encode(added)
	readable := in.encoding == "base64" || !bytes.Contains(encoded, []byte{0})
	if off, ok := in.charset.offset(in.content, in.text, at); ok && sayable && readable {
		content = splice(in.content, off, encoded)
		if text, _ := in.charset.decode(content); text == in.text[:at]+said+in.text[at:] {
			return content, false, true
		}
	}
	text := in.text[:at] + added + in.text[at:]
	if in.charset.encoding != nil {
		text = strings.TrimPrefix(text, byteOrderMark)
	}
	return []byte(text), true, in.clean
}

func splice(b []byte, at int, piece []byte) []byte {
	out := make([]byte, 0, len(b)+len(piece))
	return append(append(append(out, b[:at]...), piece...), b[at:]...)
}

// setField is the edit that gives a field of the text's header a new value.
func (in *inserter) setField(name, value string) edit {
	h := in.body.header
	off, end, ok := h.span(name)
	if !ok {
		off = h.bodyless()
		end = off
	}
	return edit{span{in.body.start + int64(off), in.body.start + int64(end)}, []byte(name + ": " + value + eolOf(h.raw))}
}

var charsetParam = regexp.MustCompile(`(?i)(;\s*charset\s*=\s*)("[^"]*"|[^\s;"]+)`)

// utf8Type is the text's Content-Type with another charset. The rest stays as
// it was written, if that can be done surely.
func (in *inserter) utf8Type() string {
	h := in.body.header
	ct := h.contentType()
	params := maps.Clone(ct.params)
	if params == nil {
		params = map[string]string{}
	}
	params["charset"] = "utf-8"
	off, end, ok := h.span("Content-Type")
	if ok {
		_, value, _ := bytes.Cut(bytes.TrimRight(h.raw[off:end], "\r\n"), []byte(":"))
		written := strings.TrimSpace(charsetParam.ReplaceAllString(string(value), "${1}utf-8"))
		if _, had := ct.params["charset"]; !had {
			written = strings.TrimRight(written, "; \t") + "; charset=utf-8"
		}
		unfolded := strings.NewReplacer("\r", "", "\n", "").Replace(written)
		if t, got, err := mime.ParseMediaType(unfolded); err == nil && t == ct.String() && maps.Equal(got, params) {
			return written
		}
	}
	return mime.FormatMediaType(ct.String(), params)
}

// lineEnding is the line end b uses, by its first line; otherwise if it has none.
func lineEnding(b []byte, otherwise string) string {
	line, whole := firstLine(b)
	switch {
	case !whole:
		return otherwise
	case bytes.HasSuffix(line, []byte("\r\n")):
		return "\r\n"
	}
	return "\n"
}

// eolOf is the line end the header uses.
func eolOf(header []byte) string { return lineEnding(header, "\r\n") }
