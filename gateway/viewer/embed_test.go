//go:build pdfjs

package viewer

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// The embedded files are the package's, byte for byte, and all that the frame asks for. What runs the scripts of
// a PDF is not among them.
func TestEmbeddedPDFJSIsThePackages(t *testing.T) {
	faults.Covers(t, 83)
	files := embedded()
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		got, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(filepath.Join("pdfjs/node_modules/pdfjs-dist", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the package has: %v", name, err)
		}
		if strings.Contains(name, "sandbox") || strings.Contains(name, "quickjs") {
			t.Errorf("%s is embedded", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"LICENSE", "legacy/build/pdf.min.mjs", "legacy/build/pdf.worker.min.mjs", "cmaps/UniJIS-UCS2-H.bcmap", "iccs/LICENSE", "standard_fonts/LICENSE_FOXIT", "wasm/LICENSE_OPENJPEG", "wasm/openjpeg.wasm"} {
		if _, err := fs.Stat(files, name); err != nil {
			t.Error(err)
		}
	}
	lock, err := os.ReadFile("pdfjs/package.json")
	if err != nil || !strings.Contains(string(lock), `"pdfjs-dist": "`+Version()+`"`) {
		t.Errorf("embedded is version %s, and pdfjs/package.json wants another: run npm ci --prefix gateway/viewer/pdfjs: %v", Version(), err)
	}
}
