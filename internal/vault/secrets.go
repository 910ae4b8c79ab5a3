package vault

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

// ErrKeyMissing means that the secret of an epoch is not in the keyring, although objects need it
// and nobody has said that it was destroyed. When the key file is back, the objects open again.
var ErrKeyMissing = errors.New("the secret of the epoch is missing")

// Problem is something in the data directory that the operator has to repair.
type Problem struct {
	Part  string // "keys" or "denied"
	Err   error  // one line: what is wrong, and what to do
	Minor bool   // everything works all the same
}

// Problems finds what is wrong with the keyring and with the deny list.
func (v *Vault) Problems() []Problem {
	var all []Problem
	if err := v.missingKeys(); err != nil {
		all = append(all, Problem{Part: "keys", Err: err})
	}
	return append(all, v.denied.problems()...)
}

// CanStore returns nil if the vault would store an attachment now, as far as its secrets go.
func (v *Vault) CanStore() error {
	if v.cfg.Mode == LinkOnly {
		return nil
	}
	return v.mayEnsure(v.epoch(v.cfg.Now()))
}

// missingKeys returns ErrKeyMissing with the epochs of which objects cannot be opened.
func (v *Vault) missingKeys() error {
	files, err := v.ledger.files()
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	var missing []crypto.Epoch
	for e := range files {
		if err := v.keys.Check(e); err == nil || errors.Is(err, crypto.ErrDestroyed) {
			continue
		} else if !errors.Is(err, crypto.ErrNoEpoch) {
			return err
		}
		d, err := v.ledger.demand(e)
		if err != nil {
			return err
		}
		if d.at(v.cfg.Now()) {
			missing = append(missing, e)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return keyMissing(missing...)
}

func keyMissing(epochs ...crypto.Epoch) error {
	var files []string
	for _, e := range epochs[:min(maxNamed, len(epochs))] {
		files = append(files, "keys/"+string(e)+".key")
	}
	more := ""
	if len(epochs) > maxNamed {
		more = fmt.Sprintf(" and %d more", len(epochs)-maxNamed)
	}
	return fmt.Errorf("%w: put %s%s back, so that the links of the epoch open again; if it is lost for good, create a file keys/EPOCH.destroyed",
		ErrKeyMissing, strings.Join(files, ", "), more)
}

// ensure makes the secret of an epoch in which nothing was stored yet.
func (v *Vault) ensure(e crypto.Epoch) error {
	if err := v.mayEnsure(e); err != nil {
		return err
	}
	return v.keys.Ensure(e)
}

// mayEnsure returns nil if the epoch has its secret, or if a new one can harm no object. A new
// secret in the place of one that is only missing would break the links of one of the two forever.
// If the whole keyring is missing, perhaps because its file system is not mounted, no epoch gets a
// new secret.
func (v *Vault) mayEnsure(e crypto.Epoch) error {
	err := v.keys.Check(e)
	switch {
	case err == nil || errors.Is(err, crypto.ErrDestroyed):
		return nil
	case !errors.Is(err, crypto.ErrNoEpoch):
		return err
	}
	if d, err := v.ledger.demand(e); err != nil {
		return err
	} else if d.any {
		return keyMissing(e)
	}
	if empty, err := v.keys.Empty(); err != nil || !empty {
		return err
	}
	return v.missingKeys()
}
