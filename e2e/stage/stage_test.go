package stage

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

func TestMain(m *testing.M) { Main(m) }

// A client that stays is seen as a leak.
func TestLeaksAreSeen(t *testing.T) {
	faults.Covers(t, 102)
	d := Serve(t, Setup{})
	c := servers.Connect(t, d.Proxy)
	_, noProc := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.Pid())) // only root may read it
	servers.Eventually(t, servers.Patience, "the session to be seen", func() bool {
		now := d.Holds(t)
		return now.Goroutines > d.atStart.Goroutines && (noProc != nil || now.Files >= d.atStart.Files+2)
	})
	if d.atStart.Goroutines == 0 {
		t.Error("an idle detach has no goroutine")
	}
	Must(t, c.Close())
}

// A secret in any log of a run of tests is found, except an address in Postfix's log. A run that
// had no secret of a kind is reported.
func TestSecretInALogIsFound(t *testing.T) {
	faults.Covers(t, 82)
	for _, test := range []struct {
		kind        Kind
		secret      string
		server, log string
		kinds       []Kind
		want        []string
	}{
		{KeySecret, "f00d", "detach", "a line\nkey=f00d\n", nil, []string{`key in the log of detach: "key=f00d"`}},
		{KeySecret, "f00d", "detach", "a line\n", nil, nil},
		{AddressSecret, "a@b.example", "postfix", "to a@b.example", nil, nil},
		{AddressSecret, "a@b.example", "detach", "to a@b.example", nil, []string{`address in the log of detach: "to a@b.example"`}},
		{NameSecret, "a.b", "detach", "a.b", nil, nil}, // too short to be told from a chance word
		{KeySecret, "f00d", "detach", "a line", []Kind{KeySecret, TicketSecret}, []string{
			"the logs were searched for no ticket: these tests used none, or logged nothing"}},
	} {
		n := notes{secrets: make(map[string]Kind)}
		n.keepSecret(test.kind, test.secret)
		n.keepLog(test.server, test.log)
		if got := n.search(test.kinds); !slices.Equal(got, test.want) {
			t.Errorf("%s %q in %q of %s: got %q, want %q", test.kind, test.secret, test.log, test.server, got, test.want)
		}
	}
}
