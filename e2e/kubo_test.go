package e2e

import (
	"bytes"
	"slices"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// store is where a test's attachments go: a real kubo, or the embedded store if kubo is nil.
type store struct{ kubo *servers.KuboNode }

func startKubo(t *testing.T) store {
	t.Helper()
	return store{servers.Kubo(t)}
}

func (s store) name() string {
	if s.kubo == nil {
		return "embedded"
	}
	return "kubo"
}

// api is the RPC's address, empty for the embedded store.
func (s store) api() string {
	if s.kubo == nil {
		return ""
	}
	return s.kubo.API()
}

// ipfs runs one of kubo's own commands.
func (s store) ipfs(stdin []byte, args ...string) []byte {
	return []byte(s.kubo.RunInput(bytes.NewReader(stdin), args...))
}

// pins are the recursive pins, sorted.
func (s store) pins() []string {
	pins := s.kubo.Pins()
	slices.Sort(pins)
	return pins
}
