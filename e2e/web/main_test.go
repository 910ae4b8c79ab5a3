// Package web opens links in real browsers, as recipients do. In every state and language and on
// every screen the page says what is wrong, and the browser downloads, decrypts and shows the right
// file.
package web

import (
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

func TestMain(m *testing.M) {
	stage.Main(m, stage.FragmentSecret, stage.TicketSecret, stage.NameSecret, stage.SubjectSecret, stage.AddressSecret)
}

// files is the policy for detaching everything and nothing else.
const files = "min_size = \"1\"\nrestore = false"

// serve starts a Detach for files that are put into it without a mail server.
func serve(t *testing.T) *stage.Detach {
	t.Helper()
	return stage.Serve(t, stage.Setup{Policy: files})
}

// wireTo returns a wire to the gateway.
func wireTo(t *testing.T, d *stage.Detach) *stage.Wire {
	t.Helper()
	return stage.NewWire(t, strings.TrimPrefix(d.URL, "http://"))
}

// through returns a link's URL through a wire.
func through(w *stage.Wire, l stage.Link) string {
	return "http://" + w.Addr + l.URL[strings.Index(l.URL, "/baf"):]
}
