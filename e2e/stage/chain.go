package stage

import (
	"slices"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// Store is the store of a test: a real kubo, or the embedded store if Kubo is nil.
type Store struct{ Kubo *servers.KuboNode }

// OnEachStore runs a test with the embedded store and with a real kubo.
func OnEachStore(t *testing.T, test func(t *testing.T, s Store)) {
	t.Run("embedded", func(t *testing.T) { test(t, Store{}) })
	t.Run("kubo", func(t *testing.T) { test(t, Store{servers.Kubo(t)}) })
}

// Name returns the store's kind.
func (s Store) Name() string {
	if s.Kubo == nil {
		return "embedded"
	}
	return "kubo"
}

// API returns the RPC's address, empty for the embedded store.
func (s Store) API() string {
	if s.Kubo == nil {
		return ""
	}
	return s.Kubo.API()
}

// Pins returns kubo's recursive pins, sorted. The embedded store has no pins.
func (s Store) Pins() []string {
	if s.Kubo == nil {
		return nil
	}
	return slices.Sorted(slices.Values(s.Kubo.Pins()))
}

// Chain is the whole way of a mail: front Postfix, detach, after-filter Postfix, mailbox.
type Chain struct {
	*Detach
	Postfix *servers.Postfix
	Box     *servers.Mailbox
}

// StartChain starts a chain whose Postfixes treat bare newlines as bareNewline says
// (smtpd_forbid_bare_newline).
func StartChain(t servers.T, kubo, bareNewline string) *Chain {
	t.Helper()
	box, proxy := servers.NewMailbox(t), servers.FreeAddr(t)
	pf := StartPostfix(t, servers.PostfixConfig{Filter: proxy, Destination: box.Addr, ForbidBareNewline: bareNewline})
	d := Serve(t, Setup{Listen: proxy, Reinject: pf.After, Kubo: kubo, Policy: "min_size = \"1\"\nmax_size = \"4GiB\""})
	return &Chain{d, pf, box}
}

// StartPostfix starts a Postfix that is responsible for the recipient of our mails.
func StartPostfix(t servers.T, cfg servers.PostfixConfig) *servers.Postfix {
	t.Helper()
	cfg.Domain, cfg.Users = Domain, []string{"wilhelmina"}
	pf := servers.StartPostfix(t, cfg)
	t.Cleanup(func() { KeepLog("postfix", pf.Log()) })
	return pf
}

// Deliver sends a mail to the front and returns what arrived in the mailbox, without the Postfixes'
// trace fields.
func (c *Chain) Deliver(t servers.T, mail string) []byte {
	t.Helper()
	reply := servers.Send(t, c.Postfix.Front, "", Message(mail))
	id := servers.QueueID(reply)
	if id == "" {
		t.Fatalf("the sender got %q, want the queue id of the Postfix behind", reply)
	}
	stripped, err := servers.StripTrace(c.Box.Wait(t, id).Data, 2)
	Must(t, err)
	return stripped
}
