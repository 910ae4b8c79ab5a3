//go:build !unix

package measure

import "time"

var began = time.Now()

// CPU returns elapsed time: this system does not report processor time.
func CPU() time.Duration { return time.Since(began) }
