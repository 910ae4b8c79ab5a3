//go:build unix

package main

import (
	"errors"
	"syscall"
)

// writeNoCore switches core dumps off: a core would contain all the keys that are in memory.
func writeNoCore() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
