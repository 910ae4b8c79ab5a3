//go:build !linux

package clock

// MachineUptime returns how long this process has run.
func MachineUptime() Uptime { return processUptime() }
