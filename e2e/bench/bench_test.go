package main

import (
	"math"
	"slices"
	"testing"
)

// Every row can be measured: with small sizes each figure is a positive number.
func TestEveryRowHasFigures(t *testing.T) {
	rows := rows(quick)
	l := newLab(t, quick, rows)
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got := result{row: r, rounds: l.on(t).measure(r, options{quick: true, rounds: 1})}
			if len(got.rounds) != 1 {
				t.Fatalf("%d rounds, want 1", len(got.rounds))
			}
			for _, figure := range append(got.figures(), got.rounds[0].ours) {
				if figure <= 0 || math.IsInf(figure, 0) || math.IsNaN(figure) {
					t.Errorf("got %v, want a figure", got.rounds)
				}
			}
			t.Log(got.line())
		})
	}
}

func TestSidesAlternate(t *testing.T) {
	var order []string
	side := func(name string, figure float64) func() float64 {
		return func() float64 {
			order = append(order, name)
			return figure
		}
	}
	c := contest{prepare: func() { order = append(order, "prepare") }, ours: side("ours", 3), theirs: side("theirs", 2)}
	for i := range 2 {
		if got := c.play(i == 1); got != (round{3, 2}) {
			t.Errorf("got %v", got)
		}
	}
	if want := []string{"prepare", "ours", "theirs", "prepare", "theirs", "ours"}; !slices.Equal(order, want) {
		t.Errorf("got %v, want %v", order, want)
	}
}

func TestFirstRoundDoesNotCount(t *testing.T) {
	played := 0
	r := row{name: "x", unit: "ms", begin: func(*lab) contest {
		return contest{ours: func() float64 {
			played++
			return float64(played)
		}}
	}}
	l := &lab{T: t}
	if got := l.measure(r, options{rounds: 2}); !slices.Equal(got, []round{{2, 0}, {3, 0}}) {
		t.Errorf("got %v, want rounds 2 and 3", got)
	}
}

func TestMedianAndPercentile(t *testing.T) {
	for want, values := range map[float64][]float64{1: {1}, 2: {3, 1}, 2.5: {9, 1, 2.5}, 3: {4, 1, 2, 9}} {
		if got := median(values); got != want {
			t.Errorf("median of %v: got %v, want %v", values, got, want)
		}
	}
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	for p, want := range map[int]float64{0: 1, 50: 50, 95: 95, 100: 100} {
		if got := percentile(hundred, p); got != want {
			t.Errorf("percentile %d: got %v, want %v", p, got, want)
		}
	}
}

func TestLineOfTheTable(t *testing.T) {
	ratio := result{row: row{what: "a; b", unit: "s", bar: atMost(1.1)}, rounds: []round{{2, 1}, {3, 3}, {1, 2}}}
	if got, want := ratio.line(), "| a; b | 2.00 s | 2.00 s | 1.00 | 0.50–2.00 | ≤ 1.1 | yes |"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	absolute := result{row: row{what: "c", unit: "ms", bar: atMost(5)}, rounds: []round{{7.5, 0}}}
	if got, want := absolute.line(), "| c | 7.50 ms | – | – | 7.5–7.5 | ≤ 5 ms | no |"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
