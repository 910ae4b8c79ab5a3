//go:build unix

package durable

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// Locks is true: a running process's file is locked, a killed one's is not.
const Locks = true

// TryLock takes the exclusive lock of a file (flock(2)) and reports whether it got it. The lock
// ends when the file is closed or the process ends.
func TryLock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// Lock waits for the exclusive lock of a file. It ends as TryLock's does.
func Lock(f *os.File) error { return flock(f, syscall.LOCK_EX) }

// LockShared waits until no process has the exclusive lock of a file, and keeps that away until the
// file is closed.
func LockShared(f *os.File) error { return flock(f, syscall.LOCK_SH) }

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("flock", err)
		}
	}
}

// OwnedByUs reports whether the user of this process owns a file.
func OwnedByUs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(stat.Uid) == os.Geteuid()
}

// ownerOf returns the number of the user that owns a file, or "".
func ownerOf(info fs.FileInfo) string {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return strconv.Itoa(int(stat.Uid))
	}
	return ""
}

// SyncDir makes the names in a directory survive a power failure: fsync(2) of a file covers only
// the file's bytes.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
