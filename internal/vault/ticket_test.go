package vault

import (
	"errors"
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
			t.Error("the ticket shows its fragment, or does not fit into a path")
		}
		other := s.vault(t, func(c *Config) { c.Mode = mode }) // another gateway, or this one restarted
		if got, err := other.OpenTicket(one.CID, ticket); err != nil || got != one.Fragment {
			t.Errorf("mode %d: another fragment, error %v", mode, err)
		}
		if _, err := v.OpenTicket(two.CID, ticket); !errors.Is(err, ErrTicket) {
			t.Errorf("another object's: got %v, want ErrTicket", err)
		}
		s.now = s.now.Add(ticketLife - time.Second)
		if _, err := v.OpenTicket(one.CID, ticket); err != nil {
			t.Errorf("shortly before its end: %v", err)
		}
		s.now = s.now.Add(time.Second)
		for _, bad := range []string{ticket, "", "x", ticket[:20]} {
			if _, err := v.OpenTicket(one.CID, bad); !errors.Is(err, ErrTicket) {
				t.Errorf("too old, or malformed: got %v, want ErrTicket", err)
			}
		}
	}
}

// A ticket made under a clock that is ahead lives longer by that much. One made under a clock that
// is behind is too old when the clock is set right, and the link makes another.
func TestTicketsFollowTheClock(t *testing.T) {
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
		must.Succeed(t, err)
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
