//go:build !unix

package durable

import (
	"io/fs"
	"os"
)

// Locks is false: no lock tells whether another process still writes the file.
const Locks = false

// TryLock always reports true. These systems do not remove a file that is open.
func TryLock(*os.File) bool { return true }

// Lock does nothing.
func Lock(*os.File) error { return nil }

// LockShared does nothing.
func LockShared(*os.File) error { return nil }

// OwnedByUs always reports true: on these systems a file's mode names no owner.
func OwnedByUs(fs.FileInfo) bool { return true }

func ownerOf(fs.FileInfo) string { return "" }

// SyncDir does nothing: these systems cannot sync a directory.
func SyncDir(string) error { return nil }
