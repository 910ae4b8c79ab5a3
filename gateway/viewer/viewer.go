// Package viewer shows files from strangers in a frame of the gateway's page. Its invariant:
//
//	Nothing that a file says is run, and the frame around it has no origin: what it loads comes from
//	the gateway's host, and what it sends goes nowhere else.
//
// The gateway decrypts a file and hands its content over with the address at which it serves it. This
// package holds no key and knows no store. [Viewer.Show] decides by the first bytes what the content is,
// and answers with the frame. Pictures, sound, video and text are for the browser to show. A PDF is drawn
// by PDF.js, which [Viewer.ServeLibrary] serves.
//
// PDF.js is in builds with the tag pdfjs, which embed its npm package:
//
//	npm ci --prefix gateway/viewer/pdfjs
//	go build -tags pdfjs ./cmd/detach
//
// Other builds refuse a PDF as they refuse any other kind of file, with [ErrKind].
package viewer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

var (
	// ErrKind refuses a file that is not of a kind that is shown.
	ErrKind = errors.New("not a kind of file that is shown")
	// ErrNoFile says that PDF.js has no such file, or that this build has no PDF.js.
	ErrNoFile = errors.New("not a file of the viewer")
)

// Path is what the addresses of PDF.js begin with, below the gateway's prefix.
const Path = "/viewer/"

// A Viewer writes frames, and serves PDF.js. It is safe for concurrent use.
type Viewer struct {
	frames map[string]frame // by the first half of a content type, or the whole
	pdfjs  *library         // nil in a build without it
}

// A File is what Show shows.
type File struct {
	// Content is the decrypted file, at its beginning.
	Content io.ReadSeeker
	// Address is where a frame is to fetch Content. It is empty in the answer to that request.
	Address  string
	Language *texts.Language // the reader's
}

// New returns the viewer of a gateway whose addresses begin with prefix, "" or "/prefix".
func New(prefix string) *Viewer { return newViewer(prefix, embedded()) }

// newViewer takes PDF.js from the files of its package, of which there may be none.
func newViewer(prefix string, pdfjs fs.FS) *Viewer {
	v := &Viewer{frames: elements(), pdfjs: newLibrary(pdfjs)}
	if v.pdfjs != nil {
		v.frames[mimePDF] = pdfFrame(prefix + Path + v.pdfjs.version + "/")
	}
	return v
}

// Extensions lists the extensions that files of the kinds shown usually have, with a space between
// two. A page offers to show a file by its name, before its content can be looked at.
func (v *Viewer) Extensions() string {
	const always = "png jpg jpeg gif webp avif mp3 wav ogg oga mp4 m4v webm txt log csv md"
	if v.pdfjs == nil {
		return always
	}
	return always + " pdf"
}

// Secure sets the headers of every answer in a frame, errors included. The page may frame it, and
// should a browser render it as a document, then without an origin and without scripts.
func Secure(h http.Header) {
	h.Set("Content-Security-Policy", elementCSP)
	h.Set("X-Frame-Options", "SAMEORIGIN")
}

// Show answers with the frame around f. Where there is none, because f.Address is empty or because f is
// a text, it sets the headers of the content, reports true, and leaves it to the caller to send
// f.Content, which is at its beginning again. It returns ErrKind for a kind of file that is not shown.
func (v *Viewer) Show(w http.ResponseWriter, f File) (sendContent bool, err error) {
	contentType, err := sniff(f.Content)
	if err != nil {
		return false, err
	}
	kind, _, _ := strings.Cut(contentType, "/")
	around, framed := v.frames[contentType]
	if !framed {
		around, framed = v.frames[kind]
	}
	switch {
	case !framed && kind != "text":
		return false, ErrKind
	case framed && f.Address != "":
		return false, around.write(w, f)
	}
	h := w.Header()
	openToFrames(h)
	h.Set("Content-Disposition", "inline")
	h.Set("Content-Type", contentType)
	return true, nil
}

// write sends the frame.
func (fr frame) write(w http.ResponseWriter, f File) error {
	var page bytes.Buffer
	data := struct {
		*texts.Language
		frame
		Address string
	}{f.Language, fr, f.Address}
	if err := fr.around.Execute(&page, data); err != nil {
		return fmt.Errorf("render frame: %w", err)
	}
	h := w.Header()
	h.Set("Content-Security-Policy", fr.csp)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(page.Len()))
	h.Set("Vary", "Accept-Language")
	_, err := w.Write(page.Bytes())
	return err
}

// openToFrames lets a frame fetch the answer. A frame has no origin, so CORS has to allow any. The address is secret,
// or the answer is public.
func openToFrames(h http.Header) {
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Accept-Ranges")
}
