package gateway

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
)

const (
	mimePDF = "application/pdf"

	// pdfjsVersion is in the addresses of its files, which browsers may keep.
	pdfjsVersion = "6.5.438"
	// viewerPath is where they begin.
	viewerPath = "/viewer/" + pdfjsVersion + "/"
	// viewerCSP is for the frame that shows a PDF: our script and PDF.js, in an origin of their own, may fetch from here.
	// Nothing that a file says is ever script: what PDF.js has for scripts of files is not among its files here.
	viewerCSP = "default-src 'none'; script-src %s 'self' 'wasm-unsafe-eval'; worker-src blob: 'self'; connect-src 'self'; font-src 'self'; img-src blob: data:; style-src %s; sandbox allow-scripts; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
	// pdfjsZip has the files of PDF.js that a browser needs, as its package has them (Mozilla, Apache License 2.0; the
	// licences are in it).
	pdfjsZip = "web/pdfjs.zip"
)

// A viewer is the frame that shows PDF files, and the files it is made of.
//
// A browser's own viewer cannot be used: those of Chromium 156 and Firefox 153 disregard a policy's sandbox, wherever they show
// a file, and run the scripts in it; in Chromium the document around it has our origin. In a frame with a sandbox attribute
// Chromium shows none, and Firefox none without allow-scripts.
type viewer struct {
	frame  *template.Template
	style  template.CSS
	script template.JS
	csp    string
	files  map[string]*zip.File
}

// newViewer panics if the embedded files are broken, like template.Must.
func newViewer() *viewer {
	z, err := openZip(pdfjsZip)
	if err != nil {
		panic(err)
	}
	style, script := mustRead("pdf.css"), mustRead("pdf.js")
	v := &viewer{
		frame:  template.Must(template.ParseFS(web, "web/pdf.html")),
		style:  template.CSS(style),
		script: template.JS(script),
		csp:    fmt.Sprintf(viewerCSP, cspHash(script), cspHash(style)),
		files:  make(map[string]*zip.File),
	}
	for _, f := range z.File {
		v.files[f.Name] = f
	}
	return v
}

// openZip opens an embedded ZIP where it lies.
func openZip(name string) (*zip.Reader, error) {
	f, err := web.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return zip.NewReader(f.(io.ReaderAt), info.Size())
}

// viewPDF sends the frame around the PDF at an address.
func (g *gateway) viewPDF(w *response, r *http.Request, address string) error {
	v := g.viewer
	w.Header().Set("Content-Security-Policy", v.csp)
	w.Header().Set("Vary", "Accept-Language")
	return g.viewFrame(w, r, v.frame, struct {
		texts
		Style         template.CSS
		Script        template.JS
		Library, File string
	}{g.pages.texts.preferred(r), v.style, v.script, g.prefix + viewerPath, address})
}

// viewerFile serves a file of PDF.js. They are the same for everybody, and for ever.
func (g *gateway) viewerFile(w *response, r *http.Request, name string) error {
	w.route, w.machine = "viewer", true
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	f, ok := g.viewer.files[name]
	if !ok {
		return errNothing
	}
	h := w.Header()
	openToFrames(h)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Type", viewerTypes[path.Ext(name)])
	h.Set("Vary", "Accept-Encoding")
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Length", strconv.FormatUint(f.UncompressedSize64, 10))
		content, err := f.Open()
		if err != nil {
			return err
		}
		defer content.Close()
		_, err = io.Copy(w, content)
		return err
	}
	content, err := gzipped(f)
	if err != nil {
		return err
	}
	h.Set("Content-Encoding", "gzip")
	h.Set("Content-Length", strconv.FormatUint(gzipFraming+f.CompressedSize64, 10))
	_, err = io.Copy(w, content)
	return err
}

// viewerTypes are those of PDF.js's files; what is not here is data to it.
var viewerTypes = map[string]string{
	".mjs": "text/javascript; charset=utf-8", ".wasm": "application/wasm",
	"": "text/plain; charset=utf-8", ".bcmap": octets, ".icc": octets, ".pfb": octets, ".ttf": octets,
}

const (
	octets      = "application/octet-stream"
	gzipFraming = 10 + 8
)

// gzipped is a file of a ZIP as gzip has it: both hold the same deflate stream and checksum (RFC 1952 section 2.3).
func gzipped(f *zip.File) (io.Reader, error) {
	deflated, err := f.OpenRaw()
	if err != nil {
		return nil, err
	}
	head := []byte{0x1f, 0x8b, 8, 9: 255}
	tail := binary.LittleEndian.AppendUint32(nil, f.CRC32)
	tail = binary.LittleEndian.AppendUint32(tail, uint32(f.UncompressedSize64))
	return io.MultiReader(bytes.NewReader(head), deflated, bytes.NewReader(tail)), nil
}

// openToFrames lets a frame of ours, which has no origin, fetch this. Who has the address has it anyway.
func openToFrames(h http.Header) {
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Accept-Ranges")
}
