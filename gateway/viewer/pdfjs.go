package viewer

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

// A library holds the files of PDF.js that a browser needs, as its package has them (Mozilla, Apache License
// 2.0; the licenses are among them).
type library struct {
	version string // in the addresses, which browsers may keep
	files   fs.FS
	packed  map[string]func() ([]byte, error) // each file in gzip's format, packed when it is first asked for
}

// newLibrary returns nil if there are no files. It panics if they are not those of the package, like
// template.Must.
func newLibrary(files fs.FS) *library {
	l := &library{version: versionOf(files), files: files, packed: make(map[string]func() ([]byte, error))}
	if l.version == "" {
		return nil
	}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			l.packed[name] = sync.OnceValues(func() ([]byte, error) { return pack(files, name) })
		}
		return err
	})
	if err != nil {
		panic(err)
	}
	return l
}

// Version returns the version of PDF.js in this build, or "" if there is none.
func Version() string { return versionOf(embedded()) }

func versionOf(files fs.FS) string {
	text, err := fs.ReadFile(files, "package.json")
	if err != nil {
		return ""
	}
	var about struct{ Version string }
	if err := json.Unmarshal(text, &about); err != nil || about.Version == "" {
		panic(fmt.Sprintf("package.json of PDF.js: no version: %v", err))
	}
	return about.Version
}

func pack(files fs.FS, name string) ([]byte, error) {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(content); err != nil {
		return nil, err
	}
	err = z.Close()
	return b.Bytes(), err
}

// ServeLibrary answers with a file of PDF.js, by its address below Path. The answer is the same for everybody, and
// never changes. It returns ErrNoFile for any other address.
func (v *Viewer) ServeLibrary(w http.ResponseWriter, r *http.Request, below string) error {
	if v.pdfjs == nil {
		return ErrNoFile
	}
	name, ok := strings.CutPrefix(below, v.pdfjs.version+"/")
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

// libraryTypes are the types that matter to a browser. The rest is data for PDF.js.
var libraryTypes = map[string]string{
	".mjs": "text/javascript; charset=utf-8", ".wasm": "application/wasm", "": "text/plain; charset=utf-8",
}
