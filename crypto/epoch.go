package crypto

import (
	"errors"
	"strings"
	"time"
)

const (
	monthLayout = "2006-01"
	dayLayout   = "2006-01-02"
	lastDay     = "9999-12-31"

	// epochIDSize is the length in characters of the id in an epoch's name: base32 of 5 bytes.
	epochIDSize = 8
	linkSuffix  = ".link"
)

var (
	errPeriodForm = errors.New("not a period (want YYYY-MM-DD, or YYYY-MM for files without an end)")
	errEpochForm  = errors.New("not an epoch (want YYYY-MM-DD or YYYY-MM, a dot, and 8 letters or digits)")
	errKIDForm    = errors.New("not a key id (want an epoch, perhaps with .link)")
)

// Period says when files end: "2027-02-28" means when this day is over in UTC, and "2026-11" means
// never, for files stored in that month.
type Period string

// PeriodOf returns the period of a file that is stored now. With retention 0 the file has no end.
// Otherwise it is kept for at least that long, and at most for one day longer.
func PeriodOf(now time.Time, retention time.Duration) Period {
	if retention == 0 {
		return Period(now.UTC().Format(monthLayout))
	}
	return Period(now.Add(retention).UTC().Format(dayLayout))
}

// ParsePeriod accepts what PeriodOf writes and nothing else: digits and dashes, and a date that
// exists, before 9999-12-31.
func ParsePeriod(s string) (Period, error) {
	layout := monthLayout
	if len(s) == len(dayLayout) {
		layout = dayLayout
	}
	if t, err := time.Parse(layout, s); err != nil || t.Format(layout) != s {
		return "", errPeriodForm
	}
	if s == lastDay { // its end has no RFC 3339 form
		return "", errPeriodForm
	}
	return Period(s), nil
}

// End returns 00:00 UTC after the period's day, or the zero time if its files have no end. The
// period must be well formed.
func (p Period) End() time.Time {
	if len(p) != len(dayLayout) {
		return time.Time{}
	}
	day, err := time.Parse(dayLayout, string(p))
	if err != nil {
		return time.Time{}
	}
	return day.AddDate(0, 0, 1)
}

// Epoch names the files whose keys end together: its period, a dot, and the id of its secret. So
// one name never means two secrets. It becomes a file name, so text from outside must pass
// ParseEpoch first.
type Epoch string

// NewEpoch returns the name of the epoch with this period and service secret.
func NewEpoch(p Period, s ServiceSecret) Epoch { return Epoch(string(p) + "." + s.ID()) }

// ParseEpoch accepts what NewEpoch returns and nothing else.
func ParseEpoch(s string) (Epoch, error) {
	period, id, _ := strings.Cut(s, ".")
	if _, err := ParsePeriod(period); err != nil || len(id) != epochIDSize {
		return "", errEpochForm
	}
	if strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return "", errEpochForm
	}
	return Epoch(s), nil
}

// Period returns the period in the epoch's name.
func (e Epoch) Period() Period {
	period, _, _ := strings.Cut(string(e), ".")
	return Period(period)
}

// End returns the end of the epoch's period: zero if its files have no end.
func (e Epoch) End() time.Time { return e.Period().End() }

// KID is the key id of meta.jwe: the epoch of the file, and the mode. It is public.
type KID struct {
	Epoch Epoch
	Link  bool // the link alone opens the file: the share is 32 zero bytes
}

// ParseKID reads the form that String writes, and nothing else.
func ParseKID(s string) (KID, error) {
	name, link := strings.CutSuffix(s, linkSuffix)
	epoch, err := ParseEpoch(name)
	if err != nil {
		return KID{}, errKIDForm
	}
	return KID{epoch, link}, nil
}

// String returns the epoch, followed by ".link" in mode link.
func (k KID) String() string {
	if k.Link {
		return string(k.Epoch) + linkSuffix
	}
	return string(k.Epoch)
}
