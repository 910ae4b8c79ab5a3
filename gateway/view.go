package gateway

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

const (
	// viewCSP is for a file that is shown in a frame of its page: in an origin of its own, without scripts. The
	// browser's own player asks for the file again, and for nothing else.
	viewCSP = "default-src 'none'; img-src 'self'; media-src 'self'; sandbox; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
	// sniffed is how much of a file decides what it is: what net/http looks at.
	sniffed = 512
)

// viewable is what a browser shows without running any of it. HTML, SVG and XML are not here, and never can be.
var viewable = map[string]bool{
	"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true, "image/avif": true,
	"audio/mpeg": true, "audio/wave": true, "application/ogg": true, "video/mp4": true, "video/webm": true,
	"text/plain": true,
}

// view shows a file in a frame of its page. What it is, its first bytes say, and not its sender or its name.
func (g *gateway) view(w *response, r *http.Request, c cid.Cid, ticket string) error {
	w.route, w.machine = "view", true // an error in a frame is a line
	h := w.Header()
	h.Set("Content-Security-Policy", viewCSP)
	h.Set("X-Frame-Options", "SAMEORIGIN")
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	fragment, err := g.vault.OpenTicket(c, ticket)
	if err != nil {
		return err
	}
	file, err := g.vault.Open(r.Context(), c, fragment)
	if err != nil {
		return err
	}
	defer file.Close()
	contentType, err := sniff(file)
	if err != nil {
		return err
	}
	if contentType == "" {
		return errNoView
	}
	h.Set("Cache-Control", fileCache)
	h.Set("Content-Disposition", "inline")
	h.Set("Content-Type", contentType)
	h.Set("Etag", etag(c, "view"))
	if err := w.stream(r, file, file.Meta.Size); err != nil {
		return err
	}
	g.done(w, r)
	return nil
}

// sniff reads the beginning of a file, and returns its type if it can be shown.
func sniff(file *vault.File) (string, error) {
	head := make([]byte, sniffed)
	n, err := io.ReadFull(file, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	head = head[:n]
	full := http.DetectContentType(head)
	if bytes.HasPrefix(head[min(n, 4):], []byte("ftypavif")) {
		full = "image/avif"
	}
	kind, _, _ := strings.Cut(full, ";")
	switch {
	case !viewable[kind]:
		return "", nil
	case kind == "text/plain" && full == "text/plain; charset=utf-8" && !utf8.Valid(trimRune(head)):
		return "text/plain; charset=windows-1252", nil
	}
	return full, nil
}

// trimRune takes off a character that is cut at the end.
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
