// Package race says whether the race detector is on. The detector makes code five to twenty times
// slower and sync.Pool random, so tests of time and memory read Enabled, and do less or skip
// themselves. e2e/run tests every package that reads it a second time without the detector.
package race
