// Package race says whether the race detector is on. It makes code five to twenty times slower and
// sync.Pool random, so tests of time and of memory ask it, and do less or skip themselves. e2e/run
// tests every package that asks once more without the detector.
package race
