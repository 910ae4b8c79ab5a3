package vault

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/clock"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// A file with a retention is kept for at least that long, until the day (UTC) is over.
func TestFileEndsWithItsDay(t *testing.T) {
	s, v := newVault(t)
	b := v.Begin(30 * day)
	end := time.Date(2026, 12, 23, 0, 0, 0, 0, time.UTC) // 30 days after 22 November, at midnight
	if !b.Expires().Equal(end) {
		t.Errorf("Expires: got %v, want %v", b.Expires(), end)
	}
	l := kept(t, v, 30*day, []byte("x"))
	o := opened(t, v, l.CID)
	if !o.Expires.Equal(end) {
		t.Errorf("the object expires at %v, want %v", o.Expires, end)
	}
	f, err := o.Open(t.Context(), l.Fragment)
	must.Succeed(t, err)
	defer f.Close()
	if !f.Meta.Expires.Equal(end) {
		t.Errorf("the metadata says %v, want %v", f.Meta.Expires, end)
	}
	if got := s.epoch(t).Period(); got != "2026-12-22" {
		t.Errorf("the epoch's period is %s", got)
	}
	s.now = end.Add(-time.Second)
	wantAll(t, v, l, nil)
	s.now = end
	wantAll(t, v, l, ErrExpired)
	wantErr(t, "Admit", v.Admit(l.CID), ErrExpired)
	if got := v.Begin(0).Expires(); !got.IsZero() {
		t.Errorf("without retention: got %v", got)
	}
}

// A changed retention is that of new files. A stored file keeps its end, in its page's promise as
// well as in every way to open it.
func TestChangedRetentionMovesNoEnd(t *testing.T) {
	s, v := newVault(t)
	l, end := kept(t, v, 30*day, []byte("x")), v.Begin(30*day).Expires()
	forever := detached(t, v, []byte("y"))
	for _, retention := range []time.Duration{day, 90 * day, 0} {
		kept(t, v, retention, []byte("z"))
	}
	v = s.vault(t, nil)
	s.now = end.Add(-time.Second)
	if got := opened(t, v, l.CID).Expires; !got.Equal(end) {
		t.Errorf("the object expires at %v, want %v", got, end)
	}
	wantAll(t, v, l, nil)
	s.now = end
	wantAll(t, v, l, ErrExpired)
	s.now = end.Add(1000 * day)
	if got := opened(t, v, forever.CID).Expires; !got.IsZero() {
		t.Errorf("an object without an end expires at %v", got)
	}
	wantAll(t, v, forever, nil)
}

const day = 24 * time.Hour

// A file that is refused under a wrong clock opens when the clock is right: expiry deletes nothing.
func TestWrongClockDoesNoLastingHarm(t *testing.T) {
	faults.Covers(t, 99)
	for _, mode := range []Mode{Split, LinkOnly} {
		for _, retention := range []time.Duration{0, 30 * day} {
			s := newSite(t)
			change := func(c *Config) { c.Mode = mode }
			v := s.vault(t, change)
			right := s.now
			l := kept(t, v, retention, []byte("before"))
			for _, jump := range []time.Duration{-day, -time.Hour, day} {
				s.now = right.Add(jump)
				wantContent(t, v, l, []byte("before")) // by some of the clocks, it was stored in the future
				other := kept(t, v, retention, []byte("meanwhile"))
				wantContent(t, v, other, []byte("meanwhile"))
				s.now = right
				wantContent(t, v, l, []byte("before"))
				wantContent(t, v, other, []byte("meanwhile"))
			}
			s.now = right.Add(32 * day)
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

// With a clock that is years behind, a mail's files would end too early: they are not stored.
func TestNothingIsStoredWithAClockThatIsBehind(t *testing.T) {
	faults.Covers(t, 99)
	s, v := newVault(t)
	kept(t, v, 30*day, []byte("before"))
	s.now = s.now.AddDate(-20, 0, 0)
	wantErr(t, "CanStore", v.CanStore(), clock.ErrUntrusted)
	b := v.Begin(30 * day)
	defer b.Close()
	wantErr(t, "Detach", errOf(b.Detach(t.Context(), "n", "t", strings.NewReader("x"))), clock.ErrUntrusted)
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
			v := s.vault(t, nil)
			l, end := kept(t, v, retention, []byte("dated")), v.Begin(retention).Expires()
			ticket, err := v.SealTicket(l.CID, l.Fragment)
			must.Succeed(t, err)
			if created := opened(t, v, l.CID).Created; !created.Equal(at.Truncate(time.Second)) {
				t.Errorf("stored at %v: Created is %v", at, created)
			}
			s.now = at.Add(ticketLife - time.Second)
			wantErr(t, fmt.Sprintf("ticket of %v", at), errOf(v.OpenTicket(t.Context(), l.CID, ticket)), nil)
			wantContent(t, v, l, []byte("dated"))
			if retention > 0 {
				if kept := end.Sub(at); kept < retention || kept > retention+day {
					t.Errorf("stored at %v for %v: kept for %v", at, retention, kept)
				}
				s.now = end.Add(-time.Second)
				wantContent(t, v, l, []byte("dated"))
				s.now = end
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
			v := s.vault(t, nil)
			var links []link.Link
			var epochs []crypto.Epoch
			for range 4 {
				b := v.Begin(retention)
				links = append(links, detach(t, b, []byte(fmt.Sprint(len(links)))))
				epochs = append(epochs, b.epoch)
				must.Succeed(t, errors.Join(b.Commit(t.Context()), b.Close()))
				s.now = s.now.AddDate(0, 1, 0)
			}
			if epochs[0] == epochs[1] {
				t.Fatalf("epochs: %v", epochs)
			}
			v = s.vault(t, nil)
			for i, l := range links {
				wantContent(t, v, l, []byte(fmt.Sprint(i)))
			}
			key := s.keyFile(epochs[1])
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

// After an epoch's secret is destroyed, its files stay closed. If the epoch's period still runs,
// there is a new epoch, which opens only files that are stored from then on.
func TestDestroyedEpochStaysDestroyed(t *testing.T) {
	faults.Covers(t, 80, 99)
	s, v := newVault(t)
	old := detached(t, v, []byte("destroyed"))
	ticket, err := v.SealTicket(old.CID, old.Fragment)
	must.Succeed(t, err)
	ended := s.epoch(t)
	must.Succeed(t, s.keys.End(ended))
	wantAll(t, v, old, ErrExpired)
	wantErr(t, "Admit", v.Admit(old.CID), ErrExpired)
	wantErr(t, "the old ticket", errOf(v.OpenTicket(t.Context(), old.CID, ticket)), ErrExpired)
	wantProblems(t, v)
	wantContent(t, v, detached(t, v, []byte("new")), []byte("new"))
	wantAll(t, v, old, ErrExpired)
	fresh := s.epoch(t)
	must.Succeed(t, os.Remove(s.keyFile(fresh)))
	wantProblems(t, v, "keys/"+string(fresh)+".key")
}
