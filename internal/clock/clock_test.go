package clock

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// machine has a clock that can be set, and an uptime.
type machine struct {
	now time.Time
	up  Uptime
}

func newMachine() *machine {
	return &machine{time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), Uptime{"first", time.Hour}}
}

// run lets time pass.
func (m *machine) run(d time.Duration) { m.now, m.up.For = m.now.Add(d), m.up.For+d }

// set sets the clock by d.
func (m *machine) set(d time.Duration) { m.now = m.now.Add(d) }

// restart restarts the machine after it was off for d.
func (m *machine) restart(boot string, d time.Duration) {
	m.now, m.up = m.now.Add(d), Uptime{boot, time.Minute}
}

// clock opens the clock as a process does that runs on the machine.
func (m *machine) clock(dir string) *Clock {
	return &Clock{
		path: filepath.Join(dir, "clock"), now: func() time.Time { return m.now }, uptime: func() Uptime { return m.up },
		past: func() (time.Time, error) { return time.Time{}, nil },
	}
}

func wantClock(t *testing.T, c *Clock, stores, sweeps bool) {
	t.Helper()
	for what, got := range map[string]struct {
		err error
		ok  bool
	}{"Check": {c.Check(), stores}, "Trusted": {c.Trusted(), sweeps}} {
		if (got.err == nil) != got.ok || got.err != nil && !errors.Is(got.err, ErrUntrusted) {
			t.Errorf("%s at %v: got %v, want ok=%v", what, c.now(), got.err, got.ok)
		}
	}
}

const (
	hour = time.Hour
	day  = 24 * hour
)

// A clock that jumps by more than a day stops sweeping, whether a process sees the jump or it comes
// between two processes. A clock behind the recorded time stops storing, too.
func TestClockJumps(t *testing.T) {
	faults.Covers(t, 99)
	for name, test := range map[string]struct {
		change         func(m *machine)
		stores, sweeps bool
	}{
		"an even month":          {func(m *machine) { m.run(31 * day) }, true, true},
		"a day ahead":            {func(m *machine) { m.set(day) }, true, true},
		"more than a day ahead":  {func(m *machine) { m.set(day + time.Second) }, true, false},
		"ahead after a month":    {func(m *machine) { m.run(31 * day); m.set(25 * hour) }, true, false},
		"a day behind":           {func(m *machine) { m.set(-day) }, true, true},
		"more than a day behind": {func(m *machine) { m.set(-day - time.Second) }, false, false},
		"1970":                   {func(m *machine) { m.now = time.Unix(0, 0) }, false, false},
		"off for a day":          {func(m *machine) { m.restart("second", day) }, true, true},
		"off for a week":         {func(m *machine) { m.restart("second", 7*day) }, true, false},
		"clock lost while off":   {func(m *machine) { m.restart("second", -30*day) }, false, false},
		"an hour's drift a day":  {func(m *machine) { m.run(3 * day); m.set(3 * hour) }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, same := range []bool{true, false} {
				m, dir := newMachine(), t.TempDir()
				c := m.clock(dir)
				wantClock(t, c, true, true)
				test.change(m)
				if !same {
					c = m.clock(dir)
				}
				wantClock(t, c, test.stores, test.sweeps)
				wantClock(t, m.clock(dir), test.stores, test.sweeps) // it does not get used to it
			}
		})
	}
}

// After 24 hours in which nobody sets it, a clock is trusted again. It is seen by any number of
// processes, each of which looks once.
func TestClockIsTrustedAfterAnEvenDay(t *testing.T) {
	m, dir := newMachine(), t.TempDir()
	wantClock(t, m.clock(dir), true, true)
	m.restart("second", 7*day)
	for range 23 {
		wantClock(t, m.clock(dir), true, false)
		m.run(hour)
	}
	wantClock(t, m.clock(dir), true, false)
	m.set(2 * hour) // the day begins again
	for range 24 {
		wantClock(t, m.clock(dir), true, false)
		m.run(hour)
	}
	wantClock(t, m.clock(dir), true, true)
	m.run(40 * day)
	wantClock(t, m.clock(dir), true, true)
}

// A clock that is set back to the right time is trusted immediately, and its mistake is not
// recorded.
func TestCorrectedClockIsTrusted(t *testing.T) {
	faults.Covers(t, 99)
	for _, jump := range []time.Duration{-20 * 365 * day, -25 * hour, 25 * hour, 20 * 365 * day} {
		m, dir := newMachine(), t.TempDir()
		c := m.clock(dir)
		wantClock(t, c, true, true)
		m.set(jump)
		wantClock(t, c, jump > 0, false)
		m.run(hour)
		m.set(-jump)
		wantClock(t, c, true, true)
		wantClock(t, m.clock(dir), true, true)
	}
}

func TestTrustedClockOnRequest(t *testing.T) {
	for _, jump := range []time.Duration{-20 * 365 * day, 20 * 365 * day} {
		m, dir := newMachine(), t.TempDir()
		wantClock(t, m.clock(dir), true, true)
		m.set(jump)
		running := m.clock(dir)
		wantClock(t, running, jump > 0, false)
		must.Succeed(t, m.clock(dir).Trust())
		wantClock(t, running, true, true)
		m.run(31 * day)
		wantClock(t, m.clock(dir), true, true)
	}
}

// Two machines share a directory. A doubt of one that is switched off does not stop the other for
// longer than three days, and a doubt of one that runs is settled by it for both.
func TestMachinesShareTheClock(t *testing.T) {
	dir := t.TempDir()
	a, b := newMachine(), newMachine()
	b.up.Boot = "other"
	both := func(d time.Duration) { a.run(d); b.run(d) }
	for range 100 {
		both(10 * hour)
		wantClock(t, a.clock(dir), true, true)
		wantClock(t, b.clock(dir), true, true)
	}
	a.restart("a2", 7*day)
	b.restart("b2", 7*day)
	for range 24 {
		wantClock(t, a.clock(dir), true, false)
		wantClock(t, b.clock(dir), true, false)
		both(hour)
	}
	wantClock(t, a.clock(dir), true, true)
	wantClock(t, b.clock(dir), true, true)
	a.restart("a3", 7*day)
	b.restart("b3", 7*day)
	wantClock(t, a.clock(dir), true, false)
	for range 73 {
		b.run(hour)
		wantClock(t, b.clock(dir), true, b.now.Sub(a.now) >= 73*hour)
	}
}

// If the file is lost or malformed, the newest object says what time has passed.
func TestLostClockFile(t *testing.T) {
	for _, text := range []string{"", "{", "null", `{"newest":{}}`} {
		m, dir := newMachine(), t.TempDir()
		stored := m.now
		open := func() *Clock {
			c := m.clock(dir)
			c.past = func() (time.Time, error) { return stored, nil }
			return c
		}
		if text != "" {
			must.Succeed(t, os.WriteFile(filepath.Join(dir, "clock"), []byte(text), 0o600))
		}
		m.set(-25 * hour)
		wantClock(t, open(), false, false)
		m.set(50 * hour)
		wantClock(t, open(), true, false)
		m.set(-25 * hour)
		wantClock(t, open(), true, true)
	}
}

// The messages name both times and the remedy.
func TestClockMessages(t *testing.T) {
	m, dir := newMachine(), t.TempDir()
	wantClock(t, m.clock(dir), true, true)
	for _, now := range []string{"2026-01-02T03:04:05Z", "2027-01-02T03:04:05Z"} {
		m.now, _ = time.Parse(time.RFC3339, now)
		err := m.clock(dir).Trusted()
		for _, want := range []string{now, "2026-11-30T12:00:00Z", "detach sweep --trust-clock"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want it to name %s", err, want)
			}
		}
	}
}

// The machine's uptime goes on, and does not follow the wall clock.
func TestMachineUptime(t *testing.T) {
	for _, uptime := range []func() Uptime{MachineUptime, processUptime} {
		one, two := uptime(), uptime()
		if one.Boot == "" || one.Boot != two.Boot || two.For < one.For {
			t.Errorf("uptimes %v, %v", one, two)
		}
	}
}
