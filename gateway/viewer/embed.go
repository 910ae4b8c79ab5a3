//go:build pdfjs

package viewer

import "embed"

// The legacy build is for older browsers. Never embed pdf.sandbox or quickjs: they run scripts.
//
//go:embed pdfjs/node_modules/pdfjs-dist/package.json pdfjs/node_modules/pdfjs-dist/LICENSE
//go:embed pdfjs/node_modules/pdfjs-dist/legacy/build/pdf.min.mjs
//go:embed pdfjs/node_modules/pdfjs-dist/legacy/build/pdf.worker.min.mjs
//go:embed pdfjs/node_modules/pdfjs-dist/cmaps pdfjs/node_modules/pdfjs-dist/iccs
//go:embed pdfjs/node_modules/pdfjs-dist/standard_fonts
//go:embed pdfjs/node_modules/pdfjs-dist/wasm/LICENSE_*
//go:embed pdfjs/node_modules/pdfjs-dist/wasm/jbig2.wasm
//go:embed pdfjs/node_modules/pdfjs-dist/wasm/openjpeg.wasm
//go:embed pdfjs/node_modules/pdfjs-dist/wasm/qcms_bg.wasm
var packages embed.FS
