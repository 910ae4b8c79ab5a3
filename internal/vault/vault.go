package vault

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/internal/recent"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// The errors that callers tell apart. Some are of lower packages: one condition has one error.
var (
	ErrNotFound    = ipfs.ErrNotFound    // not in the store, or not ours
	ErrUnavailable = ipfs.ErrUnavailable // the store cannot be reached; trying later may help
	ErrCorrupt     = ipfs.ErrCorrupt     // the stored object is damaged or malformed
	ErrWrongKey    = crypto.ErrWrongKey  // the fragment does not open this object
	ErrExpired     = object.ErrExpired
	ErrRevoked     = errors.New("attachment was revoked")
	ErrTicket      = errors.New("ticket is invalid or too old")
)

// Mode says what opens a file.
type Mode int

const (
	Split    Mode = iota // the link and this installation
	LinkOnly             // the link alone, even when no gateway is left
)

// Config configures a Vault.
type Config struct {
	BaseURL string       // what links begin with: https://HOST[/prefix]
	Mode    Mode         // of new objects; stored objects keep theirs
	Pending string       // the directory of the records of what is being stored
	Spools  *spool.Space // memory and disk for what is being stored; nil: no limit
	Log     *slog.Logger // of what the operator should correct; nil: none
	// Escrow seals the key of each new object for the operator: see [crypto.Key.SealEscrow]. Nil:
	// only the link and the keyring together open a file.
	Escrow func(crypto.Key) ([]byte, error)
}

// Deps are what a Vault works with. The caller closes the store.
type Deps struct {
	Store  ipfs.Store
	Keys   Keyring
	Ledger Ledger
	Denied DenyList
	Clock  Clock
}

// Vault is safe for concurrent use, and several processes may share its directory.
type Vault struct {
	cfg     Config
	store   ipfs.Store
	keys    Keyring
	ledger  Ledger
	denied  DenyList
	foreign *recent.Set[cid.Cid] // objects in the store that are not ours
	told    *recent.Set[string]  // errors of the ledger that were logged
	lane    *lane
	pending pendingDir
	clock   Clock
}

// New returns a vault, and makes the directory of the records of pending batches if there is none.
func New(cfg Config, d Deps) (*Vault, error) {
	base, err := link.ParseBase(cfg.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("base URL of the links: %w", err)
	}
	cfg.BaseURL = base
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	pending, err := openPending(cfg.Pending)
	if err != nil {
		return nil, err
	}
	return &Vault{
		cfg: cfg, store: d.Store, keys: d.Keys, ledger: d.Ledger, denied: d.Denied, clock: d.Clock,
		foreign: recent.NewSet[cid.Cid](maxForeign, foreignTime), told: recent.NewSet[string](maxTold, toldTime),
		lane: newLane(), pending: pending,
	}, nil
}

const (
	// toldTime is how long an error of the ledger is not logged again: each unknown link meets it.
	toldTime = time.Minute
	maxTold  = 16
)

func (v *Vault) expired(t time.Time) bool { return !t.IsZero() && !v.clock.Now().Before(t) }
