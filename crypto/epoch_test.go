package crypto

import (
	"testing"
	"time"
)

// badEpochs are no names of epochs, and most of them would be dangerous as file names.
var badEpochs = []string{
	"", "link", "../x", "..", "/etc/passwd", "2026-11", "2026-11-22", "2026-11.", ".aaaa2345", "2026-11/../x.aaaa2345",
	"2026-11\u0000.aaaa2345", "2026-13.aaaa2345", "2026-1.aaaa2345", "2026-11-31.aaaa2345", "2026-11-22 .aaaa2345",
	"+026-11.aaaa2345", "2026-11.AAAA2345", "2026-11.aaaa2341", "2026-11.aaaa234", "2026-11.aaaa23456", "2026-11.aaaa/345",
	"2026-11.aaaa2345.key", "2026-11..aaaa2345", "2026-11.aaaa2345.LINK", "2026-11.aaaa2345.link.link",
	"2026-W47.aaaa2345", "9999-12-31.aaaa2345", "٢٠٢٦-11.aaaa2345", "2026-11.aaaa23é",
}

func TestEpochsAreNamedByEndAndSecret(t *testing.T) {
	for name, end := range map[string]time.Time{
		"2026-11.aaaa2345":    {},
		"2024-02-29.k7d2qawm": time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC),
		"2026-12-31.zzzz7777": time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		e, err := ParseEpoch(name)
		if err != nil || string(e) != name || !e.End().Equal(end) || string(e.Period())+name[len(name)-9:] != name {
			t.Errorf("%s: got %q, period %q, end %v, %v; want end %v", name, e, e.Period(), e.End(), err, end)
		}
		for text, want := range map[string]KID{name: {e, false}, name + ".link": {e, true}} {
			if kid, err := ParseKID(text); err != nil || kid != want || kid.String() != text {
				t.Errorf("%s: got %q, %v", text, kid, err)
			}
		}
	}
	for _, name := range badEpochs {
		if _, err := ParseEpoch(name); err == nil {
			t.Errorf("epoch %q: accepted", name)
		}
		if _, err := ParseKID(name); err == nil {
			t.Errorf("kid %q: accepted", name)
		}
	}
	if e := NewEpoch("2026-11", ServiceSecret{testSecret(1)}); len(e) != len("2026-11.aaaa2345") {
		t.Errorf("new epoch: got %q", e)
	} else if _, err := ParseEpoch(string(e)); err != nil {
		t.Errorf("new epoch %q: %v", e, err)
	}
}

// A file is kept for its retention at least, and at most for a day longer.
func TestPeriodOfAFile(t *testing.T) {
	late := time.Date(2026, 11, 30, 23, 59, 59, 0, time.FixedZone("", -3600)) // December in UTC
	for retention, want := range map[time.Duration]Period{
		0: "2026-12", time.Nanosecond: "2026-12-01", time.Hour: "2026-12-01", 24 * time.Hour: "2026-12-02", 90 * 24 * time.Hour: "2027-03-01",
	} {
		p := PeriodOf(late, retention)
		if p != want {
			t.Errorf("%v: got %s, want %s", retention, p, want)
		}
		if retention == 0 {
			if !p.End().IsZero() {
				t.Errorf("%s ends at %v", p, p.End())
			}
		} else if kept := p.End().Sub(late); kept < retention || kept > retention+24*time.Hour {
			t.Errorf("%v: kept for %v", retention, kept)
		}
		if got, err := ParsePeriod(string(p)); err != nil || got != p {
			t.Errorf("%s: parsed to %q, %v", p, got, err)
		}
	}
	for _, s := range []string{"", "2026", "2026-00", "2025-02-29", "2026-11-2", " 2026-11", "2026-11\n", "2026/11", "20261-1", "-026-11", "9999-12-31"} {
		if _, err := ParsePeriod(s); err == nil {
			t.Errorf("%q: accepted", s)
		}
	}
}
