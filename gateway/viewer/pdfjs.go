package viewer

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

// packagePath is where npm puts PDF.js.
//
// The browsers' own viewers cannot be used. Those of Chromium 156 and Firefox 153 ignore a policy's
// sandbox and run the scripts in a PDF. In Chromium the document around it has the gateway's
// origin. In a frame with a sandbox attribute Chromium shows no PDF, and Firefox only with
// allow-scripts.
const packagePath = "pdfjs/node_modules/pdfjs-dist"

// A library has the unchanged files of PDF.js that a browser needs. PDF.js is Mozilla's, under the
// Apache License 2.0; its licenses are among the files.
type library struct {
	Version string // part of the addresses, since browsers cache the files
	files   fs.FS
	packed  map[string]func() ([]byte, error) // each file compressed, on its first request
}

// newLibrary returns nil if root has no PDF.js.
func newLibrary(root fs.FS) *library {
	files, err := fs.Sub(root, packagePath)
	if err != nil {
		panic(err) // only for an invalid path
	}
	about, err := fs.ReadFile(files, "package.json")
	if err != nil {
		return nil
	}
	l := &library{files: files, packed: make(map[string]func() ([]byte, error))}
	err = json.Unmarshal(about, l)
	err = errors.Join(err, fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			l.packed[name] = sync.OnceValues(func() ([]byte, error) { return pack(files, name) })
		}
		return err
	}))
	if err != nil || l.Version == "" {
		panic(err)
	}
	return l
}

func pack(files fs.FS, name string) ([]byte, error) {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err = z.Write(content)
	err = errors.Join(err, z.Close())
	return b.Bytes(), err
}

// ServeLibrary serves a file of PDF.js by its address below Path, or returns ErrNoFile.
func (v *Viewer) ServeLibrary(w http.ResponseWriter, r *http.Request, below string) error {
	if v.pdfjs == nil {
		return ErrNoFile
	}
	name, ok := strings.CutPrefix(below, v.pdfjs.Version+"/")
	read := v.pdfjs.packed[name]
	if !ok || read == nil {
		return ErrNoFile
	}
	h := w.Header()
	openToFrames(h)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Type", cmp.Or(libraryTypes[path.Ext(name)], "application/octet-stream"))
	h.Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
	} else {
		read = func() ([]byte, error) { return fs.ReadFile(v.pdfjs.files, name) }
	}
	content, err := read()
	if err != nil {
		return err
	}
	h.Set("Content-Length", strconv.Itoa(len(content)))
	_, err = w.Write(content)
	return err
}

// libraryTypes has the types that a browser needs. PDF.js reads the other files.
var libraryTypes = map[string]string{
	".mjs": "text/javascript; charset=utf-8", ".wasm": "application/wasm", "": "text/plain; charset=utf-8",
}
