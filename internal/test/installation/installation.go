// Package installation opens the parts of an installation for tests, as detach does.
package installation

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/clock"
	"github.com/nkirchhoffer/detach-mta/internal/denied"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/upkeep"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// Open opens a vault and its upkeep in a data directory. It sets the Pending of cfg. If now
// is nil, the time is the machine's.
func Open(t testing.TB, dir string, cfg vault.Config, store ipfs.Store, keys *keyring.Keyring, now func() time.Time) (*vault.Vault, *upkeep.Keeper) {
	t.Helper()
	index, err := ledger.Open(filepath.Join(dir, "ledger"))
	must.Succeed(t, err)
	list := denied.New(filepath.Join(dir, "denied"), slog.New(slog.DiscardHandler))
	if now == nil {
		now = time.Now
	}
	past := func() (time.Time, error) { return vault.LastKnown(index, keys, now()) }
	watch := clock.New(filepath.Join(dir, "clock"), clock.Config{Now: now}, past)
	cfg.Pending = filepath.Join(dir, "pending")
	v, err := vault.New(cfg, vault.Deps{Store: store, Keys: keys, Ledger: index, Denied: list, Clock: watch})
	must.Succeed(t, err)
	return v, upkeep.New(upkeep.Deps{Vault: v, Store: store, Keys: keys, Ledger: index, Denied: list, Clock: watch})
}
