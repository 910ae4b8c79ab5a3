//go:build !linux

package main

// cgroupLimit returns 0: only Linux has control groups.
func cgroupLimit() int64 { return 0 }
