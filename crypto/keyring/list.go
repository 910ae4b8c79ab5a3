package keyring

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

// DestroyedIn returns what Destroyed says now about the objects of an epoch, for lists: it reads
// the marks and the key file once. A core that no object can have counts as not destroyed.
func (r *Keyring) DestroyedIn(e crypto.Epoch) (func(core cid.Cid) bool, error) {
	names, err := readNames(r.marks.folder(e))
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	marks := make(map[string]bool, len(names))
	for _, name := range names {
		marks[name] = true
	}
	k, err := r.keys.open(e)
	switch {
	case errors.Is(err, ErrDestroyed):
		return func(cid.Cid) bool { return true }, nil
	case errors.Is(err, ErrNoEpoch), errors.Is(err, ErrDamaged): // the right key file may come back
		return func(core cid.Cid) bool { return len(marks) > 0 && marks[core.String()] }, nil
	case err != nil:
		return nil, err
	}
	cover := k.cover
	return func(core cid.Cid) bool {
		if len(marks) > 0 && marks[core.String()] {
			return true
		}
		p, err := pathOf(core)
		if err != nil {
			return false
		}
		_, _, ok := cover.find(p)
		return !ok
	}, k.Close()
}
