// Package docs runs the commands and configurations of the guides in docs/, with other ports and
// folders.
package docs

import (
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

func TestMain(m *testing.M) {
	stage.Main(m, stage.FragmentSecret, stage.TicketSecret, stage.NameSecret, stage.SubjectSecret, stage.AddressSecret)
}
