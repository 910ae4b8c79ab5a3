//go:build !unix

package output

import "io/fs"

const noFollow = 0

func hasOtherName(fs.FileInfo) bool { return false }

func umask() fs.FileMode { return 0 }
