// Package life takes files through their whole life, with a clock that the test moves: stored,
// downloaded, expired, revoked, given back, extended, destroyed and swept. An attacker who has a copy
// of everything but the destroyed secrets opens nothing that was destroyed.
package life

import (
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

func TestMain(m *testing.M) {
	stage.MainWithClock(m, stage.FragmentSecret, stage.TicketSecret, stage.NameSecret)
}
