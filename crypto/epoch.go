package crypto

import (
	"errors"
	"time"
)

// Epoch names a period whose attachments share one secret: a month, "2026-11", or a day,
// "2026-11-22", in UTC. It becomes a file name, so text from outside must pass ParseEpoch first.
type Epoch string

const (
	monthLayout = "2006-01"
	dayLayout   = "2006-01-02"
)

var errEpochForm = errors.New("not an epoch (want YYYY-MM or YYYY-MM-DD)")

// EpochOf returns the month of t, or the day of t if daily is set.
func EpochOf(t time.Time, daily bool) Epoch {
	if daily {
		return Epoch(t.UTC().Format(dayLayout))
	}
	return Epoch(t.UTC().Format(monthLayout))
}

// ParseEpoch accepts what EpochOf writes and nothing else: digits and dashes, and a date that
// exists.
func ParseEpoch(s string) (Epoch, error) {
	layout := monthLayout
	if len(s) == len(dayLayout) {
		layout = dayLayout
	}
	if t, err := time.Parse(layout, s); err != nil || t.Format(layout) != s {
		return "", errEpochForm
	}
	return Epoch(s), nil
}
