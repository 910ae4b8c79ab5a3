package progress

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func TestLineFitsItsWidth(t *testing.T) {
	now := time.Unix(1000, 0)
	var drawn strings.Builder
	p := New(io.Discard, 0, 2_000_000_000)
	p.to, p.width, p.began, p.last, p.now = &drawn, func() int { return 80 }, now, now, func() time.Time { return now }
	if _, err := p.Write(make([]byte, 1000)); err != nil || drawn.Len() != 0 {
		t.Errorf("drawn %q, want nothing before 100 ms", drawn.String())
	}
	now = now.Add(10 * time.Second)
	p.done = 500_000_000
	_, err := p.Write(nil)
	must.Succeed(t, err)
	want := "\r[#####               ] 500 MB of 2 GB, 50 MB/s, 30s left\x1b[K"
	if got := drawn.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for width, want := range map[int]string{40: "500 MB of 2 GB, 50 MB/s, 30s left", 33: "500 MB of 2 GB, 50 MB/s", 10: "500 MB of"} {
		if got := p.line(width); got != want {
			t.Errorf("on %d columns: %q, want %q", width, got, want)
		}
	}
	p.total, p.done = 0, 0
	if got := p.line(80); !strings.HasPrefix(got, "0 bytes of 0 bytes") {
		t.Errorf("for an empty file: %q", got)
	}
}

func TestThingsAreCounted(t *testing.T) {
	now := time.Unix(1000, 0)
	p := NewCount(io.Discard, "objects")
	p.began, p.now = now, func() time.Time { return now.Add(10 * time.Second) }
	p.Set(2500, 10_000)
	want := "[#####               ] 2500 of 10000 objects, 250/s, 30s left"
	if got := p.line(80); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A download that hardly moves gets no forecast.
func TestForecastIsBounded(t *testing.T) {
	for seconds, want := range map[float64]string{0: "0s", 0.6: "1s", 90: "1m30s", 359_999: "99h59m59s", 360_000: "more than 100h", 1e300: "more than 100h"} {
		if got := timeFor(seconds); got != want {
			t.Errorf("timeFor(%v) = %q, want %q", seconds, got, want)
		}
	}
}

// Nothing is drawn on a pipe, a file, or the output of a test.
func TestNothingIsDrawnWithoutATerminal(t *testing.T) {
	var b strings.Builder
	p := New(&b, 0, 10)
	p.last = time.Time{}
	if _, err := p.Write(make([]byte, 10)); err != nil || p.done != 10 {
		t.Errorf("done = %d, %v", p.done, err)
	}
	p.Clear()
	if b.Len() != 0 {
		t.Errorf("drawn %q", b.String())
	}
}
