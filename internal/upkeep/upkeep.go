package upkeep

import (
	"context"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/denied"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// Keyring holds the secrets of the epochs, and what was destroyed of them. Package
// crypto/keyring says what its methods do, and has their errors: ErrNoEpoch, ErrDestroyed,
// ErrForeign, ErrNoExtension.
type Keyring interface {
	Writer(crypto.Period) (crypto.Epoch, error)
	Epochs() ([]crypto.Epoch, error)
	Check(crypto.Epoch) error
	Destroyed(e crypto.Epoch, core cid.Cid) (bool, error)
	DestroyedIn(e crypto.Epoch) (func(core cid.Cid) bool, error)
	Destroy(e crypto.Epoch, cores ...cid.Cid) error
	End(crypto.Epoch) error
	Apply() error
	Extend(root, core cid.Cid, old, new crypto.Epoch, link bool, b crypto.Share) error
	Extended(core cid.Cid) ([]crypto.Epoch, error)
}

// Vault opens and deletes objects: see package vault.
type Vault interface {
	Object(context.Context, cid.Cid) (*vault.Object, error)
	Prove(*object.Sealed) (crypto.Epoch, error)
	Identify(context.Context, cid.Cid) (ledger.Entry, error)
	Destroyed(ledger.Entry) (bool, error)
	Delete(ctx context.Context, entries []ledger.Entry, destroy func() (done []ledger.Entry, err error)) error
	Recover(context.Context) ([]cid.Cid, error)
	Pending() (map[cid.Cid]bool, error)
	Abandoned() ([]string, error)
}

// Ledger lists what is stored: see package ledger.
type Ledger interface {
	Append(...ledger.Entry) error
	Forget(...ledger.Entry) error
	Remove(crypto.Epoch) error

	Epochs() ([]crypto.Epoch, error)
	All(take func(ledger.Entry) error) error
	Each(e crypto.Epoch, take func(ledger.Entry) error) error
	Find(...cid.Cid) ([]ledger.Entry, error)
	OfMails(ids ...string) ([]ledger.Entry, error)
	Lookup(cid.Cid) (rec ledger.Record, ok bool, err error)

	Sweep(ctx context.Context, e crypto.Epoch, note bool, take func(ledger.Entry) error) error
	Swept(crypto.Epoch) (bool, error)

	// The index in memory, for a look at every object. CatchUp brings it up to date.
	CatchUp() error
	Size() int
	Indexed(cid.Cid) bool
	Lags(cid.Cid, crypto.Epoch) bool
}

// DenyList is what was revoked: see package denied.
type DenyList interface {
	Content() (denied.Content, error)
	Append(map[cid.Cid]denied.Ruling) error
	Mend(...cid.Cid) error
	Path() string
}

// Clock is the machine's time. Trusted returns an error if nothing may be ended by it.
type Clock interface {
	Now() time.Time
	// Latest returns the time or, if the clock is behind the newest recorded time, that one.
	Latest() time.Time
	Trusted() error
}

// Deps are what a Keeper works with. All of them belong to one installation.
type Deps struct {
	Vault  Vault
	Store  ipfs.Store
	Keys   Keyring
	Ledger Ledger
	Denied DenyList
	Clock  Clock
}

// Keeper works on all that an installation has stored. It is safe for concurrent use, and several
// processes may each have one.
type Keeper struct {
	vault  Vault
	store  ipfs.Store
	keys   Keyring
	ledger Ledger
	denied DenyList
	clock  Clock
}

// New returns a Keeper. The caller closes the store.
func New(d Deps) *Keeper {
	return &Keeper{vault: d.Vault, store: d.Store, keys: d.Keys, ledger: d.Ledger, denied: d.Denied, clock: d.Clock}
}

func (k *Keeper) expired(t time.Time) bool { return !t.IsZero() && !k.clock.Now().Before(t) }
