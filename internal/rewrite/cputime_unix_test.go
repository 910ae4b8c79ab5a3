//go:build unix

package rewrite

import (
	"syscall"
	"time"
)

// cpuTime is what this process has used of the processors so far: unlike the clock, it does not depend on who else is at work.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
