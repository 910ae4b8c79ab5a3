// Package filename makes the file names that senders chose safe, and this holds: a name that
// [Clean] returns is one element of a path, on one line, that no system hides, refuses or takes for
// a device, and cleaning it again changes nothing.
//
// The script of the gateway's pages has the same rules (gateway/web/link.js), and the tests compare
// both with testdata/names.json.
package filename

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	// Nameless is the name of a file whose sender gave it none.
	Nameless = "attachment"
	// MaxText is the limit of [Clip] in bytes.
	MaxText = 1 << 10

	// maxName is in bytes. File systems allow 255; the rest is for " (2)", for a browser's
	// ".crdownload" and for the suffix of an unfinished download.
	maxName = 200
	// maxExtension is the length of the longest end of a name that counts as an extension.
	maxExtension = 20
)

// Display returns a name as people read it in a mail: the last element of a path, without control
// characters and marks that turn the writing direction, on one line, shortened; "" if nothing is
// left. It keeps characters that only some file systems refuse: mails show the name that the sender
// meant.
func Display(name string) string { return Shorten(lastElement(name)) }

// Clean returns a name under which any system can save the file. To the rules of Display it adds:
// the characters that Windows forbids become "_", the name of a Windows device gets a "_" before
// it, a leading "-", which a command would take for an option, is removed, and an empty name
// becomes [Nameless].
func Clean(name string) string {
	name = strings.TrimLeft(forbidden.Replace(lastElement(name)), ". -")
	if device.MatchString(name) {
		name = "_" + name
	}
	if name == "" {
		return Nameless
	}
	return Shorten(name)
}

// lastElement returns the last element of a path of any system. In other names a slash becomes "_":
// most are in a date or a number ("Invoice 12/2026.pdf"), and no system can save them.
func lastElement(name string) string {
	name = strings.TrimRight(strings.Map(visible, name), `/\ `)
	if isPath.MatchString(name) {
		name = name[strings.LastIndexAny(name, `/\`)+1:]
	}
	name = strings.NewReplacer("/", "_", `\`, "_").Replace(name)
	name = strings.Join(strings.Fields(name), " ") // so that "photo.jpg          .exe" shows its end
	name = strings.Trim(name, ". ")                // neither hidden nor ".."; Windows drops dots at the end
	if volume.MatchString(name) {
		name = strings.Trim(name[strings.LastIndexByte(name, ':')+1:], ". ")
	}
	return name
}

var (
	// isPath matches names that begin as only a path begins, or have an element "..".
	isPath = regexp.MustCompile(`^ *([/\\]|~[/\\]|[A-Za-z]:[/\\]|[a-z]+://)|(^ *|[/\\])\.\.?[/\\]`)
	// volume matches paths of the classic Mac, whose first disk has this name.
	volume = regexp.MustCompile(`(?i)^macintosh hd:`)
)

func visible(r rune) rune {
	switch {
	case r == '\u200c' || r == '\u200d': // the joiners, which Persian and emoji need
		return r
	case unicode.IsSpace(r): // the separators of lines and paragraphs too
		return ' '
	case unicode.In(r, unicode.Cc, unicode.Cf): // Cf has the marks of the writing direction
		return -1
	}
	return r
}

var forbidden = strings.NewReplacer("<", "_", ">", "_", ":", "_", `"`, "_", "|", "_", "?", "_", "*", "_")

// device matches the names that Windows reserves in every directory, with any extension
// (https://learn.microsoft.com/windows/win32/fileio/naming-a-file).
var device = regexp.MustCompile(`(?i)^(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³]) *(\.|$)`)

// Shorten returns a name of at most 200 bytes. A longer one ends in "…" and its extension, which
// says what opens the file.
func Shorten(name string) string {
	if len(name) <= maxName {
		return name
	}
	ext := extension(name)
	return cut(name, maxName-len("…")-len(ext)) + "…" + ext
}

// Extension returns the end of a name that says what opens the file, with its dot, or "".
func Extension(name string) string { return extension(name) }

func extension(name string) string {
	ext := path.Ext(name)
	if len(ext) > maxExtension || ext == name {
		return ""
	}
	return ext
}

// Unique makes names different from each other: "a.pdf", "a (2).pdf". Names that some file system
// takes for equal are equal: names that differ only in capitals, or in the two ways to write an é.
func Unique(names []string) []string {
	unique := make([]string, len(names))
	taken := make(map[string]bool, len(names))
	next := make(map[string]int) // where counting goes on for a name
	for i, name := range names {
		candidate, key := name, fold(name)
		for n := max(2, next[key]); taken[fold(candidate)]; n++ {
			candidate = numbered(name, n)
			next[key] = n + 1
		}
		unique[i], taken[fold(candidate)] = candidate, true
	}
	return unique
}

func fold(name string) string { return strings.ToLower(norm.NFC.String(name)) }

func numbered(name string, n int) string {
	ext := extension(name)
	return fmt.Sprintf("%s (%d)%s", strings.TrimSuffix(name, ext), n, ext)
}

// Clip returns valid UTF-8 of at most MaxText bytes, for names and media types in metadata and file
// lists. It cuts longer texts, because refusing them would refuse the mail.
func Clip(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= MaxText {
		return text
	}
	return cut(text, MaxText)
}

// cut returns the beginning of a text that is longer than n bytes, cut before a character.
func cut(text string, n int) string {
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
