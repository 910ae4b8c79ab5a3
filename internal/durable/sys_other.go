//go:build !unix

package durable

import "os"

// Locks is false: a lock says nothing here.
const Locks = false

// TryLock always succeeds: here a file that is open cannot be removed, which is lock enough.
func TryLock(*os.File) bool { return true }

// SyncDir does nothing: these systems cannot sync a directory.
func SyncDir(string) error { return nil }
