//go:build !linux

package vault

// MachineUptime returns how long this process has run.
func MachineUptime() Uptime { return processUptime() }
