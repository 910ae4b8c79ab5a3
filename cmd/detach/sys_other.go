//go:build !unix

package main

import (
	"errors"
	"syscall"
)

func guardMemory() error { return nil }

func isRefused(err error) bool { return errors.Is(err, syscall.Errno(10061)) } // WSAECONNREFUSED
