package rewrite

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/quotedprintable"
	"regexp"
	"strings"

	"github.com/emersion/go-message/charset"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
)

// maxText is the longest text a notice is put into. With a longer one it is a
// part of its own.
const maxText = 4 << 20

// An inserter puts the notice into one of the message's texts.
type inserter struct {
	body     body
	raw      []byte // as it stands in the mail
	encoding string
	charset  string
	eol      string
	position Position
}

// insert returns the edits that put the notice into b, or ok = false if it has
// to be a part of its own: the text is too long, or cannot be decoded, or is in
// an unknown charset.
func (n *notice) insert(b body, s *Spool, position Position) (edits []edit, ok bool, err error) {
	if b.text.end-b.text.off > maxText {
		return nil, false, nil
	}
	raw, err := io.ReadAll(s.Section(b.text.off, b.text.end))
	if err != nil {
		return nil, false, err
	}
	ct := b.header.contentType()
	if !ct.sure {
		return nil, false, nil
	}
	in := &inserter{
		body: b, raw: raw, position: position,
		encoding: b.header.transferEncoding(),
		charset:  strings.ToLower(ct.params["charset"]),
		eol:      eolOf(b.header.raw),
	}
	content := n.text()
	if b.html {
		content = n.html()
	}
	if edits, ok = in.inPlace(content); !ok {
		edits, ok = in.reencoded(content)
	}
	return edits, ok, nil
}

// inPlace inserts the notice into the encoded text, every other byte of which
// stays as it was.
func (in *inserter) inPlace(content string) ([]edit, bool) {
	text, ok := encodeCharset(in.charset, content)
	if !ok {
		return nil, false
	}
	switch in.encoding {
	case "7bit":
		ok = isASCII(text)
	case "8bit", "binary":
	case "quoted-printable":
		ok = !endsSoft(in.raw)
	default:
		ok = false
	}
	if !ok {
		return nil, false
	}
	at, before, after := in.where(in.raw)
	added := in.lines(before + string(text) + after)
	if in.encoding == "quoted-printable" {
		added = quote(added, in.eol, midLine(in.raw, at))
	}
	off := in.body.text.off + int64(at)
	return []edit{{span{off, off}, added}}, true
}

// reencoded decodes the text, inserts the notice, and encodes it again: base64
// cannot be inserted into, and a charset that cannot say a file's name has to
// become UTF-8.
func (in *inserter) reencoded(content string) ([]edit, bool) {
	decoded, ok := in.decoded()
	if !ok {
		return nil, false
	}
	text, ok := encodeCharset(in.charset, content)
	toUTF8 := !ok
	if toUTF8 {
		if decoded, ok = decodeCharset(in.charset, decoded); !ok {
			return nil, false
		}
		text = []byte(content)
	}
	at, before, after := in.where(decoded)
	added := in.lines(before + string(text) + after)
	decoded = append(append(bytes.Clone(decoded[:at]), added...), decoded[at:]...)
	encoding, encoded := "base64", wrapBase64(decoded, in.eol)
	if in.encoding != "base64" {
		encoding, encoded = "quoted-printable", quote(decoded, in.eol, false)
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

func (in *inserter) decoded() ([]byte, bool) {
	var r io.Reader = bytes.NewReader(in.raw)
	switch in.encoding {
	case "7bit", "8bit", "binary":
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	default:
		return nil, false
	}
	b, err := io.ReadAll(r)
	return b, err == nil
}

var (
	bodyOpen  = regexp.MustCompile(`(?i)<body\b[^>]*>`)
	bodyClose = regexp.MustCompile(`(?i)</body\s*>`)
	htmlClose = regexp.MustCompile(`(?i)</html\s*>`)
)

// where says at which offset of a text the notice goes, and what parts it from
// the text before and after.
func (in *inserter) where(text []byte) (at int, before, after string) {
	if in.body.html {
		if in.position == Top {
			if m := bodyOpen.FindIndex(text); m != nil {
				return m[1], "", ""
			}
			return 0, "", "\n"
		}
		for _, tag := range []*regexp.Regexp{bodyClose, htmlClose} {
			if all := tag.FindAllIndex(text, -1); len(all) > 0 {
				return all[len(all)-1][0], "", ""
			}
		}
		return len(text), "\n", ""
	}
	switch {
	case len(text) == 0:
		return 0, "", ""
	case in.position == Top:
		return 0, "", "\n\n"
	case bytes.HasSuffix(text, []byte("\n")):
		return len(text), "\n", "\n"
	}
	return len(text), "\n\n", ""
}

// lines gives content the line ends of the mail.
func (in *inserter) lines(content string) []byte {
	return []byte(strings.ReplaceAll(content, "\n", in.eol))
}

// setField is the edit that gives a field of the text's header a new value.
func (in *inserter) setField(name, value string) edit {
	h := in.body.header
	off, end, ok := h.span(name)
	if !ok {
		off = h.bodyless()
		end = off
	}
	return edit{span{in.body.start + int64(off), in.body.start + int64(end)}, []byte(name + ": " + value + in.eol)}
}

// utf8Type is the text's Content-Type with another charset; format=flowed and
// the like stay.
func (in *inserter) utf8Type() string {
	ct := in.body.header.contentType()
	params := map[string]string{}
	for k, v := range ct.params {
		params[k] = v
	}
	params["charset"] = "utf-8"
	return mime.FormatMediaType(ct.String(), params)
}

// eolOf is the line end the header uses.
func eolOf(header []byte) string {
	if line, whole := firstLine(header); whole && !bytes.HasSuffix(line, []byte("\r\n")) {
		return "\n"
	}
	return "\r\n"
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// encodeCharset says text in a charset, if it can.
func encodeCharset(cs, text string) ([]byte, bool) {
	if isASCII([]byte(text)) && asciiCompatible(cs) {
		return []byte(text), true
	}
	e := lookup(cs)
	if e == nil {
		return nil, false
	}
	b, err := e.NewEncoder().Bytes([]byte(text))
	return b, err == nil
}

func decodeCharset(cs string, text []byte) ([]byte, bool) {
	if cs == "" {
		cs = "us-ascii"
	}
	r, err := charset.Reader(cs, bytes.NewReader(text))
	if err != nil {
		return nil, false
	}
	b, err := io.ReadAll(r)
	return b, err == nil
}

// asciiCompatible reports whether ASCII characters, at the start of a line, are
// themselves in the charset.
func asciiCompatible(cs string) bool {
	switch cs {
	case "", "us-ascii", "ascii", "utf-8", "utf8", "iso-2022-jp", "gb18030", "gb2312", "gbk", "big5", "euc-jp", "euc-kr", "shift_jis", "koi8-r", "koi8-u":
		return true
	}
	return strings.HasPrefix(cs, "iso-8859-") || strings.HasPrefix(cs, "windows-125")
}

func lookup(cs string) encoding.Encoding {
	if cs == "" || cs == "us-ascii" {
		return nil
	}
	if e, err := ianaindex.MIME.Encoding(cs); err == nil && e != nil {
		return e
	}
	e, err := htmlindex.Get(cs)
	if err != nil {
		return nil
	}
	return e
}

// endsSoft reports whether a quoted-printable text ends within a line.
func endsSoft(raw []byte) bool {
	return bytes.HasSuffix(bytes.TrimRight(raw, " \t\r\n"), []byte("="))
}

func midLine(raw []byte, at int) bool {
	return at > 0 && raw[at-1] != '\n' && at < len(raw)
}

// quote encodes text in quoted-printable. Within a line it stands between two
// soft breaks.
func quote(text []byte, eol string, within bool) []byte {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	// A bytes.Buffer takes every write.
	_, _ = w.Write(text)
	_ = w.Close()
	out := b.Bytes()
	if eol == "\n" {
		out = bytes.ReplaceAll(out, []byte("\r\n"), []byte("\n"))
	}
	if within {
		out = append(append([]byte("="+eol), out...), "="+eol...)
	}
	return out
}

// wrapBase64 encodes text in base64, in lines of 76 (RFC 2045 section 6.8),
// without a line end after the last.
func wrapBase64(text []byte, eol string) []byte {
	const width = 76
	s := base64.StdEncoding.EncodeToString(text)
	var b bytes.Buffer
	for len(s) > width {
		b.WriteString(s[:width] + eol)
		s = s[width:]
	}
	b.WriteString(s)
	return b.Bytes()
}
