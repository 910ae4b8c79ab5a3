//go:build pdfjs

package viewer

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// The embedded files equal the package's, and are all that a frame needs. The code that runs the
// scripts of a PDF is not embedded.
func TestEmbeddedPDFJSIsThePackages(t *testing.T) {
	faults.Covers(t, 83)
	l := newLibrary(packages)
	for name := range l.packed {
		got, err := fs.ReadFile(l.files, name)
		want, err2 := os.ReadFile(filepath.Join(packagePath, name))
		if err != nil || err2 != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the package has: %v, %v", name, err, err2)
		}
		if strings.Contains(name, "sandbox") || strings.Contains(name, "quickjs") {
			t.Errorf("%s is embedded", name)
		}
	}
	for _, name := range []string{
		"LICENSE", "legacy/build/pdf.min.mjs", "legacy/build/pdf.worker.min.mjs", "cmaps/UniJIS-UCS2-H.bcmap",
		"iccs/LICENSE", "standard_fonts/LICENSE_FOXIT", "wasm/LICENSE_OPENJPEG", "wasm/openjpeg.wasm",
	} {
		if l.packed[name] == nil {
			t.Errorf("%s is not embedded", name)
		}
	}
}
