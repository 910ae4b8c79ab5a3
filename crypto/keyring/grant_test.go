package keyring

import (
	"errors"
	"os"
	"testing"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func TestGrantIsThatOfTheExtensionInTheSameMode(t *testing.T) {
	r, old, to, b := extendedScene(t)
	check := func(when string, link bool, wantEpoch crypto.Epoch, want crypto.Share) {
		t.Helper()
		g, err := r.Grant(coreAt(98), coreAt(3), old, link)
		must.Succeed(t, err)
		if got, err := g.Share(); err != nil || got != want || g.Epoch != wantEpoch || g.Extended != (wantEpoch == to) {
			t.Errorf("%s, link %v: got %s, extended %v, error %v; want %s", when, link, g.Epoch, g.Extended, err, wantEpoch)
		}
	}
	check("stored", false, old, b)
	check("stored", true, old, crypto.ZeroShare())
	must.Succeed(t, r.Extend(coreAt(98), coreAt(3), old, to, false, b))
	check("extended", false, to, b)
	check("extended", true, old, crypto.ZeroShare())
	must.Succeed(t, r.End(old))
	check("its own epoch ended", false, to, b)
	must.Succeed(t, r.End(to))
	g, err := r.Grant(coreAt(98), coreAt(3), old, false)
	must.Succeed(t, err)
	if _, err := g.Share(); !errors.Is(err, ErrDestroyed) || g.Epoch != old || g.Extended {
		t.Errorf("all ended: got %s, extended %v, error %v, want ErrDestroyed", g.Epoch, g.Extended, err)
	}
}

func TestDamagedRecordLeavesTheGrantOfTheObjectsEpoch(t *testing.T) {
	r, old, to, b := extendedScene(t)
	must.Succeed(t, r.Extend(coreAt(98), coreAt(3), old, to, false, b))
	must.Succeed(t, os.Truncate(r.records.path(to, coreAt(3)), 20))
	g, err := r.Grant(coreAt(98), coreAt(3), old, false)
	if !errors.Is(err, errExtension) {
		t.Errorf("got %v, want the error of the record", err)
	}
	if got, err := g.Share(); err != nil || got != b || g.Epoch != old || g.Extended {
		t.Errorf("got %s, extended %v, error %v, want %s", g.Epoch, g.Extended, err, old)
	}
}
