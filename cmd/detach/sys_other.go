//go:build !unix

package main

import (
	"errors"
	"io/fs"
	"syscall"
)

func writeNoCore() error { return nil }

func ownedByUs(fs.FileInfo) bool { return true }

// The numbers of Windows Sockets.
func isInUse(err error) bool   { return errors.Is(err, syscall.Errno(10048)) }
func isRefused(err error) bool { return errors.Is(err, syscall.Errno(10061)) }

func mayWrite(string) error { return nil }
