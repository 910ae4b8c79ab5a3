//go:build testclock

package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/clock"
)

// recoverEvery is short, so that a test sees soon what follows from a moved clock.
const recoverEvery = 100 * time.Millisecond

// machineClock is the machine's clock, moved by what the file says that the environment names. The
// file holds one or two durations as in "2160h 0s": by how much the time is moved, and the uptime.
// With one, both move together, as if so much time had passed. The file must be replaced by
// renaming. Without the variable, nothing is moved.
var machineClock = clock.Config{
	Now: func() time.Time { offset, _ := moved(); return time.Now().Add(offset) },
	Uptime: func() clock.Uptime {
		_, offset := moved()
		up := clock.MachineUptime()
		up.For += offset
		return up
	},
}

// moved panics if the file is malformed: a test must not go on with another clock than it thinks.
func moved() (clock, uptime time.Duration) {
	name := os.Getenv("DETACH_TEST_CLOCK")
	if name == "" {
		return 0, 0
	}
	text, err := os.ReadFile(name)
	if err != nil {
		panic(err)
	}
	fields := strings.Fields(string(text))
	if len(fields) == 1 {
		fields = append(fields, fields[0])
	}
	if len(fields) != 2 {
		panic(fmt.Sprintf("%s has %q, want one or two durations", name, text))
	}
	return mustDuration(fields[0]), mustDuration(fields[1])
}

func mustDuration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return d
}
