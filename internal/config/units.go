package config

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes.
type Size int64

// units are those of IEC 80000-13: KB is 1000 bytes and KiB is 1024.
var units = map[string]int64{
	"": 1, "B": 1,
	"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40,
}

// UnmarshalText reads sizes like 64KiB, 25MB or a plain number of bytes.
func (s *Size) UnmarshalText(text []byte) error {
	digits := strings.TrimRight(string(text), "BKMGTbkmgti ")
	factor, known := units[strings.ToUpper(strings.TrimSpace(string(text[len(digits):])))]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !known || n < 0 || n > math.MaxInt64/factor {
		return fmt.Errorf("%q is not a size: write a whole number with a unit, as 64KiB or 25MB, or 0", text)
	}
	*s = Size(n * factor)
	return nil
}

// MinFree is the part of a disk that must stay free: a percentage, or a number of bytes.
type MinFree struct {
	Percent int64 // 0: Bytes counts
	Bytes   Size
}

// minFreeFloor is the least that a percentage stands for: a few mails in transit may take as much.
const minFreeFloor = 1 << 30

// Of returns how many bytes must stay free on a disk of total bytes; 0 for no minimum.
func (m MinFree) Of(total int64) int64 {
	if m.Percent == 0 {
		return int64(m.Bytes)
	}
	return max(total/100*m.Percent, minFreeFloor)
}

// UnmarshalText reads 5%, or a size.
func (m *MinFree) UnmarshalText(text []byte) error {
	percent, ok := strings.CutSuffix(string(text), "%")
	if !ok {
		*m = MinFree{}
		return m.Bytes.UnmarshalText(text)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(percent), 10, 64)
	if err != nil || n < 0 || n > 99 {
		return fmt.Errorf("%q is not a part of a disk: write a percentage, such as 5%%, or a size, such as 10GiB", text)
	}
	*m = MinFree{Percent: n}
	return nil
}

// Duration is a length of time.
type Duration time.Duration

const day = 24 * time.Hour

// UnmarshalText reads durations like 90s, 12h, 30d or 0.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		var n int64
		n, err = strconv.ParseInt(days, 10, 64)
		if n > int64(math.MaxInt64/day) {
			err = strconv.ErrRange
		}
		v = time.Duration(n) * day
	}
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a length of time: write a number with a unit, as 90s, 12h or 30d, or 0", text)
	}
	*d = Duration(v)
	return nil
}

// Retention is how long the links of one listener work.
type Retention struct {
	Own      bool // false: as long as [Keys.Retention] says, and Duration is 0
	Duration Duration
}

// UnmarshalText reads a duration, or nothing.
func (r *Retention) UnmarshalText(text []byte) error {
	*r = Retention{Own: len(text) > 0}
	if !r.Own {
		return nil
	}
	return r.Duration.UnmarshalText(text)
}

// Networks is a list of IP networks.
type Networks []netip.Prefix

// UnmarshalText reads addresses and networks separated by blanks or commas.
func (n *Networks) UnmarshalText(text []byte) error {
	*n = nil
	for _, one := range strings.Fields(strings.ReplaceAll(string(text), ",", " ")) {
		p, err := netip.ParsePrefix(one)
		if a, isAddr := netip.ParseAddr(one); isAddr == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil || p != p.Masked() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			return fmt.Errorf("%q is not an address or a network: write them as 10.0.0.5 or 172.16.0.0/12", one)
		}
		*n = append(*n, p)
	}
	return nil
}
