package vault

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
)

// ErrKeyMissing means that the key file of an epoch is missing, although the ledger has objects of
// it and nobody has said that it was destroyed. When the file is back, the objects open again.
var ErrKeyMissing = errors.New("the key file of the epoch is missing")

// Problem is something in the data directory that the operator has to repair.
type Problem struct {
	Part  string // "keys", "ledger", "denied" or "clock"
	Err   error  // one line: what is wrong, and what to do
	Minor bool   // everything works all the same
}

// Problems finds what is wrong with the keyring, the ledger, the clock and the deny list.
func (v *Vault) Problems() []Problem {
	var all []Problem
	if err := v.missingKeys(); err != nil {
		all = append(all, Problem{Part: "keys", Err: err})
	}
	for _, err := range v.damagedKeys() {
		all = append(all, Problem{Part: "keys", Err: err})
	}
	if err := v.ledger.Readable(); err != nil {
		all = append(all, Problem{Part: "ledger", Err: err})
	}
	if err := v.clock.Trusted(); err != nil {
		all = append(all, Problem{Part: "clock", Err: err, Minor: v.clock.Check() == nil}) // mail passes
	}
	for _, p := range v.denied.Problems() {
		all = append(all, Problem{Part: "denied", Err: p.Err, Minor: p.Minor})
	}
	return all
}

// CanStore returns nil if the vault would store an attachment now, as far as its keyring and its
// clock go.
func (v *Vault) CanStore() error {
	_, err := v.keys.Epochs()
	return errors.Join(err, v.clock.Check())
}

// missingKeys returns ErrKeyMissing with the epochs of which objects cannot be opened.
func (v *Vault) missingKeys() error {
	epochs, err := v.ledger.Epochs()
	if err != nil {
		return err
	}
	var missing []crypto.Epoch
	for _, e := range epochs {
		if v.expired(e.End()) {
			continue
		}
		switch err := v.keys.Check(e); {
		case err == nil || errors.Is(err, keyring.ErrDestroyed) || errors.Is(err, keyring.ErrDamaged):
		case errors.Is(err, keyring.ErrNoEpoch):
			missing = append(missing, e)
		default:
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return keyMissing(missing...)
}

// damagedKeys returns an error for each key file that is damaged.
func (v *Vault) damagedKeys() (all []error) {
	epochs, err := v.keys.Epochs()
	if err != nil {
		return []error{err}
	}
	for _, e := range epochs {
		if err := v.keys.Check(e); errors.Is(err, keyring.ErrDamaged) {
			all = append(all, err)
		}
	}
	return all
}

// keyDamaged is the error for an object whose key file is there and damaged. For its readers that
// is as if the file were missing: the operator can put the right one back.
func keyDamaged(err error) error { return fmt.Errorf("%w: %w", ErrKeyMissing, err) }

// maxNamed bounds the files that one message names.
const maxNamed = 10

func keyMissing(epochs ...crypto.Epoch) error {
	var files []string
	for _, e := range epochs[:min(maxNamed, len(epochs))] {
		files = append(files, "keys/"+string(e)+".key")
	}
	more := ""
	if len(epochs) > maxNamed {
		more = fmt.Sprintf(" and %d more", len(epochs)-maxNamed)
	}
	return fmt.Errorf("%w: put %s%s back, so that the links of the epoch open again; if it is lost for good, create an empty file keys/destroyed/EPOCH/all",
		ErrKeyMissing, strings.Join(files, ", "), more)
}
