// Package crash kills Detach, its client, its next hop or its store in each state of a mail, and takes
// descriptors, disk and permissions from Detach. No mail is lost or delivered in part, and no object
// stays that no mail needs.
package crash

import (
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

func TestMain(m *testing.M) {
	stage.Main(m, stage.FragmentSecret, stage.TicketSecret, stage.AddressSecret)
}
