package main

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// A contest is a row whose servers are running.
type contest struct {
	prepare func()         // makes a round's material, which is not measured; may be nil
	ours    func() float64 // one round's figure, in the row's unit
	theirs  func() float64 // nil: the bar is absolute
	detach  *stage.Detach  // whose profile can be taken, if any
}

// round has the figures of both sides.
type round struct{ ours, theirs float64 }

func (r round) ratio() float64 { return r.ours / r.theirs }

// measure plays a row's rounds.
func (l *lab) measure(r row, o options) (rounds []round) {
	c := r.begin(l)
	warmUps := 1
	if o.quick {
		warmUps = 0
	}
	for i := range warmUps + o.rounds {
		got := c.play(i%2 == 1)
		l.Logf("%s: ours %s, theirs %s", r.name, r.unit.format(got.ours), r.unit.format(got.theirs))
		if i >= warmUps {
			rounds = append(rounds, got)
		}
	}
	if o.profile != "" && c.detach != nil {
		l.profile(c, o.profile, r.name)
	}
	return rounds
}

// play plays one round. If swapped, the other side begins.
func (c contest) play(swapped bool) (got round) {
	if c.prepare != nil {
		c.prepare()
	}
	turns := []func(){func() { got.ours = c.ours() }}
	if c.theirs != nil {
		turns = append(turns, func() { got.theirs = c.theirs() })
	}
	if swapped {
		slices.Reverse(turns)
	}
	for _, turn := range turns {
		unix.Sync() // or one side would write the other's buffers
		turn()
	}
	return got
}

// seconds returns how long f takes.
func seconds(f func()) float64 {
	began := time.Now()
	f()
	return time.Since(began).Seconds()
}

// rate returns MB/s for n bytes in so many seconds.
func rate(n int64, seconds float64) float64 { return float64(n) / 1e6 / seconds }

// unit is the unit of a row's figures.
type unit string

func (u unit) format(v float64) string {
	switch {
	case v == 0:
		return "–"
	case v >= 100:
		return fmt.Sprintf("%.0f %s", v, u)
	case v >= 10:
		return fmt.Sprintf("%.1f %s", v, u)
	}
	return fmt.Sprintf("%.2f %s", v, u)
}

// bar is the limit for a ratio, or for a figure without another side.
type bar struct {
	sign  string
	limit float64
}

func atMost(limit float64) bar  { return bar{"≤", limit} }
func atLeast(limit float64) bar { return bar{"≥", limit} }

func (b bar) met(v float64) bool {
	if b.sign == "≤" {
		return v <= b.limit
	}
	return v >= b.limit
}

// result is a row with its measured rounds.
type result struct {
	row
	rounds  []round
	failure error
}

// figures returns the figures that the bar is for, one for each round.
func (r result) figures() []float64 {
	var all []float64
	for _, one := range r.rounds {
		if one.theirs == 0 {
			all = append(all, one.ours)
		} else {
			all = append(all, one.ratio())
		}
	}
	return all
}

// compared reports whether there is another side.
func (r result) compared() bool { return len(r.rounds) > 0 && r.rounds[0].theirs != 0 }

// median returns the median of the values, which must not be empty.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// percentile returns the smallest value that p of 100 values do not exceed.
func percentile(values []float64, p int) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
