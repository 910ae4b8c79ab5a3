// Package mail sends mails through Detach between two real Postfixes. Each arrives, with links that
// open; everything else arrives byte for byte; and what was detached can be restored.
package mail

import (
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

func TestMain(m *testing.M) {
	stage.Main(m, stage.FragmentSecret, stage.ShareSecret, stage.KeySecret, stage.TicketSecret,
		stage.NameSecret, stage.SubjectSecret, stage.AddressSecret)
}
