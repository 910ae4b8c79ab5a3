//go:build unix

package main

import (
	"errors"
	"syscall"
)

// guardMemory keeps the memory, which has keys in it, from other processes and from the disk. The
// limit of 0 stops the kernel's own core files, but not a program in core_pattern (core(5)): that
// gets a core only if the process is dumpable.
func guardMemory() error {
	return errors.Join(syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}), becomeUndumpable())
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
