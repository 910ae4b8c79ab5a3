//go:build !race

package rewrite

// raceEnabled: the race detector costs five to twenty times the time, and random pools.
const raceEnabled = false
