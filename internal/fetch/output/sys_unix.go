//go:build unix

package output

import (
	"io/fs"
	"os"
	"syscall"
)

// noFollow keeps open(2) from following a symbolic link that somebody has put there.
const noFollow = syscall.O_NOFOLLOW

func ownedByUs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(stat.Uid) == os.Geteuid()
}

// hasOtherName reports whether a file has more names than the one it was opened by.
func hasOtherName(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink > 1
}

// umask can be read only by setting it: for that moment to the strictest.
func umask() fs.FileMode {
	mask := syscall.Umask(0o077)
	syscall.Umask(mask)
	return fs.FileMode(mask)
}
