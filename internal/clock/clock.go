package clock

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

// ErrUntrusted means that the machine's clock contradicts the time that is recorded in the data
// directory. Files would get a wrong end, or end too early.
var ErrUntrusted = errors.New("the clock cannot be trusted")

const (
	// maxJump is how far the clock may be from what the recorded time lets expect. It is more than
	// any time zone's mistake.
	maxJump = 24 * time.Hour
	// evenTime is how long a clock in doubt must run evenly before it is trusted again.
	evenTime = 24 * time.Hour
	// maxUneven is how far a clock may be corrected while it runs evenly.
	maxUneven = time.Hour
	// foreignDoubt is how long another machine may take to settle its doubt.
	foreignDoubt = 48 * time.Hour
	// recordEvery bounds how often the time is written, and lookEvery how often it is read.
	recordEvery, lookEvery = time.Hour, time.Minute
	// Another process has the file for milliseconds.
	trustTries, trustPause = 100, 50 * time.Millisecond
)

// Uptime is a time that setting the clock does not change.
type Uptime struct {
	Boot string        // names the start that For counts from; it is the machine's, or the process's
	For  time.Duration // also while the machine slept
}

// moment is one instant, by both clocks.
type moment struct {
	Time   time.Time     `json:"time"`
	Boot   string        `json:"boot"`
	Uptime time.Duration `json:"uptime"` // nanoseconds
}

// since returns how much time passed between two moments, by the clock that cannot be set. ok is
// false if the machine was started in between: then nobody knows.
func (m moment) since(before moment) (passed time.Duration, ok bool) {
	return m.Uptime - before.Uptime, m.Boot == before.Boot && m.Uptime >= before.Uptime
}

// record is what data_dir/clock holds.
type record struct {
	Newest moment `json:"newest"` // the newest moment at which the clock was trusted
	// Doubt is when a clock that had jumped ahead was first seen, or last seen to be set.
	Doubt *moment `json:"doubt,omitempty"`
}

// verdict says what a clock is good for.
type verdict int

const (
	trusted verdict = iota
	behind          // of the recorded time: nothing is stored and nothing is swept
	ahead           // of what can have passed since: nothing is swept
)

// judge compares the present moment with the record. It returns the record that follows.
func (r record) judge(now moment) (verdict, record) {
	gone := now.Time.Sub(r.Newest.Time)
	passed, known := now.since(r.Newest)
	switch {
	case gone < -maxJump:
		return behind, r
	case known && gone-passed <= maxJump, gone <= maxJump, r.settled(now):
		return trusted, r.advance(now)
	case r.Doubt == nil, r.stale(now):
		r.Doubt = &now
	}
	return ahead, r
}

// advance records a trusted moment. The recorded time never moves back.
func (r record) advance(now moment) record {
	gone := now.Time.Sub(r.Newest.Time)
	if gone < 0 || gone < recordEvery && now.Boot == r.Newest.Boot {
		return record{Newest: r.Newest}
	}
	return record{Newest: now}
}

// settled reports whether a clock in doubt has run evenly for long enough.
func (r record) settled(now moment) bool {
	return r.Doubt != nil && !r.stale(now) && now.Boot == r.Doubt.Boot && now.Uptime-r.Doubt.Uptime >= evenTime
}

// stale reports whether a doubt says nothing about the present clock: the clock was set since, or
// the machine that doubted has not settled it.
func (r record) stale(now moment) bool {
	gone := now.Time.Sub(r.Doubt.Time)
	passed, known := now.since(*r.Doubt)
	if known {
		return (gone - passed).Abs() > maxUneven
	}
	return gone < -maxJump || gone > foreignDoubt
}

// Config says where a Clock takes the time from.
type Config struct {
	Now    func() time.Time // nil: time.Now
	Uptime func() Uptime    // nil: MachineUptime
}

// Clock compares the machine's clock with the time recorded in a file. Several processes and
// machines may share the file. It is safe for concurrent use.
type Clock struct {
	path   string
	now    func() time.Time
	uptime func() Uptime
	// past returns the time that stands for the record when the file is missing; zero: now.
	past func() (time.Time, error)

	mu   sync.Mutex
	last moment // at which the file showed that the clock can be trusted
}

// New returns a clock that records the time in the file at path. While that file is missing, past
// says which time stands for it; the zero time stands for the present.
func New(path string, cfg Config, past func() (time.Time, error)) *Clock {
	c := &Clock{path: path, now: cfg.Now, uptime: cfg.Uptime, past: past}
	if c.now == nil {
		c.now = time.Now
	}
	if c.uptime == nil {
		c.uptime = MachineUptime
	}
	return c
}

// Now returns the machine's time, whether it can be trusted or not.
func (c *Clock) Now() time.Time { return c.now() }

// Check returns ErrUntrusted if nothing may be stored now, because the clock is more than a day
// behind the newest recorded time.
func (c *Clock) Check() error {
	v, r, err := c.look()
	if err == nil && v == behind {
		err = c.refusal(v, r)
	}
	return err
}

// Trusted returns ErrUntrusted if nothing may be ended now, because the clock is behind, or has
// jumped ahead by more than a day.
func (c *Clock) Trusted() error {
	v, r, err := c.look()
	if err == nil && v != trusted {
		err = c.refusal(v, r)
	}
	return err
}

// Latest returns the time or, if the clock is behind the newest recorded time, that one.
func (c *Clock) Latest() time.Time {
	if v, r, err := c.look(); err == nil && v == behind {
		return r.Newest.Time
	}
	return c.now()
}

func (c *Clock) refusal(v verdict, r record) error {
	now := c.now().UTC().Format(time.RFC3339)
	newest := r.Newest.Time.UTC().Format(time.RFC3339)
	if v == behind {
		return fmt.Errorf("%w: it says %s, but the time %s has been recorded; correct the clock, or if it is right, run detach sweep --trust-clock", ErrUntrusted, now, newest)
	}
	return fmt.Errorf("%w: it says %s, and the newest recorded time is %s; nothing is swept until it has run for 24 hours without being set (since %s); if it is right, run detach sweep --trust-clock",
		ErrUntrusted, now, newest, r.Doubt.Time.UTC().Format(time.RFC3339))
}

func (c *Clock) moment() moment {
	up := c.uptime()
	return moment{c.now().UTC().Round(0), up.Boot, up.For} // Round: only the time that can be set
}

// look judges the clock, and records the time if it is due.
func (c *Clock) look() (verdict, record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.moment()
	passed, known := now.since(c.last)
	if known && passed < lookEvery && (now.Time.Sub(c.last.Time)-passed).Abs() < lookEvery {
		return trusted, record{}, nil
	}
	r, found, err := c.read(now)
	if err != nil {
		return behind, r, err
	}
	v, next := r.judge(now)
	if !found || next != r {
		// Best effort: a machine that cannot write here stores and ends nothing either.
		_, _ = c.write(func(r record) record { _, r = r.judge(now); return r })
	}
	if v == trusted {
		c.last = now
	}
	return v, next, nil
}

// Trust records the present time as right, whatever is recorded.
func (c *Clock) Trust() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range trustTries {
		done, err := c.write(func(record) record { return record{Newest: c.moment()} })
		if err != nil {
			return fmt.Errorf("record the time: %w", err)
		}
		if done {
			return nil
		}
		time.Sleep(trustPause)
	}
	return errors.New("record the time: another process is recording it; run the command again")
}

// read returns the record. Without a file, or with a malformed one, it is what past returns, or
// now.
func (c *Clock) read(now moment) (r record, found bool, err error) {
	text, err := os.ReadFile(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, false, fmt.Errorf("read the recorded time: %w", err)
	}
	if err == nil && json.Unmarshal(text, &r) == nil && !r.Newest.Time.IsZero() {
		return r, true, nil
	}
	past, err := c.past()
	if err != nil {
		return r, false, err
	}
	if past.IsZero() {
		past = now.Time
	}
	return record{Newest: moment{Time: past.UTC()}}, false, nil
}

// write replaces the file. It writes to a temporary file that it has locked. If another process has
// that file, done is false.
func (c *Clock) write(change func(record) record) (done bool, err error) {
	tmp, err := c.lock()
	if err != nil || tmp == nil {
		return false, err
	}
	defer func() { err = errors.Join(err, tmp.Close()) }()
	r, _, err := c.read(c.moment())
	if err != nil {
		return false, err
	}
	text, err := json.Marshal(change(r))
	if err != nil {
		return false, err
	}
	if err := errors.Join(tmp.Truncate(0), writeSynced(tmp, append(text, '\n'))); err != nil {
		return false, err
	}
	if err := os.Rename(tmp.Name(), c.path); err != nil {
		return false, err
	}
	return true, durable.SyncDir(filepath.Dir(c.path))
}

func writeSynced(f *os.File, text []byte) error {
	if _, err := f.WriteAt(text, 0); err != nil {
		return err
	}
	return f.Sync()
}

// lock opens the temporary file and locks it. The file is nil if another process has it.
func (c *Clock) lock() (*os.File, error) {
	tmp, err := os.OpenFile(c.path+".tmp", os.O_RDWR|os.O_CREATE, 0o644) // no secret: root's may be read by all
	if err != nil {
		return nil, err
	}
	if durable.TryLock(tmp) && sameFile(tmp) {
		return tmp, nil
	}
	return nil, tmp.Close()
}

// sameFile reports whether the file still has its name.
func sameFile(f *os.File) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(open, named)
}

var (
	processBegan = time.Now()
	processID    = rand.Text()
)

// processUptime is the Uptime where the machine's is not known. Go's monotonic clock does not stop
// while the process runs, and cannot be set.
func processUptime() Uptime { return Uptime{processID, time.Since(processBegan)} }
