//go:build unix

package durable

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// StampOf returns the stamp of a file, or an error of type *fs.PathError.
func StampOf(path string) (Stamp, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return Stamp{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return stampOf(&s), nil
}

// StampOfFile returns the stamp of an open file, or an error of type *fs.PathError.
func StampOfFile(f *os.File) (Stamp, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return Stamp{}, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return stampOf(&s), nil
}

func stampOf(s *unix.Stat_t) Stamp {
	return Stamp{uint64(s.Dev), uint64(s.Ino), s.Size, s.Mtim.Nano(), s.Ctim.Nano()}
}
