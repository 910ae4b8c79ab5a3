package gateway

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

const (
	// viewCSP is for what a page's frame shows: in an origin of its own, without scripts. It has pictures and sound
	// from here, and one style.
	viewCSP = "default-src 'none'; img-src 'self'; media-src 'self'; style-src %s; sandbox; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
	// viewStyle fits what is shown to the frame.
	viewStyle = "html,body{height:100%}body{margin:0;display:grid;place-items:center;background:#fff}img,video{max-width:100%;max-height:100vh}audio{width:90%}"
	// sniffed is how much of a file decides what it is: what net/http looks at.
	sniffed = 512
)

// frames are the documents around what a browser shows in an element. Text needs none.
var frames = map[string]*template.Template{
	"image": frame(`<img src="{{.}}" alt="">`),
	"audio": frame(`<audio src="{{.}}" controls></audio>`),
	"video": frame(`<video src="{{.}}" controls></video>`),
}

func frame(element string) *template.Template {
	return template.Must(template.New("").Parse("<!doctype html><meta charset=utf-8><title></title><style>" + viewStyle + "</style>" + element))
}

// viewable is what is shown without running any of it: PDF by the viewer, the rest by the browser. HTML, SVG and XML are not here, and
// never can be.
var viewable = map[string]bool{
	"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true, "image/avif": true,
	"audio/mpeg": true, "audio/wav": true, "audio/ogg": true, "video/mp4": true, "video/webm": true,
	"text/plain": true, mimePDF: true,
}

// view shows a file in a frame of its page. What it is, its first bytes say, and not its sender or its name. The address of
// the frame is a ticket, and below it lies the file itself, for the element that shows it.
func (g *gateway) view(w *response, r *http.Request, c cid.Cid, rest string) error {
	w.route, w.machine = "view", true // an error in a frame is a line
	h := w.Header()
	h.Set("Content-Security-Policy", fmt.Sprintf(viewCSP, cspHash(viewStyle)))
	h.Set("X-Frame-Options", "SAMEORIGIN")
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	ticket, below, _ := strings.Cut(rest, "/")
	file, err := g.openTicket(r, c, ticket)
	if err != nil {
		return err
	}
	defer file.Close()
	if file.Meta.Type == skeleton.Type || file.Meta.Type == filelist.Type {
		return errNoView // it is not what is downloaded
	}
	contentType, err := sniff(file)
	if err != nil {
		return err
	}
	if contentType == "" {
		return errNoView
	}
	if below == "" {
		address := g.path(c) + "/v/" + ticket + "/file"
		if contentType == mimePDF {
			return g.viewPDF(w, r, address)
		}
		kind, _, _ := strings.Cut(contentType, "/")
		if around := frames[kind]; around != nil {
			return g.viewFrame(w, r, around, address)
		}
	}
	openToFrames(h)
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

func (g *gateway) viewFrame(w *response, r *http.Request, around *template.Template, content any) error {
	var b strings.Builder
	if err := around.Execute(&b, content); err != nil {
		return fmt.Errorf("render frame: %w", err)
	}
	if err := writeString(w, "text/html; charset=utf-8", b.String()); err != nil {
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
	switch {
	case bytes.HasPrefix(head[min(n, 4):], []byte("ftypavif")):
		full = "image/avif"
	case full == "audio/wave":
		full = "audio/wav" // the name that browsers play it under
	case full == "application/ogg":
		full = "audio/ogg"
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
