//go:build pdfjs

package viewer

import (
	"embed"
	"io/fs"
)

// What runs the scripts of a PDF (pdf.sandbox, quickjs) must not be among these. The legacy build runs in
// older browsers too.
//
//go:embed pdfjs/node_modules/pdfjs-dist/package.json
//go:embed pdfjs/node_modules/pdfjs-dist/LICENSE
//go:embed pdfjs/node_modules/pdfjs-dist/legacy/build/pdf.min.mjs
//go:embed pdfjs/node_modules/pdfjs-dist/legacy/build/pdf.worker.min.mjs
//go:embed pdfjs/node_modules/pdfjs-dist/cmaps
//go:embed pdfjs/node_modules/pdfjs-dist/iccs
//go:embed pdfjs/node_modules/pdfjs-dist/standard_fonts
//go:embed pdfjs/node_modules/pdfjs-dist/wasm/LICENSE_*
//go:embed pdfjs/node_modules/pdfjs-dist/wasm/jbig2.wasm
//go:embed pdfjs/node_modules/pdfjs-dist/wasm/openjpeg.wasm
//go:embed pdfjs/node_modules/pdfjs-dist/wasm/qcms_bg.wasm
var packages embed.FS

// embedded returns the package of PDF.js. It panics if the embedded files are broken, like template.Must.
func embedded() fs.FS {
	files, err := fs.Sub(packages, "pdfjs/node_modules/pdfjs-dist")
	if err != nil {
		panic(err)
	}
	return files
}
