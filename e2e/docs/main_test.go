// Package docs follows the guides of docs/ to the letter. It runs what they print, with other ports
// and folders.
package docs

import (
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

func TestMain(m *testing.M) {
	stage.Main(m, stage.FragmentSecret, stage.TicketSecret, stage.NameSecret, stage.SubjectSecret, stage.AddressSecret)
}
