//go:build !unix

package check

import (
	"errors"
	"syscall"
)

func isInUse(err error) bool { return errors.Is(err, syscall.Errno(10048)) } // WSAEADDRINUSE

func sameDisk(string, string) bool { return false }

func mayWrite(string) error { return nil }
