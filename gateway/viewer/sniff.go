package viewer

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"
)

const (
	mimePDF = "application/pdf"
	// sniffed is how many first bytes decide the type: as many as http.DetectContentType reads.
	sniffed = 512
)

// viewable has the types whose content cannot run. HTML, SVG and XML must never be added.
var viewable = map[string]bool{
	"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true, "image/avif": true,
	"audio/mpeg": true, "audio/wav": true, "audio/ogg": true, "video/mp4": true, "video/webm": true,
	"text/plain": true, mimePDF: true,
}

// sniff returns the type of the content by its first bytes alone, since the sender chose the file's
// name and type, or ErrKind if the type is not viewable. The content is at its beginning again.
func sniff(content io.ReadSeeker) (string, error) {
	head := make([]byte, sniffed)
	n, err := io.ReadFull(content, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	head = head[:n]
	full := http.DetectContentType(head)
	switch {
	case bytes.HasPrefix(head[min(n, 4):], []byte("ftypavif")):
		full = "image/avif"
	case full == "audio/wave":
		full = "audio/wav" // the name under which browsers play it
	case full == "application/ogg":
		full = "audio/ogg"
	}
	kind, _, _ := strings.Cut(full, ";")
	switch {
	case !viewable[kind]:
		return "", ErrKind
	case full == "text/plain; charset=utf-8" && !utf8.Valid(trimRune(head)):
		return "text/plain; charset=windows-1252", nil
	}
	return full, nil
}

// trimRune drops an incomplete character at the end.
func trimRune(b []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if utf8.RuneStart(b[len(b)-i]) {
			if !utf8.FullRune(b[len(b)-i:]) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}
