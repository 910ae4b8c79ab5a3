//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// writeNoCore switches core dumps off: a core would contain all the keys that are in memory.
func writeNoCore() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }

func ownedByUs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(stat.Uid) == os.Geteuid()
}

func isInUse(err error) bool   { return errors.Is(err, syscall.EADDRINUSE) }
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// mayWrite returns an error unless files can be made in a directory. It makes none.
func mayWrite(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
