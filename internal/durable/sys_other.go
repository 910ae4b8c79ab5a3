//go:build !unix

package durable

import "os"

// Locks is false: no lock tells whether another process still writes the file.
const Locks = false

// TryLock always reports true. These systems do not remove a file that is open.
func TryLock(*os.File) bool { return true }

// SyncDir does nothing: these systems cannot sync a directory.
func SyncDir(string) error { return nil }
