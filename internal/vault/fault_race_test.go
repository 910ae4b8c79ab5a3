//go:build race

package vault

// Under the race detector every byte that is copied costs ten times as much.
func init() { underRace = true }
