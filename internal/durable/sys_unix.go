//go:build unix

package durable

import (
	"errors"
	"os"
	"syscall"
)

// Locks is true: a lock tells the file of a running process from what a killed one left.
const Locks = true

// TryLock takes the exclusive lock of a file (flock(2)) and reports whether it got it. The lock
// ends when the file is closed, also by the end of the process.
func TryLock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// SyncDir makes the names in a directory survive a power failure, as fsync(2) of the file makes its
// bytes.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
