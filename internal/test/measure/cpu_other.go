//go:build !unix

package measure

import "time"

var began = time.Now()

// CPU is the clock, where the system does not tell processor time.
func CPU() time.Duration { return time.Since(began) }
