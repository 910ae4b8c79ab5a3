//go:build !unix

package check

import (
	"errors"
	"io/fs"
	"syscall"
)

func ownedByUs(fs.FileInfo) bool { return true }

func isInUse(err error) bool { return errors.Is(err, syscall.Errno(10048)) } // WSAEADDRINUSE

func mayWrite(string) error { return nil }
