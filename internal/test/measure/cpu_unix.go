//go:build unix

// Package measure measures processor time for tests.
package measure

import (
	"syscall"
	"time"
)

// CPU returns the processor time this process has used. Unlike the clock, it does not depend on
// other processes.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
