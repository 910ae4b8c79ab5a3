//go:build !unix

package main

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

func writeNoCore() error { return nil }

func ownedByUs(fs.FileInfo) bool { return true }

// The numbers of Windows Sockets.
func isInUse(err error) bool   { return errors.Is(err, syscall.Errno(10048)) }
func isRefused(err error) bool { return errors.Is(err, syscall.Errno(10061)) }

const noFollow = 0

func lock(*os.File) error { return nil }

func hasOtherName(fs.FileInfo) bool { return false }

func umask() fs.FileMode { return 0 }

func mayWrite(string) error { return nil }
