// Package load weighs Detach: its memory stays small with large mails, crowds of clients and
// downloads, and many mails one after the other. Nothing else should run beside these tests.
package load

import (
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

func TestMain(m *testing.M) {
	stage.Main(m, stage.FragmentSecret, stage.TicketSecret, stage.NameSecret, stage.SubjectSecret, stage.AddressSecret)
}
