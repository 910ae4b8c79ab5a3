// Package crash kills Detach, its client, its next hop or its store in each state that a mail can
// be in, and takes from Detach what it needs to run. No mail is lost or delivered in part, and
// nothing stays that nobody needs.
package crash

import (
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

func TestMain(m *testing.M) {
	stage.Main(m, stage.FragmentSecret, stage.TicketSecret, stage.AddressSecret)
}
