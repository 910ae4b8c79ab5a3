package vault

import (
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/denied"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
)

// Keyring holds the secrets of the epochs, and what was destroyed of them. Package
// crypto/keyring says what its methods do, and has their errors: ErrNoEpoch, ErrDestroyed,
// ErrForeign, ErrNoExtension.
type Keyring interface {
	Writer(crypto.Period) (crypto.Epoch, error)
	Epochs() ([]crypto.Epoch, error)
	Check(crypto.Epoch) error
	Share(e crypto.Epoch, core cid.Cid) (crypto.Share, error)
	SealOrigin(e crypto.Epoch, core cid.Cid, f crypto.Fragment, k crypto.Key) (crypto.Origin, error)
	CheckOrigin(e crypto.Epoch, core cid.Cid, o crypto.Origin) error
	Destroyed(e crypto.Epoch, core cid.Cid) (bool, error)
	Extension(root, core cid.Cid, old crypto.Epoch) (new crypto.Epoch, link bool, b crypto.Share, err error)
	Grant(root, core cid.Cid, e crypto.Epoch, link bool) (keyring.Grant, error)
	SealTicket(e crypto.Epoch, day time.Time, plain, aad []byte) (string, error)
	OpenTicket(ticket string, now time.Time, aad []byte) ([]byte, error)
}

// Ledger is the index of what is stored: see package ledger.
type Ledger interface {
	// Append and Forget return when the entries are on disk.
	Append(entries ...ledger.Entry) error
	Forget(entries ...ledger.Entry) error
	// Lookup finds an object, also if another process has just appended it.
	Lookup(cid.Cid) (rec ledger.Record, ok bool, err error)
	// Known is Lookup, but finds the objects of Remember too.
	Known(cid.Cid) (rec ledger.Record, ok bool, err error)
	Remember(cid.Cid, ledger.Record)
	// Epochs returns the epochs that have objects, sorted.
	Epochs() ([]crypto.Epoch, error)
	// Readable returns an error if entries cannot be read.
	Readable() error
}

// DenyList says what is revoked. While it cannot say so, Has returns an error, and nothing is
// served.
type DenyList interface {
	Has(cid.Cid) (bool, error)
	Problems() []denied.Problem
}

// Clock is the machine's time, and what it is good for. Check and Trusted return an error if nothing
// may be stored, or ended, by this time.
type Clock interface {
	Now() time.Time
	Check() error
	Trusted() error
}
