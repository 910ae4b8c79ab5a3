package rewrite

import (
	"cmp"
	"html"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nkirchhoffer/detach-mta/internal/charsets"
	"github.com/nkirchhoffer/detach-mta/internal/filename"
)

// maxEncodedName is how much of a name is decoded, in bytes. File systems take a few hundred bytes,
// and senders have written 10 kB.
const maxEncodedName = 16 << 10

// A quality says how much of a name is what the sender wrote.
type quality int

const (
	nothing    quality = iota
	unreadable         // mostly characters that could not be decoded
	lossy              // the sender's program has lost characters, or had no name
	repaired           // cut off, or in a charset that was guessed
	exact
)

// A nameDecoder decodes one name.
type nameDecoder struct {
	hints   []string // charsets; see fileName
	guessed string   // the charset that was guessed for the name
	given   bool     // the header has something that is not blank
	cutOff  bool     // the end of the name is missing
	quality quality
}

func (d *nameDecoder) lower(q quality) { d.quality = min(d.quality, q) }

func (d *nameDecoder) endIsMissing() {
	d.cutOff = true
	d.lower(repaired)
}

// fileName returns the decoded file name in a part's header, or "". If the name cannot be read, it
// returns one with the extension of the part's type.
//
// hints are the charsets of the mail's texts: programs that write a name as raw bytes use the
// charset of the text.
func fileName(disposition, contentType string, hints []string) string {
	types := splitParams(contentType)
	if own := types["charset"]; own != "" {
		hints = append([]string{own}, hints...)
	}
	name, d := bestName(splitParams(disposition), types, hints)
	mimeType, _, _ := strings.Cut(contentType, ";")
	extension := extensions[strings.ToLower(strings.TrimSpace(mimeType))]
	switch {
	case !d.given:
		return ""
	case d.quality == nothing:
		return filename.Nameless + extension
	case slices.Contains(knownExtensions, strings.ToLower(name)): // its stem was lost
		return filename.Nameless + name
	case d.quality == unreadable:
		return filename.Nameless + cmp.Or(filename.Extension(name), extension)
	case (d.cutOff || placeholders[strings.ToLower(name)]) && filename.Extension(name) == "":
		return name + extension
	}
	return name
}

// bestName returns the name that is read best. If several are equally good, the disposition's
// filename takes precedence over the type's name (RFC 2183 section 2.3), and the extended notation
// over the plain one (RFC 6266 section 4.3).
//
// QUIRK: web applications write name=, in the place of filename=.
func bestName(disposition, contentType map[string]string, hints []string) (best string, by nameDecoder) {
	all := slices.Concat(notations(disposition, "filename"), notations(contentType, "name"), notations(disposition, "name"))
	for _, pieces := range all {
		d := nameDecoder{hints: hints, quality: exact}
		value := d.join(pieces)
		if !d.given {
			continue
		}
		value = d.finish(value)
		d.rate(value)
		if !by.given || d.quality > by.quality {
			best, by = value, d
		}
		if d.quality == exact {
			break
		}
	}
	return best, by
}

// notations returns the pieces of name*=charset'language'text (RFC 2231 section 4), of name*0,
// name*1, … (section 3), and of name=text.
func notations(params map[string]string, name string) [][]segment {
	return [][]segment{{{extended: true, value: params[name+"*"]}}, segments(params, name), {{value: params[name]}}}
}

// join decodes the pieces of a value.
//
// QUIRK: senders write charset'language'text and %XX without the "*" that says so, and repeat the
// charset in each piece.
func (d *nameDecoder) join(pieces []segment) string {
	var value, escaped strings.Builder
	charset := ""
	for i, p := range pieces {
		if d.gap(pieces, i) {
			d.lower(repaired)
		}
		d.given = d.given || strings.TrimSpace(p.value) != ""
		c, text := cutCharset(p.value)
		switch {
		case i == 0 && (p.extended || charsets.Known(c)):
			charset, p.value, p.extended = c, text, true
		case c != "" && strings.EqualFold(c, charset):
			p.value, p.extended = text, true
		}
		if p.extended || charset != "" && percentByte.MatchString(p.value) {
			escaped.WriteString(p.value) // a %XX may go on in the next piece
			continue
		}
		value.WriteString(percentDecode(escaped.String()))
		escaped.Reset()
		value.WriteString(p.value)
	}
	value.WriteString(percentDecode(escaped.String()))
	encoded := value.String()
	if len(encoded) > maxEncodedName {
		encoded = encoded[:maxEncodedName]
		d.endIsMissing()
	}
	if charset == "" {
		return d.decodeWords(encoded)
	}
	return d.decode(charset, encoded)
}

// gap reports whether a piece is missing before number i.
func (d *nameDecoder) gap(pieces []segment, i int) bool {
	return i > 0 && pieces[i].number != pieces[i-1].number+1
}

// percentByte matches a byte beyond ASCII in percent-encoding.
var percentByte = regexp.MustCompile(`%[89a-fA-F][0-9a-fA-F]`)

// decode returns text in the charset of the label, or, if the label is empty, unknown or wrong, in
// the one that it seems to be in.
func (d *nameDecoder) decode(label, text string) string {
	if text == "" {
		return ""
	}
	if label != "" {
		decoded, known, clean := charsets.Decode(label, text)
		if clean {
			return decoded
		}
		if known && !utf8.ValidString(text) && charsets.Name(label) != "us-ascii" {
			return d.decodeBroken(label, text, decoded)
		}
	}
	if utf8.ValidString(text) {
		return decodeSeven(text)
	}
	d.lower(repaired)
	return d.decodeRaw(text)
}

// decodeBroken decodes text that is not valid in its charset: because it was cut off, because it is
// in another charset, or because some bytes are damaged.
func (d *nameDecoder) decodeBroken(label, text, decoded string) string {
	d.lower(repaired)
	if unfolded := withoutFolds(text); utf8.ValidString(unfolded) && charsets.Name(label) == "utf-8" {
		return unfolded
	}
	for cut := 1; cut <= 3 && cut < len(text); cut++ {
		if whole, _, clean := charsets.Decode(label, text[:len(text)-cut]); clean {
			d.endIsMissing()
			return whole
		}
	}
	lost := strings.Count(decoded, replacement)
	if found := utf8.RuneCountInString(strings.Map(beyondASCII, decoded)) - lost; lost >= found {
		return d.decodeRaw(text) // most of it is invalid in the charset
	}
	return decoded
}

// withoutFolds removes blanks before the later bytes of a character of UTF-8, where senders folded
// a line.
func withoutFolds(text string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, " ")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		rest := strings.TrimLeft(after, " ")
		if rest == "" || utf8.RuneStart(rest[0]) {
			b.WriteString(text[len(before) : len(text)-len(rest)])
		}
		text = rest
	}
}

// beyondASCII drops the characters of ASCII, for strings.Map.
func beyondASCII(r rune) rune {
	if r < utf8.RuneSelf {
		return -1
	}
	return r
}

// replacement stands for a byte that is invalid in a charset.
const replacement = "\uFFFD"

// decodeRaw decodes text that is not UTF-8 and whose charset is not declared.
func (d *nameDecoder) decodeRaw(text string) string {
	if mostlyUTF8(text) {
		valid := strings.ToValidUTF8(text, replacement)
		if strings.HasSuffix(valid, replacement) {
			d.endIsMissing()
		}
		return strings.TrimRight(valid, replacement)
	}
	if d.guessed == "" {
		d.guessed = charsets.Guess(text, d.hints...)
	}
	decoded, _, _ := charsets.Decode(d.guessed, text)
	return strings.ToValidUTF8(decoded, replacement)
}

// mostlyUTF8 reports whether most of a text's characters beyond ASCII are UTF-8: the text was cut
// off within a character, or damaged.
func mostlyUTF8(text string) bool {
	valid, invalid := 0, 0
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], replacement):
			invalid++
		case r >= utf8.RuneSelf:
			valid++
		}
	}
	return valid >= 3*invalid
}

// decodeSeven decodes text that looks like ASCII, if it certainly is in one of the charsets for
// 7-bit mail.
func decodeSeven(text string) string {
	charset := charsets.Seven(text)
	if charset == "" {
		return text
	}
	decoded, _, clean := charsets.Decode(charset, text)
	if !clean || charset == "utf-7" && !charsets.Plausible(decoded) {
		return text
	}
	return decoded
}

// finish decodes a name that was encoded twice, and removes quotation marks around the whole name.
func (d *nameDecoder) finish(name string) string {
	if strings.Contains(name, "=?") {
		name = d.decodeWords(name)
	}
	name = numericEntity.ReplaceAllStringFunc(name, html.UnescapeString)
	if decoded := percentDecode(name); percentByte.MatchString(name) && utf8.ValidString(decoded) && !percentByte.MatchString(decoded) {
		name = decoded // UTF-8 in percent-encoding
	}
	name = strings.TrimSpace(strings.TrimRight(name, "; "))
	if !strings.Contains(name, "=?") {
		name = strings.TrimSuffix(name, "?=") // the end of a word whose beginning was lost
	}
	for _, mark := range []string{`"`, "'"} {
		if inner, ok := strings.CutPrefix(name, mark); ok && strings.HasSuffix(inner, mark) {
			name = inner[:len(inner)-1]
		}
	}
	return name
}

// numericEntity matches a character beyond ASCII as browsers write it in names that the charset of
// a form cannot encode.
var numericEntity = regexp.MustCompile(`&#(12[89]|1[3-9][0-9]|[2-9][0-9]{2}|[0-9]{4,7});`)

// encodedWord matches an encoded word that was not decoded.
var encodedWord = regexp.MustCompile(`=\?[^?\s]*\?.*\?=`)

// rate lowers the quality of a name by what it looks like.
func (d *nameDecoder) rate(name string) {
	shown := filename.Display(name)
	stem := strings.TrimSuffix(shown, path.Ext(shown))
	lost := strings.Count(stem, "?") + strings.Count(stem, replacement)
	said := strings.ContainsFunc(stem, func(r rune) bool {
		return r != '\uFFFD' && !strings.ContainsRune("?_-. ()0123456789", r) || unicode.IsMark(r)
	})
	switch {
	case shown == "":
		d.lower(nothing)
	case encodedWord.MatchString(shown), lost > 0 && !said, strings.Count(stem, replacement) > utf8.RuneCountInString(stem)/2:
		d.lower(unreadable)
	case lost > 0, placeholders[strings.ToLower(stem)], strings.Trim(stem, "_ ") == "" && stem != "":
		d.lower(lossy)
	}
}

// placeholders are names that programs write for files without a name.
var placeholders = map[string]bool{"noname": true, "unnamed": true, "untitled": true, "unknown": true, "attachment": true, "no name": true, "(no name)": true}

// extensions are for attachments without a name. They are fixed, because mime.ExtensionsByType
// differs between machines.
var extensions = map[string]string{
	"application/pdf": ".pdf", "application/x-pdf": ".pdf", "application/postscript": ".ps", "application/rtf": ".rtf", "text/rtf": ".rtf",
	"application/msword": ".doc", "application/vnd.ms-word": ".doc",
	"application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
	"application/vnd.ms-word.document.macroenabled.12":                        ".docm",
	"application/vnd.ms-excel":                                                ".xls", "application/msexcel": ".xls",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
	"application/vnd.ms-excel.sheet.macroenabled.12":                    ".xlsm",
	"application/vnd.ms-excel.sheet.binary.macroenabled.12":             ".xlsb",
	"application/vnd.ms-powerpoint":                                     ".ppt", "application/mspowerpoint": ".ppt",
	"application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
	"application/vnd.openxmlformats-officedocument.presentationml.slideshow":    ".ppsx",
	"application/vnd.oasis.opendocument.text":                                   ".odt", "application/vnd.oasis.opendocument.spreadsheet": ".ods",
	"application/vnd.oasis.opendocument.presentation": ".odp", "application/vnd.oasis.opendocument.graphics": ".odg",
	"application/vnd.ms-outlook": ".msg", "application/vnd.visio": ".vsd", "application/hwp": ".hwp", "application/x-hwp": ".hwp", "application/epub+zip": ".epub",
	"application/zip": ".zip", "application/x-zip-compressed": ".zip", "application/gzip": ".gz", "application/x-gzip": ".gz", "application/x-tar": ".tar",
	"application/x-7z-compressed": ".7z", "application/vnd.rar": ".rar", "application/x-rar-compressed": ".rar", "application/x-bzip2": ".bz2", "application/x-xz": ".xz",
	"application/octet-stream": ".bin", "application/json": ".json", "application/xml": ".xml", "text/xml": ".xml", "application/ics": ".ics", "text/calendar": ".ics",
	"text/vcard": ".vcf", "text/x-vcard": ".vcf", "text/directory": ".vcf", "message/rfc822": ".eml",
	"text/csv": ".csv", "text/html": ".html", "application/xhtml+xml": ".xhtml", "text/plain": ".txt", "text/markdown": ".md", "text/css": ".css",
	"text/tab-separated-values": ".tsv", "text/x-patch": ".patch", "text/x-diff": ".diff", "text/x-log": ".log",
	"image/jpeg": ".jpg", "image/jpg": ".jpg", "image/pjpeg": ".jpg", "image/png": ".png", "image/x-png": ".png", "image/gif": ".gif", "image/tiff": ".tiff",
	"image/bmp": ".bmp", "image/x-ms-bmp": ".bmp", "image/webp": ".webp", "image/heic": ".heic", "image/heif": ".heif", "image/avif": ".avif",
	"image/svg+xml": ".svg", "image/vnd.adobe.photoshop": ".psd", "image/x-icon": ".ico", "image/vnd.dwg": ".dwg",
	"audio/mpeg": ".mp3", "audio/mp3": ".mp3", "audio/mp4": ".m4a", "audio/x-m4a": ".m4a", "audio/wav": ".wav", "audio/x-wav": ".wav", "audio/ogg": ".ogg",
	"audio/amr": ".amr", "audio/flac": ".flac", "audio/aac": ".aac",
	"video/mp4": ".mp4", "video/quicktime": ".mov", "video/x-msvideo": ".avi", "video/mpeg": ".mpg", "video/webm": ".webm", "video/3gpp": ".3gp",
	"video/x-ms-wmv": ".wmv", "video/x-matroska": ".mkv",
}

// knownExtensions has the values of extensions.
var knownExtensions = slices.Collect(maps.Values(extensions))

// displayName returns the name that the notice shows. An attachment without a name is named after
// its type.
func displayName(name, mimeType string) string {
	return cmp.Or(filename.Display(name), filename.Nameless+extensions[mimeType])
}
