//go:build race

package crypto

// Under the race detector a key takes twenty times as long.
func init() { keysDrawn = 50_000 }
