//go:build unix

// Package measure tells tests how much processor time a thing takes.
package measure

import (
	"syscall"
	"time"
)

// CPU returns how much processor time this process has used. Unlike the clock, it does not depend
// on what else the machine does.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
