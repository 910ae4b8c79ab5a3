package keyring

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

var ticketTime = time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC)

func TestTicketsOpenForTheirObjectAndDayAlone(t *testing.T) {
	r, e := newTestKeyring(t)
	aad, plain := []byte("cid"), []byte("fragment and time")
	ticket, err := r.SealTicket(e, ticketTime, plain, aad)
	must.Succeed(t, err)
	if !strings.HasPrefix(ticket, string(e)+".2026-11-30.") || strings.Trim(ticket, "0123456789-_.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		t.Errorf("ticket %q would be escaped in a path", ticket)
	}
	other, err := Open(r.dir) // another gateway
	must.Succeed(t, err)
	for days, want := range map[int]error{-2: ErrTicket, -1: nil, 0: nil, 1: nil, 2: ErrTicket} {
		got, err := other.OpenTicket(ticket, ticketTime.AddDate(0, 0, days), aad)
		if !errors.Is(err, want) || want == nil && !bytes.Equal(got, plain) {
			t.Errorf("%d days later: got %q, %v, want %v", days, got, err, want)
		}
	}
	if again, err := r.SealTicket(e, ticketTime, plain, aad); err != nil || again == ticket {
		t.Errorf("two tickets are equal, error %v", err)
	}
	if _, err := r.OpenTicket(ticket, ticketTime, []byte("cie")); !errors.Is(err, ErrTicket) {
		t.Errorf("for another object: got %v, want ErrTicket", err)
	}
	moved := strings.Replace(ticket, "2026-11-30", "2026-11-29", 1)
	if _, err := r.OpenTicket(moved, ticketTime, aad); !errors.Is(err, ErrTicket) {
		t.Errorf("moved to another day: got %v, want ErrTicket", err)
	}
	for i := range ticket {
		altered := []byte(ticket)
		altered[i] ^= 1
		if _, err := r.OpenTicket(string(altered), ticketTime, aad); err == nil {
			t.Errorf("opens with character %d altered", i)
		}
		if _, err := r.OpenTicket(ticket[:i], ticketTime, aad); !errors.Is(err, ErrTicket) {
			t.Errorf("cut at %d: got %v, want ErrTicket", i, err)
		}
	}
	head := string(e) + ".2026-11-30."
	for _, s := range []string{"", ".", "...", "../x.AAAA", head, head + "=", head + strings.Repeat("A", 1<<20), head + "AAAA.AAAA"} {
		if _, err := r.OpenTicket(s, ticketTime, aad); !errors.Is(err, ErrTicket) {
			t.Errorf("%.40q: got %v, want ErrTicket", s, err)
		}
	}
	must.Succeed(t, r.End(e))
	if _, err := r.OpenTicket(ticket, ticketTime, aad); !errors.Is(err, ErrNoEpoch) {
		t.Errorf("secret destroyed: got %v, want ErrNoEpoch", err)
	}
}

func TestTicketMovedToAnotherEpochDoesNotOpen(t *testing.T) {
	r, e := newTestKeyring(t)
	other, err := r.Writer("2028-01-01")
	must.Succeed(t, err)
	ticket, err := r.SealTicket(e, ticketTime, []byte("x"), nil)
	must.Succeed(t, err)
	if _, err := r.OpenTicket(strings.Replace(ticket, string(e), string(other), 1), ticketTime, nil); !errors.Is(err, ErrTicket) {
		t.Errorf("got %v, want ErrTicket", err)
	}
}
