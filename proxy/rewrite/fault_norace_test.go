//go:build !race

package rewrite

// raceEnabled makes limits of time generous: the race detector costs five to twenty times.
const raceEnabled = false
