//go:build !unix

package ipfs

import "os"

// tryLock always succeeds: where a file that is open cannot be removed, that is lock enough.
func tryLock(*os.File) bool { return true }

// syncDir does nothing: these systems cannot sync a directory.
func syncDir(string) error { return nil }
