package freespace

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func always(n int64) MinFree { return func(int64) int64 { return n } }

// disk is a disk that a test writes to.
type disk struct {
	mu    sync.Mutex
	free  int64
	err   error
	asked int
}

func (d *disk) measure(context.Context) (free, total int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	return d.free, 1000, d.err
}

func (d *disk) write(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free -= n
}

func TestNothingIsAdmittedBelowTheMinimum(t *testing.T) {
	for _, tt := range []struct {
		free, n int64
		min     MinFree
		fits    bool
	}{
		{100, 0, always(100), true}, {99, 0, always(100), false},
		{110, 10, always(100), true}, {110, 11, always(100), false},
		{50, 0, func(total int64) int64 { return total / 20 }, true}, {49, 0, func(total int64) int64 { return total / 20 }, false},
		{50, 0, always(100).Half(), true}, {49, 0, always(100).Half(), false},
		{0, 1 << 40, always(0), true},
	} {
		g := New("disk", tt.min, 0, (&disk{free: tt.free}).measure)
		err := g.Admit(t.Context(), tt.n)
		if (err == nil) != tt.fits || !tt.fits && !errors.Is(err, ErrLow) {
			t.Errorf("%d free of 1000, %d more, minimum %d: got %v, want it admitted: %v", tt.free, tt.n, tt.min(1000), err, tt.fits)
		}
	}
	must.Succeed(t, (*Guard)(nil).Admit(t.Context(), 1<<40))
}

// Writing shows whether a disk that cannot be measured has room.
func TestUnknownSpaceAdmitsAll(t *testing.T) {
	g := New("disk", always(1), 0, (&disk{err: errors.ErrUnsupported}).measure)
	must.Succeed(t, g.Admit(t.Context(), 1))
	if _, err := g.State(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("State: %v, want the reason why it is unknown", err)
	}
}

// Fifty writers that each ask before they write stay above the minimum together.
func TestWritersTogetherStayAboveTheMinimum(t *testing.T) {
	faults.Covers(t, 98)
	d := &disk{free: 1000}
	g := New("disk", always(100), 0, d.measure)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for {
				release, err := g.Reserve(t.Context(), 7)
				if err != nil {
					return
				}
				d.write(7)
				release()
			}
		})
	}
	all.Wait()
	if d.free < 100 || d.free >= 100+50*7 {
		t.Errorf("%d left, want 100 to %d", d.free, 100+50*7)
	}
}

func TestReservedBytesAreTaken(t *testing.T) {
	g := New("disk", always(100), 0, (&disk{free: 150}).measure)
	release, err := g.Reserve(t.Context(), 50)
	must.Succeed(t, err)
	if err := g.Admit(t.Context(), 1); !errors.Is(err, ErrLow) {
		t.Errorf("beside a reservation: got %v, want %v", err, ErrLow)
	}
	release()
	must.Succeed(t, g.Admit(t.Context(), 50))
}

// Between two measurements a Guard counts what it has admitted, also after it was written.
func TestMeasurementIsKeptForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{free: 150}
		g := New("disk", always(100), 5*time.Second, d.measure)
		release, err := g.Reserve(t.Context(), 50)
		must.Succeed(t, err)
		release()
		if err := g.Admit(t.Context(), 1); !errors.Is(err, ErrLow) || d.asked != 1 {
			t.Errorf("got %v after %d measurements, want %v after 1", err, d.asked, ErrLow)
		}
		time.Sleep(5 * time.Second)
		if err := g.Admit(t.Context(), 50); err != nil || d.asked != 2 {
			t.Errorf("got %v after %d measurements, want it admitted after 2", err, d.asked)
		}
	})
}

func TestErrorNamesFreeSpaceAndMinimum(t *testing.T) {
	g := New("/var/lib/detach", always(1<<30), 0, (&disk{free: 812 << 20}).measure)
	if err := g.Admit(t.Context(), 0); err == nil || err.Error() != "812 MiB free, min_free is 1 GiB (/var/lib/detach)" {
		t.Errorf("got %v", err)
	}
	for n, want := range map[int64]string{0: "0 bytes", 1: "1 byte", 1023: "1023 bytes", 1024: "1 KiB", 1536: "1.5 KiB", 99 << 20: "99 MiB", 12<<30 + 1<<29: "12.5 GiB", 5 << 50: "5120 TiB"} {
		if got := Size(n); got != want {
			t.Errorf("%d bytes: got %q, want %q", n, got, want)
		}
	}
}
