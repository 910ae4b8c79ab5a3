package vault

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
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
	BaseURL string           // what links begin with: https://HOST[/prefix]
	Mode    Mode             // of new objects; stored objects keep theirs
	Now     func() time.Time // nil: time.Now
	Uptime  func() Uptime    // nil: MachineUptime
	Spools  *spool.Space     // memory and disk for what is being stored; nil: no limit
	Log     *slog.Logger     // of what the operator should correct; nil: none
	// Escrow seals the key of each new object for the operator: see [crypto.Key.SealEscrow]. Nil:
	// only the link and the keyring together open a file.
	Escrow func(crypto.Key) ([]byte, error)
}

// Vault is safe for concurrent use, and several processes may share its directory.
type Vault struct {
	cfg     Config
	store   ipfs.Store
	keys    Keyring
	ledger  *ledger
	denied  *denyList
	foreign *recent.Set[cid.Cid] // objects in the store that are not ours
	lane    *lane
	pending pendingDir
	clock   *clock
}

// New opens the vault in dataDir, which holds the ledger, the deny list and the records of pending
// batches. The caller closes the store and the keyring.
func New(cfg Config, store ipfs.Store, keys Keyring, dataDir string) (*Vault, error) {
	base, err := link.ParseBase(cfg.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("base URL of the links: %w", err)
	}
	cfg.BaseURL = base
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Uptime == nil {
		cfg.Uptime = MachineUptime
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ledger, err := openLedger(filepath.Join(dataDir, "ledger"))
	if err != nil {
		return nil, err
	}
	pending, err := openPending(filepath.Join(dataDir, "pending"))
	if err != nil {
		return nil, err
	}
	v := &Vault{
		cfg: cfg, store: store, keys: keys, ledger: ledger, denied: newDenyList(filepath.Join(dataDir, deniedName), cfg.Log),
		foreign: recent.NewSet[cid.Cid](maxForeign, foreignTime), lane: newLane(), pending: pending,
	}
	v.clock = &clock{path: filepath.Join(dataDir, "clock"), now: cfg.Now, uptime: cfg.Uptime, past: v.lastKnown}
	return v, nil
}

func (v *Vault) expired(t time.Time) bool { return !t.IsZero() && !v.cfg.Now().Before(t) }
