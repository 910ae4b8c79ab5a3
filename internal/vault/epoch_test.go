package vault

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func TestFileExpiresAtItsSecond(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, func(c *Config) { c.Retention = 30 * day })
	b := v.Begin()
	end := s.now.Truncate(time.Second).Add(30 * day)
	if !b.Expires().Equal(end) {
		t.Errorf("Expires: got %v, want %v", b.Expires(), end)
	}
	l := detached(t, v, []byte("x"))
	if got := opened(t, v, l.CID).Expires; !got.Equal(end) {
		t.Errorf("the object expires at %v, want %v", got, end)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "keys", "2026-11-22.key")); err != nil {
		t.Errorf("with retention an epoch is a day: %v", err)
	}
	s.now = end.Add(-time.Second)
	wantAll(t, v, l, nil)
	s.now = end
	wantAll(t, v, l, ErrExpired)
	if got := s.vault(t, nil).Begin().Expires(); !got.IsZero() {
		t.Errorf("without retention: got %v", got)
	}
}

// A changed retention is that of new files. A stored file keeps its end, in its page's promise as
// well as in every way to open it.
func TestChangedRetentionMovesNoEnd(t *testing.T) {
	for _, retention := range []time.Duration{0, day, 30 * day, 90 * day} {
		s := newSite(t)
		before := s.vault(t, func(c *Config) { c.Retention = 30 * day })
		l, end := detached(t, before, []byte("x")), before.Begin().Expires()
		forever := detached(t, s.vault(t, nil), []byte("y"))
		v := s.vault(t, func(c *Config) { c.Retention = retention })
		s.now = end.Add(-time.Second)
		if got := opened(t, v, l.CID).Expires; !got.Equal(end) {
			t.Errorf("retention %v: the object expires at %v, want %v", retention, got, end)
		}
		wantAll(t, v, l, nil)
		s.now = end
		wantAll(t, v, l, ErrExpired)
		s.now = end.Add(1000 * day)
		if got := opened(t, v, forever.CID).Expires; !got.IsZero() {
			t.Errorf("retention %v: an object without an end expires at %v", retention, got)
		}
		wantAll(t, v, forever, nil)
	}
}

const day = 24 * time.Hour

// A file that is refused under a wrong clock opens when the clock is right: expiry deletes nothing.
func TestWrongClockDoesNoLastingHarm(t *testing.T) {
	faults.Covers(t, 99)
	for _, mode := range []Mode{Split, LinkOnly} {
		for _, retention := range []time.Duration{0, 30 * day} {
			s := newSite(t)
			change := func(c *Config) { c.Mode, c.Retention = mode, retention }
			v := s.vault(t, change)
			right := s.now
			l := detached(t, v, []byte("before"))
			for _, jump := range []time.Duration{-day, day, -time.Hour, -20 * 365 * day} {
				s.now = right.Add(jump)
				wantContent(t, v, l, []byte("before")) // by some of the clocks, it was stored in the future
				other := detached(t, v, []byte("meanwhile"))
				wantContent(t, v, other, []byte("meanwhile"))
				s.now = right
				wantContent(t, v, l, []byte("before"))
				if jump > -retention || retention == 0 {
					wantContent(t, v, other, []byte("meanwhile"))
				} else {
					wantAll(t, v, other, ErrExpired) // its date is that of the wrong clock
				}
			}
			s.now = right.Add(31 * day)
			if retention > 0 {
				wantAll(t, v, l, ErrExpired)
			} else {
				wantContent(t, v, l, []byte("before"))
			}
			s.now = right
			wantContent(t, v, l, []byte("before"))
			// Another process, started while the clock is behind, serves the same files.
			s.now = right.Add(-day)
			wantContent(t, s.vault(t, change), l, []byte("before"))
		}
	}
}

// Files can be stored and opened, and expire on time, at unusual dates: around the second at which
// 32 bits end, at the turn of a year or a century, on a leap day, and in 1970.
func TestFilesOfUnusualDatesExpireOnTime(t *testing.T) {
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
			must.Succeed(t, err)
			if created := opened(t, v, l.CID).Created; !created.Equal(at.Truncate(time.Second)) {
				t.Errorf("stored at %v: Created is %v", at, created)
			}
			s.now = at.Add(ticketLife - time.Second)
			wantErr(t, fmt.Sprintf("ticket of %v", at), errOf(v.OpenTicket(l.CID, ticket)), nil)
			wantContent(t, v, l, []byte("dated"))
			if retention > 0 {
				s.now = at.Truncate(time.Second).Add(retention - time.Second)
				wantContent(t, v, l, []byte("dated"))
				s.now = s.now.Add(time.Second)
				wantAll(t, v, l, ErrExpired)
			}
		}
	}
}

// Links of past epochs open. If an epoch's secret is lost, only the links of that epoch fail, until
// the key file is restored from a backup.
func TestOldLinksAfterNewEpochs(t *testing.T) {
	faults.Covers(t, 80)
	for name, retention := range map[string]time.Duration{"months": 0, "days": 1000 * day} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			change := func(c *Config) { c.Retention = retention }
			var links []link.Link
			var epochs []crypto.Epoch
			for range 4 {
				v := s.vault(t, change)
				links = append(links, detached(t, v, []byte(fmt.Sprint(len(links)))))
				epochs = append(epochs, v.Begin().epoch)
				s.now = s.now.AddDate(0, 1, 0)
			}
			if epochs[0] == epochs[1] {
				t.Fatalf("epochs: %v", epochs)
			}
			v := s.vault(t, change)
			for i, l := range links {
				wantContent(t, v, l, []byte(fmt.Sprint(i)))
			}
			key := filepath.Join(s.dir, "keys", string(epochs[1])+".key")
			saved, err := os.ReadFile(key)
			must.Succeed(t, err)
			must.Succeed(t, os.Remove(key))
			for i, l := range links {
				wantErr(t, fmt.Sprint("epoch ", epochs[i]), errOf(content(t, v, l)), map[int]error{1: ErrKeyMissing}[i])
			}
			must.Succeed(t, os.WriteFile(key, saved, 0o600))
			wantContent(t, v, links[1], []byte("1"))
		})
	}
}

// After an epoch's secret is destroyed, its files stay closed. If the epoch still runs, a new
// secret is made, which opens only files that are stored from then on. If the new secret is lost,
// it counts as missing.
func TestDestroyedEpochStaysDestroyed(t *testing.T) {
	faults.Covers(t, 80, 99)
	s, v := newVault(t)
	old := detached(t, v, []byte("destroyed"))
	ticket, err := v.SealTicket(old.CID, old.Fragment)
	must.Succeed(t, err)
	must.Succeed(t, os.WriteFile(filepath.Join(s.dir, "keys", "2026-11.destroyed"), nil, 0o600))
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "keys", "2026-11.key")))
	for _, name := range []string{"Object", "Open"} {
		wantErr(t, name, routes(v, old)[name](t.Context()), ErrExpired)
	}
	wantProblems(t, v)
	wantContent(t, v, detached(t, v, []byte("new")), []byte("new"))
	wantErr(t, "the old file under the new secret", errOf(v.Open(t.Context(), old.CID, old.Fragment)), ErrWrongKey)
	wantErr(t, "the old ticket", errOf(v.OpenTicket(old.CID, ticket)), ErrTicket)
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "keys", "2026-11.key")))
	wantProblems(t, v, "keys/2026-11.key")
}
