package vault

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// reads opens an attachment and wants its content.
func reads(t *testing.T, v *Vault, l link.Link, want string) {
	t.Helper()
	f, err := v.Open(t.Context(), l.CID, l.Fragment)
	if err != nil {
		t.Errorf("at %v: %v", v.cfg.Now(), err)
		return
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != want {
		t.Errorf("at %v: read %q, %v, want %q", v.cfg.Now(), got, err, want)
	}
}

const day = 24 * time.Hour

// A clock that is wrong for a while decides nothing for good: nothing is deleted when a file expires, so what is refused under the
// wrong clock opens under the right one.
func TestClockJumps(t *testing.T) {
	faults.Covers(t, 99)
	for _, mode := range []Mode{Split, LinkOnly} {
		for _, retention := range []time.Duration{0, 30 * day} {
			s := newSite(t)
			v := s.vault(t, func(c *Config) { c.Mode, c.Retention = mode, retention })
			right := s.now
			l := detached(t, v, []byte("before"))
			for _, jump := range []time.Duration{-day, day, -time.Hour, -20 * 365 * day} {
				s.now = right.Add(jump)
				reads(t, v, l, "before") // of the future, perhaps
				other := detached(t, v, []byte("meanwhile"))
				reads(t, v, other, "meanwhile")
				s.now = right
				reads(t, v, l, "before")
				if recent := jump > -retention || retention == 0; recent {
					reads(t, v, other, "meanwhile")
				} else {
					wantAll(t, v, other, ErrExpired) // by the only date it was ever given
				}
			}
			s.now = right.Add(31 * day)
			if retention > 0 {
				wantAll(t, v, l, ErrExpired)
			} else {
				reads(t, v, l, "before")
			}
			s.now = right
			reads(t, v, l, "before")
			// Another process, started under a clock that is behind, knows the same files.
			s.now = right.Add(-day)
			reads(t, s.vault(t, func(c *Config) { c.Mode, c.Retention = mode, retention }), l, "before")
		}
	}
}

// A ticket made under a clock that is ahead lives longer by as much and no more; one under a clock that is behind is too old when
// that is set right, and the link makes another.
func TestClockJumpsUnderATicket(t *testing.T) {
	faults.Covers(t, 99)
	s := newSite(t)
	v := s.vault(t, nil)
	l := detached(t, v, []byte("x"))
	right := s.now
	for _, c := range []struct {
		jump  time.Duration
		lives bool
	}{{day, true}, {time.Hour, true}, {-time.Hour, true}, {-day, false}} {
		s.now = right.Add(c.jump)
		ticket, err := v.SealTicket(l.CID, l.Fragment)
		if err != nil {
			t.Fatal(err)
		}
		s.now = right
		if _, err := v.OpenTicket(l.CID, ticket); c.lives != (err == nil) || err != nil && !errors.Is(err, ErrTicket) {
			t.Errorf("sealed %v off: %v", c.jump, err)
		}
		s.now = right.Add(c.jump + ticketLife)
		if _, err := v.OpenTicket(l.CID, ticket); !errors.Is(err, ErrTicket) {
			t.Errorf("sealed %v off, after its life: %v, want ErrTicket", c.jump, err)
		}
	}
}

// A clock that goes back into an epoch whose secret was destroyed makes a new secret. It opens what is stored then, and nothing of
// what was destroyed.
func TestBackIntoADestroyedEpoch(t *testing.T) {
	faults.Covers(t, 99)
	s := newSite(t)
	v := s.vault(t, nil)
	old := detached(t, v, []byte("destroyed"))
	s.now = s.now.AddDate(0, 1, 0)
	if err := os.Remove(filepath.Join(s.dir, "keys", "2026-11.key")); err != nil {
		t.Fatal(err)
	}
	wantWithoutSecret(t, v, old, ErrExpired)
	s.now = s.now.AddDate(0, -1, 0)
	reads(t, v, detached(t, v, []byte("new")), "new")
	if _, err := v.Open(t.Context(), old.CID, old.Fragment); !errors.Is(err, ErrWrongKey) {
		t.Errorf("what was destroyed: %v, want ErrWrongKey", err)
	}
}

// wantWithoutSecret asks all that needs the epoch's secret.
func wantWithoutSecret(t *testing.T, v *Vault, l link.Link, want error) {
	t.Helper()
	for _, name := range []string{"Object", "Open"} {
		if err := routes(v, l)[name](t.Context()); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

// Around the second at which 32 bits end, at the turn of years and centuries, on a leap day, and at the beginning of time, where a
// computer without a clock begins: files are stored, opened, and expire when they should.
func TestDates(t *testing.T) {
	faults.Covers(t, 99)
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Unix(1<<31-1, 0), time.Unix(1<<31, 0), time.Unix(1<<32, 0),
		time.Date(2037, 12, 31, 23, 59, 59, 999, time.UTC), time.Date(2038, 1, 19, 3, 14, 7, 0, time.UTC),
		time.Date(2099, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(2100, 2, 28, 23, 59, 59, 0, time.UTC),
		time.Date(2028, 2, 29, 12, 0, 0, 0, time.UTC),
		time.Date(2026, 10, 25, 2, 30, 0, 0, time.FixedZone("summer", 2*60*60)), // and half an hour later it is 2:00 again
	} {
		for _, retention := range []time.Duration{0, 12 * time.Hour, 100 * 365 * day} {
			s := newSite(t)
			s.now = at
			v := s.vault(t, func(c *Config) { c.Retention = retention })
			l := detached(t, v, []byte("dated"))
			ticket, err := v.SealTicket(l.CID, l.Fragment)
			if err != nil {
				t.Fatal(err)
			}
			if created := opened(t, v, l.CID).Created; !created.Equal(at.Truncate(time.Second)) {
				t.Errorf("stored at %v: Created is %v", at, created)
			}
			s.now = at.Add(ticketLife - time.Second)
			if _, err := v.OpenTicket(l.CID, ticket); err != nil {
				t.Errorf("stored at %v: %v", at, err)
			}
			reads(t, v, l, "dated")
			if retention > 0 {
				s.now = at.Truncate(time.Second).Add(retention - time.Second)
				reads(t, v, l, "dated")
				s.now = s.now.Add(time.Second)
				wantAll(t, v, l, ErrExpired)
			}
		}
	}
}
