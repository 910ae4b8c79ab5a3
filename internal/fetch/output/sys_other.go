//go:build !unix

package output

import (
	"io/fs"
	"os"
)

const noFollow = 0

func lock(*os.File) error { return nil }

func ownedByUs(fs.FileInfo) bool { return true }

func hasOtherName(fs.FileInfo) bool { return false }

func umask() fs.FileMode { return 0 }
