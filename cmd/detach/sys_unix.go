//go:build unix

package main

import (
	"errors"
	"syscall"
)

// guardMemory keeps what is in memory, keys among it, from other processes and from the disk. The
// limit of 0 stops the kernel's own core files, but a core_pattern that is a pipe runs in spite of
// it (core(5)): there the process must not be dumpable.
func guardMemory() error {
	return errors.Join(syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}), becomeUndumpable())
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
