//go:build !unix

package durable

import "os"

// Locks is false: a lock does not tell whether another process still writes the file.
const Locks = false

// TryLock always reports true. On these systems a file that is open cannot be removed.
func TryLock(*os.File) bool { return true }

// SyncDir does nothing: these systems cannot sync a directory.
func SyncDir(string) error { return nil }
