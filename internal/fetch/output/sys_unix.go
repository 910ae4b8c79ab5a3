//go:build unix

package output

import (
	"io/fs"
	"syscall"
)

// noFollow keeps open(2) from following a symbolic link that another user put there.
const noFollow = syscall.O_NOFOLLOW

// hasOtherName reports whether a file has more names than the one it was opened by.
func hasOtherName(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink > 1
}

// umask returns the process's umask. Reading it means setting it: for that moment to the strictest.
func umask() fs.FileMode {
	mask := syscall.Umask(0o077)
	syscall.Umask(mask)
	return fs.FileMode(mask)
}
