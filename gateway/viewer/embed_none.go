//go:build !pdfjs

package viewer

import "embed"

var packages embed.FS // empty: this build has no PDF.js
