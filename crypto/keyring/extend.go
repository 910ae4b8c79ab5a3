package keyring

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

// ErrNoExtension says that the object was not extended, or that the epoch it was extended into is
// gone.
var ErrNoExtension = errors.New("the object was not extended")

// Extend makes a record that gives the object with this root and core, of the epoch old, the end of
// a later epoch. b is the object's share, which the record holds under a key of the new epoch. It
// returns ErrDestroyed if the object was destroyed, and ErrNoEpoch if the new epoch has no secret.
func (r *Keyring) Extend(root, core cid.Cid, old, to crypto.Epoch, link bool, b crypto.Share) error {
	if _, err := crypto.ParseEpoch(string(old)); err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	if len(root.Bytes()) != cidSize || len(b.Bytes()) != crypto.SecretSize {
		return errors.New("extend: the root or the share is absent")
	}
	unlock, err := r.keys.lock(changeLock) // Destroy looks for records under the lock
	if err != nil {
		return err
	}
	defer unlock()
	if gone, err := r.marks.has(old, core.String()); err != nil {
		return err
	} else if gone {
		return ErrDestroyed
	}
	x, err := r.records.seal(to, core, extension{root: root.Bytes(), old: old, link: link}, b)
	if err != nil {
		return err
	}
	if err := r.records.write(to, core, x); err != nil {
		return fmt.Errorf("extend: %w", durable.WithRemedy(err, r.dir))
	}
	return nil
}

// Extended returns the epochs that an object with this core was extended into, the latest end
// first. Their key files may be missing here, or destroyed.
func (r *Keyring) Extended(core cid.Cid) ([]crypto.Epoch, error) { return r.records.epochs(core) }

// Extension returns the epoch with the latest end that the object of the epoch old was extended into
// and whose key file is here, the object's mode, and its share. It returns ErrNoExtension if there is
// none, or if the object was destroyed, and another error if no record can be used.
func (r *Keyring) Extension(root, core cid.Cid, old crypto.Epoch) (to crypto.Epoch, link bool, b crypto.Share, err error) {
	epochs, err := r.records.epochs(core)
	if err != nil {
		return "", false, crypto.Share{}, err
	}
	result := ErrNoExtension
	for _, e := range epochs {
		link, b, err := r.records.open(e, root, core, old)
		switch {
		case err == nil:
			return e, link, b, nil
		case !errors.Is(err, ErrNoExtension) && !errors.Is(err, ErrNoEpoch):
			result = err // another record may open
		}
	}
	return "", false, crypto.Share{}, result
}
