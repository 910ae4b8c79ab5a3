// Package viewer shows files from strangers in a frame of the gateway's page. Its invariant:
//
//	Nothing in a file runs, and the frame around the file has no origin: it loads from the
//	gateway's host only.
//
// The gateway passes a decrypted file, and the address from which the frame can fetch it; the
// viewer has no key and no store. [Viewer.Show] finds the type by the first bytes and answers with
// the frame. A browser itself shows pictures, sound, video and text. PDF.js, which
// [Viewer.ServeLibrary] serves, draws a PDF.
//
// A build with the tag pdfjs embeds PDF.js from its npm package:
//
//	npm ci --prefix gateway/viewer/pdfjs
//	go build -tags pdfjs ./cmd/detach
//
// Other builds refuse a PDF with [ErrKind].
package viewer

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

var (
	// ErrKind means that files of this kind are not shown.
	ErrKind = errors.New("files of this kind are not shown")
	// ErrNoFile means that PDF.js has no such file, or that this build has no PDF.js.
	ErrNoFile = errors.New("not a file of the viewer")
)

// Path begins the addresses of PDF.js, below the gateway's prefix.
const Path = "/viewer/"

const (
	// baseCSP begins every frame's policy.
	baseCSP = "default-src 'none'; style-src %s; frame-ancestors 'self'; base-uri 'none'; form-action 'none'; "
	// elementCSP allows pictures and sound from the gateway. No script runs.
	elementCSP = baseCSP + "img-src 'self'; media-src 'self'; sandbox"
	// pdfCSP allows our script and PDF.js, and lets them fetch from the gateway.
	pdfCSP = baseCSP + "script-src %s 'self' 'wasm-unsafe-eval'; worker-src blob: 'self'; connect-src 'self'; font-src 'self'; img-src blob: data:; sandbox allow-scripts"
)

//go:embed element.html pdf.html
var templates embed.FS

//go:embed element.css
var elementStyle string

//go:embed pdf.css
var pdfStyle string

//go:embed pdf.js
var pdfScript string

// A Viewer writes frames and serves PDF.js. It is safe for concurrent use.
type Viewer struct {
	frames *template.Template
	prefix string
	pdfjs  *library // nil in a build without it
}

// A File is a decrypted file to show.
type File struct {
	Content         io.ReadSeeker // at its beginning
	Address         string        // where a frame fetches Content; empty in the answer to that request
	*texts.Language               // the reader's
}

// New returns the viewer of a gateway whose addresses begin with prefix, "" or "/prefix".
func New(prefix string) *Viewer { return newViewer(prefix, packages) }

// newViewer panics if the embedded files are broken. root has the package of PDF.js, or is empty.
func newViewer(prefix string, root fs.FS) *Viewer {
	return &Viewer{template.Must(template.ParseFS(templates, "*.html")), prefix, newLibrary(root)}
}

// Extensions lists the usual extensions of files that can be shown, separated by spaces. A page
// offers to show a file by its extension.
func (v *Viewer) Extensions() string {
	const always = "png jpg jpeg gif webp avif mp3 wav ogg oga mp4 m4v webm txt log csv md"
	if v.pdfjs == nil {
		return always
	}
	return always + " pdf"
}

// Secure sets the headers of every answer in a frame, errors included. The gateway's page may frame
// the answer, which has no origin and runs no script.
func Secure(h http.Header) {
	h.Set("Content-Security-Policy", fmt.Sprintf(elementCSP, BlockHash(elementStyle)))
	h.Set("X-Frame-Options", "SAMEORIGIN")
}

// Show answers with the frame around f. If f.Address is empty or f is a text, it sets the headers
// of f.Content instead and reports true: then the caller sends f.Content, which is at its beginning
// again. It returns ErrKind for a file that is not shown.
func (v *Viewer) Show(w http.ResponseWriter, f File) (sendContent bool, err error) {
	contentType, err := sniff(f.Content)
	if err != nil {
		return false, err
	}
	kind, _, _ := strings.Cut(contentType, "/")
	switch {
	case contentType == mimePDF && v.pdfjs == nil:
		return false, ErrKind
	case kind == "text" || f.Address == "":
		h := w.Header()
		openToFrames(h)
		h.Set("Content-Disposition", "inline")
		h.Set("Content-Type", contentType)
		if contentType == mimePDF { // for PDF.js, and never for the browser's own viewer
			h.Set("Content-Disposition", "attachment")
			h.Set("Content-Type", "application/octet-stream")
		}
		return true, nil
	case contentType == mimePDF:
		w.Header().Set("Content-Security-Policy", fmt.Sprintf(pdfCSP, BlockHash(pdfStyle), BlockHash(pdfScript)))
		library := v.prefix + Path + v.pdfjs.Version + "/"
		return false, v.write(w, "pdf.html", frame{f, kind, template.CSS(pdfStyle), template.JS(pdfScript), library})
	}
	return false, v.write(w, "element.html", frame{f, kind, template.CSS(elementStyle), "", ""})
}

// A frame is the data of a template.
type frame struct {
	File
	Kind    string // image, audio or video
	Style   template.CSS
	Script  template.JS
	Library string // the address of PDF.js
}

func (v *Viewer) write(w http.ResponseWriter, name string, data frame) error {
	var page bytes.Buffer
	if err := v.frames.ExecuteTemplate(&page, name, data); err != nil {
		return fmt.Errorf("render frame: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(page.Len()))
	h.Set("Vary", "Accept-Language")
	_, err := w.Write(page.Bytes())
	return err
}

// openToFrames lets a frame fetch the answer. A frame has no origin, so CORS must allow all
// origins, which is safe: the answer is public, or its address is secret.
func openToFrames(h http.Header) {
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Accept-Ranges")
}

// BlockHash returns the source expression that allows one inline script or style (CSP 3, 2.3.1).
func BlockHash(block string) string {
	sum := sha256.Sum256([]byte(block))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
