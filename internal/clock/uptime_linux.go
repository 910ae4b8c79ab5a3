package clock

import (
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bootID names the machine's start. It is empty if the kernel does not say.
var bootID = sync.OnceValue(func() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
})

// MachineUptime returns how long this machine has run, or this process if the kernel does not say.
func MachineUptime() Uptime {
	var t unix.Timespec
	id := bootID()
	if id == "" || unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return processUptime()
	}
	return Uptime{id, time.Duration(t.Nano())}
}
