package stage

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// Clock is the clock of every detach that a test starts, if the folder's TestMain is
// [MainWithClock]. It runs, and the test moves it ahead.
type Clock struct {
	path   string
	passed time.Duration
}

// clockVariable names the file by which the binary moves its clock.
const clockVariable = "DETACH_TEST_CLOCK"

// StartClock starts a clock at noon (UTC) of a coming day, so that no day ends by itself.
func StartClock(t *testing.T) *Clock {
	t.Helper()
	now := time.Now().UTC()
	noon := now.Truncate(24 * time.Hour).Add(36 * time.Hour)
	c := NewClock(t, noon.Sub(now))
	t.Setenv(clockVariable, c.path)
	return c
}

// NewClock returns a clock of its own, which is ahead of the machine's. Env makes a detach use it.
func NewClock(t servers.T, ahead time.Duration) *Clock {
	t.Helper()
	c := &Clock{path: filepath.Join(t.TempDir(), "clock")}
	c.Pass(t, ahead)
	return c
}

// Env is the variable that makes a process use this clock.
func (c *Clock) Env() string { return clockVariable + "=" + c.path }

// Now returns what the clock says.
func (c *Clock) Now() time.Time { return time.Now().UTC().Add(c.passed) }

// Pass lets time pass.
func (c *Clock) Pass(t servers.T, d time.Duration) {
	t.Helper()
	c.passed += d
	Must(t, os.WriteFile(c.path+".new", []byte(c.passed.String()), 0o600))
	Must(t, os.Rename(c.path+".new", c.path))
}
