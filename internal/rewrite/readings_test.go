package rewrite

import (
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/readings"
)

// A file is detached if all programs read it in the same way. Otherwise it stays. (The test with
// this name in e2e/parsers asks the programs.)
func TestReadings(t *testing.T) {
	faults.Covers(t, 61, 62, 66, 67)
	detachedAlike, kept := 0, map[string]int{}
	for _, r := range readings.All(t) {
		t.Run(r.Name, func(t *testing.T) {
			if !r.Detaches() {
				untouched(t, r.Mail)
				kept[r.Kept]++
				return
			}
			detached(t, r.Mail, r.File)
			detachedAlike++
		})
	}
	t.Logf("%d of %d detached", detachedAlike, len(readings.All(t)))
	for why, n := range kept {
		t.Logf("%d kept: %s", n, why)
	}
}
