package durable

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Identity returns a text that tells an open file from its copies: its inode and, where kernel and
// file system know it, when the file was created.
func Identity(f *os.File) (string, error) {
	var x unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &x)
	if err == nil && x.Mask&unix.STATX_BTIME != 0 {
		return fmt.Sprintf("%d %d.%09d", x.Ino, x.Btime.Sec, x.Btime.Nsec), nil
	}
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return "", &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return fmt.Sprint(s.Ino), nil
}
