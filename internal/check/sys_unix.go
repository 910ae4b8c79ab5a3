//go:build unix

package check

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

func isInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// sameDisk reports whether two directories are on one file system.
func sameDisk(a, b string) bool {
	var x, y unix.Stat_t
	return unix.Stat(a, &x) == nil && unix.Stat(b, &y) == nil && x.Dev == y.Dev
}

// mayWrite returns an error unless files can be made in a directory. It makes none.
func mayWrite(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
