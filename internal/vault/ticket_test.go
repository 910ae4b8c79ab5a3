package vault

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func TestTicketOpensOneObjectForItsLife(t *testing.T) {
	for _, mode := range []Mode{Split, LinkOnly} {
		s := newSite(t)
		v := s.vault(t, func(c *Config) { c.Mode = mode })
		one, two := detached(t, v, []byte("one")), detached(t, v, []byte("two"))
		ticket, err := v.SealTicket(one.CID, one.Fragment)
		must.Succeed(t, err)
		if strings.Contains(ticket, one.Fragment.Encode()) || strings.ContainsAny(ticket, "/?#%+=") {
			t.Error("the ticket has its fragment or a reserved character in it")
		}
		other := s.vault(t, func(c *Config) { c.Mode = mode }) // another gateway, or this one restarted
		if got, err := other.OpenTicket(t.Context(), one.CID, ticket); err != nil || got != one.Fragment {
			t.Errorf("mode %d: another fragment, error %v", mode, err)
		}
		wantErr(t, "another object's", errOf(v.OpenTicket(t.Context(), two.CID, ticket)), ErrTicket)
		s.now = s.now.Add(ticketLife - time.Second)
		wantErr(t, "shortly before its end", errOf(v.OpenTicket(t.Context(), one.CID, ticket)), nil)
		s.now = s.now.Add(time.Second)
		for _, bad := range []string{ticket, "", "x", ticket[:20]} {
			wantErr(t, "too old, or malformed", errOf(v.OpenTicket(t.Context(), one.CID, bad)), ErrTicket)
		}
	}
}

// A ticket lives longer if the clock was ahead when it was made, and shorter if it was behind.
func TestTicketsFollowTheClock(t *testing.T) {
	faults.Covers(t, 99)
	s, v := newVault(t)
	l := detached(t, v, []byte("x"))
	right := s.now
	for _, c := range []struct {
		jump time.Duration
		want error
	}{{day, nil}, {time.Hour, nil}, {-time.Hour, nil}, {-day, ErrTicket}} {
		s.now = right.Add(c.jump)
		ticket, err := v.SealTicket(l.CID, l.Fragment)
		must.Succeed(t, err)
		s.now = right
		wantErr(t, fmt.Sprintf("sealed %v off", c.jump), errOf(v.OpenTicket(t.Context(), l.CID, ticket)), c.want)
		s.now = right.Add(c.jump + ticketLife)
		wantErr(t, fmt.Sprintf("sealed %v off, after its life", c.jump), errOf(v.OpenTicket(t.Context(), l.CID, ticket)), ErrTicket)
	}
}
