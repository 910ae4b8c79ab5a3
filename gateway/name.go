package gateway

import (
	"mime"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxName is in bytes, for file systems that allow 255, and leaves room for a browser's " (1).crdownload".
	maxName = 200
	// maxExtension is what of a long name's end is kept as its extension.
	maxExtension = 20
	// namelessFile is what a file without a usable name is called.
	namelessFile = "download"
)

// cleanName makes of a stranger's file name one that is safe to offer: the last element of a path
// (RFC 6266, 4.3), without what injects headers, reorders text, or means something to a shell or a
// file system. page.js shows the same name before the click.
func cleanName(name string) string {
	name = strings.ToValidUTF8(name, "\ufffd")
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(cleanRune, name)
	name = strings.Join(strings.Fields(name), " ") // "photo.jpg          .exe" shows its end again
	name = strings.TrimRight(name, ". ")           // Windows drops them, and with them an extension's disguise
	if strings.HasPrefix(name, ".") {
		name = "_" + strings.TrimLeft(name, ".") // not a hidden file, and no ".."
	}
	if name = shorten(name); name == "" || name == "_" {
		return namelessFile
	}
	stem, _, _ := strings.Cut(name, ".")
	if reserved[strings.ToUpper(stem)] {
		name = "_" + name
	}
	return name
}

func cleanRune(r rune) rune {
	switch {
	case r == '\u200c' || r == '\u200d': // joiners, which Persian and emoji need
		return r
	case unicode.IsSpace(r):
		return ' '
	case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp): // Cf has the bidirectional controls
		return -1
	case strings.ContainsRune(`<>:"|?*`, r):
		return '_'
	}
	return r
}

// reserved are Windows' device names, with any extension.
var reserved = map[string]bool{
	"CON": true, "PRN": true, "AUX": true, "NUL": true,
	"COM1": true, "COM2": true, "COM3": true, "COM4": true, "LPT1": true, "LPT2": true, "LPT3": true,
}

// shorten keeps the extension, which says what opens the file.
func shorten(name string) string {
	if len(name) <= maxName {
		return name
	}
	ext := filepath.Ext(name)
	if len(ext) > maxExtension {
		ext = ""
	}
	end := maxName - len(ext)
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return strings.TrimRight(name[:end], " ") + ext
}

// disposition is the Content-Disposition of a download, for a name that is clean. With a name
// that is not plain ASCII it carries both forms (RFC 6266, 4.3); "%" counts as not plain, since
// browsers decode it in the quoted form too.
func disposition(name string) string {
	plain := strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII || r == '%' {
			return '_'
		}
		return r
	}, name)
	value := mime.FormatMediaType("attachment", map[string]string{"filename": plain})
	if plain != name {
		value += "; filename*=UTF-8''" + extValue(name)
	}
	return value
}

// extValue is the value-chars of RFC 8187, 3.2.1.
func extValue(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}
