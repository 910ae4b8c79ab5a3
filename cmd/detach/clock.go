//go:build !testclock

package main

import (
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/clock"
)

// recoverEvery is the pause between two searches for objects of undelivered mails, and between two
// looks at the clock.
const recoverEvery = time.Minute

// machineClock is the machine's clock. A build with the tag testclock has one that tests move.
var machineClock = clock.Config{Now: time.Now, Uptime: clock.MachineUptime}
