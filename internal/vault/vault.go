package vault

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// Errors that a caller has to tell apart. Some are those of lower packages, so that one name stands
// for one condition wherever it was found.
var (
	ErrNotFound    = ipfs.ErrNotFound    // not in the ledger, or lost by the store
	ErrUnavailable = ipfs.ErrUnavailable // the store cannot be reached: trying later may help
	ErrCorrupt     = ipfs.ErrCorrupt     // the store gave other bytes than were stored
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

// Config is what a Vault needs to know.
type Config struct {
	BaseURL   string           // what links begin with: https://HOST[/prefix]
	Mode      Mode             // of what is stored from now on; stored objects keep theirs
	Retention time.Duration    // how long files are served; 0: for ever
	Now       func() time.Time // nil: time.Now
	Memory    *memory.Budget   // for reading mails ahead of the store; nil: no limit
}

// Vault is safe for concurrent use, and several processes may share its directory.
type Vault struct {
	cfg     Config
	store   ipfs.Store
	keys    *crypto.Keyring
	ledger  *ledger
	denied  *denyList
	pending pendingDir
}

// New opens the vault in dataDir, which holds the ledger, the deny list and the records of pending
// batches. The caller closes the store and the keyring.
func New(cfg Config, store ipfs.Store, keys *crypto.Keyring, dataDir string) (*Vault, error) {
	base, err := link.ParseBase(cfg.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("base URL of the links: %w", err)
	}
	cfg.BaseURL = base
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Retention < 0 {
		return nil, errors.New("retention is negative: want 0, for ever, or a period")
	}
	ledger, err := openLedger(filepath.Join(dataDir, "ledger"))
	if err != nil {
		return nil, err
	}
	denied, err := openDenyList(filepath.Join(dataDir, "denied"))
	if err != nil {
		return nil, err
	}
	pending, err := openPending(filepath.Join(dataDir, "pending"))
	if err != nil {
		return nil, err
	}
	return &Vault{cfg: cfg, store: store, keys: keys, ledger: ledger, denied: denied, pending: pending}, nil
}

// epoch returns the epoch of what is stored at t. It is a day where files expire, so that a day's
// secret can be destroyed as soon as its last file has expired.
func (v *Vault) epoch(t time.Time) crypto.Epoch {
	return crypto.EpochOf(t, v.cfg.Mode == Split && v.cfg.Retention > 0)
}

// expires returns when an object of that time ends; zero for never.
func (v *Vault) expires(created time.Time) time.Time {
	if v.cfg.Retention == 0 {
		return time.Time{}
	}
	return created.Add(v.cfg.Retention)
}

func (v *Vault) expired(t time.Time) bool { return !t.IsZero() && !v.cfg.Now().Before(t) }
