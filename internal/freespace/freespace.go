// Package freespace keeps a part of a disk free, so that a full store never stops the mail that
// needs no store. Its invariant:
//
//	A Guard admits n bytes only if the minimum stays free once they and all other bytes that it
//	has admitted are written.
//
// A Guard does not know what other programs write at the same moment, so the minimum should be
// larger than that.
package freespace

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// ErrLow is wrapped by the errors of a [Guard] that admits nothing more.
var ErrLow = errors.New("too little free space")

// Measure returns the size of a disk in bytes; free is what an ordinary user may still write.
type Measure func(context.Context) (free, total int64, err error)

// MinFree returns how many bytes must stay free on a disk of total bytes; 0 for no minimum.
type MinFree func(total int64) int64

// Half returns the function for half of the minimum.
func (m MinFree) Half() MinFree { return func(total int64) int64 { return m(total) / 2 } }

// A Guard keeps a minimum of free space on one disk. It is safe for concurrent use. A nil Guard
// admits everything.
type Guard struct {
	name    string
	min     MinFree
	maxAge  time.Duration
	measure Measure

	mu          sync.Mutex
	measured    time.Time // zero before the first time
	free, total int64
	err         error
	reserved    int64 // admitted and perhaps not written yet
	written     int64 // released since the last measurement
}

// New returns a Guard of the disk that measure describes, with its name, such as "the node". measure
// is called again when its last answer is older than maxAge, and never twice at a time.
func New(name string, min MinFree, maxAge time.Duration, measure Measure) *Guard {
	return &Guard{name: name, min: min, maxAge: maxAge, measure: measure}
}

// Dir returns a Guard of the file system that holds dir. Each call asks the kernel. On systems
// other than Linux the free space is unknown, and the Guard admits everything.
func Dir(dir string, min MinFree) *Guard {
	return New(dir, min, 0, func(context.Context) (free, total int64, err error) { return of(dir) })
}

// Admit returns an error that wraps ErrLow if n more bytes would leave less than the minimum free.
// It returns nil if the free space is unknown: then only writing shows whether the bytes fit.
func (g *Guard) Admit(ctx context.Context, n int64) error {
	release, err := g.Reserve(ctx, n)
	release()
	return err
}

// Reserve is Admit, and counts the n bytes as taken until release is called, which must be after
// they were written or given up. release is never nil, and must be called once.
func (g *Guard) Reserve(ctx context.Context, n int64) (release func(), err error) {
	if g == nil {
		return func() {}, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refresh(ctx)
	if s := g.state(); g.err == nil && s.Min > 0 && s.Free-n < s.Min {
		return func() {}, &lowError{g.name, s}
	}
	g.reserved += n
	return func() { g.release(n) }, nil
}

func (g *Guard) release(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reserved -= n
	g.written += n
}

// refresh measures the disk, unless the last measurement is younger than maxAge.
func (g *Guard) refresh(ctx context.Context) {
	if !g.measured.IsZero() && time.Since(g.measured) < g.maxAge {
		return
	}
	g.free, g.total, g.err = g.measure(ctx)
	if ctx.Err() == nil { // otherwise the next caller asks again
		g.measured, g.written = time.Now(), 0
	}
}

// State is what a Guard knows about its disk, in bytes.
type State struct {
	Free int64 // without what is reserved
	Min  int64 // what must stay free
}

// Low reports whether nothing more is admitted.
func (s State) Low() bool { return s.Min > 0 && s.Free < s.Min }

// Near reports whether less than twice the minimum is free.
func (s State) Near() bool { return s.Free/2 < s.Min }

func (s State) String() string {
	if s.Min == 0 {
		return Size(max(0, s.Free)) + " free, min_free is off"
	}
	return fmt.Sprintf("%s free, min_free is %s", Size(max(0, s.Free)), Size(s.Min))
}

// Size writes a number of bytes for an operator: 812 MiB, 1.5 GiB.
func Size(n int64) string {
	if n == 1 {
		return "1 byte"
	}
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	v := float64(n)
	for v >= 1024 && len(units) > 1 {
		v, units = v/1024, units[1:]
	}
	if v >= 100 {
		return fmt.Sprintf("%.0f %s", v, units[0])
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + " " + units[0]
}

func (g *Guard) state() State {
	return State{Free: g.free - g.reserved - g.written, Min: g.min(g.total)}
}

// State measures the disk, or returns what was measured less than maxAge ago.
func (g *Guard) State(ctx context.Context) (State, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refresh(ctx)
	return g.state(), g.err
}

// Name returns the name of the Guard's disk.
func (g *Guard) Name() string { return g.name }

// lowError is the ErrLow of a disk.
type lowError struct {
	disk  string
	state State
}

func (e *lowError) Error() string { return fmt.Sprintf("%s (%s)", e.state, e.disk) }
func (e *lowError) Unwrap() error { return ErrLow }
