//go:build !unix

package rewrite

import "time"

var began = time.Now()

// cpuTime is the clock, where the system does not tell more.
func cpuTime() time.Duration { return time.Since(began) }
