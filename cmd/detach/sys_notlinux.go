//go:build unix && !linux

package main

// becomeUndumpable does nothing: only the limit keeps cores from being written on these systems.
func becomeUndumpable() error { return nil }
