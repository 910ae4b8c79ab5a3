package e2e

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

var updatePDFJS = flag.Bool("update-pdfjs", false, "make gateway/web/pdfjs.zip from the package anew")

// pdfjsFiles are those of the package that the gateway serves: what old browsers run too, and the data they ask for. Not among
// them is what runs the scripts of a PDF (pdf.sandbox, quickjs).
var pdfjsFiles = []string{
	"LICENSE", "legacy/build/pdf.min.mjs", "legacy/build/pdf.worker.min.mjs", "cmaps/*", "iccs/*", "standard_fonts/*",
	"wasm/LICENSE_*", "wasm/jbig2.wasm", "wasm/openjpeg.wasm", "wasm/qcms_bg.wasm",
}

// What the gateway serves of PDF.js is what its package has, byte for byte. To take a new version: its number in
// e2e/browser/package.json and gateway/pdf.go, npm install, and this test with -update-pdfjs.
func TestPDFJSIsThePackages(t *testing.T) {
	const in, packed = "browser/node_modules/pdfjs-dist", "../gateway/web/pdfjs.zip"
	if _, err := os.Stat(in); err != nil {
		servers.Missing(t, "pdfjs-dist: run npm ci in e2e/browser")
	}
	var names []string
	for _, pattern := range pdfjsFiles {
		found, err := filepath.Glob(filepath.Join(in, pattern))
		must(t, err)
		names = append(names, found...)
	}
	if *updatePDFJS {
		packPDFJS(t, in, packed, names)
	}
	z, err := zip.OpenReader(packed)
	must(t, err)
	defer z.Close()
	for _, f := range z.File {
		theirs := filepath.Join(in, filepath.FromSlash(f.Name))
		i := slices.Index(names, theirs)
		if i < 0 {
			t.Errorf("%s is not of the package", f.Name)
			continue
		}
		names = slices.Delete(names, i, i+1)
		want, err := os.ReadFile(theirs)
		must(t, err)
		r, err := f.Open()
		must(t, err)
		got, err := io.ReadAll(r)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the package has", f.Name)
		}
	}
	if len(names) > 0 {
		t.Errorf("left out: %q", names)
	}
}

func packPDFJS(t *testing.T, in, packed string, names []string) {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	for _, name := range names {
		content, err := os.ReadFile(name)
		must(t, err)
		below, err := filepath.Rel(in, name)
		must(t, err)
		w, err := z.Create(filepath.ToSlash(below))
		must(t, err)
		_, err = w.Write(content)
		must(t, err)
	}
	must(t, z.Close())
	must(t, os.WriteFile(packed, b.Bytes(), 0o644))
}
