//go:build !pdfjs

package viewer

import (
	"embed"
	"io/fs"
)

// embedded returns no files: this build has no PDF.js.
func embedded() fs.FS { return embed.FS{} }
