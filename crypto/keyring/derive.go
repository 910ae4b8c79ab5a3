package keyring

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

// ErrForeign says that the origin was not sealed under the epoch's secret: the object is not ours,
// or it was changed.
var ErrForeign = errors.New("the object is not from here")

const infoShare = "detach/v1 share"

// Share derives B for the object with this core. It returns ErrNoEpoch, or ErrDestroyed if the
// object's or the epoch's secret was destroyed.
func (r *Keyring) Share(e crypto.Epoch, core cid.Cid) (crypto.Share, error) {
	b, err := r.keys.deriveLeaf(e, core, infoShare)
	if err != nil {
		return crypto.Share{}, err
	}
	return crypto.ShareFromBytes(b)
}

// deriveLeaf returns 32 bytes of HKDF-SHA256 of the leaf for core, with an empty salt.
func (ks *keys) deriveLeaf(e crypto.Epoch, core cid.Cid, info string) ([]byte, error) {
	p, err := pathOf(core)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	k, err := ks.open(e)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	if err := ks.refuseDestroyed(k, e, core, p); err != nil {
		return nil, err
	}
	leaf, err := k.leaf(p)
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, leaf[:], nil, info+core.KeyString(), crypto.SecretSize)
}

// refuseDestroyed returns ErrDestroyed if the core is marked, or its leaf punctured.
func (ks *keys) refuseDestroyed(k key, e crypto.Epoch, core cid.Cid, p path) error {
	marked, err := ks.marks.has(e, core.String())
	if err != nil {
		return err
	}
	if _, _, ok := k.cover.find(p); marked || !ok {
		return ErrDestroyed
	}
	return nil
}

// leaf reads the node above a leaf that is not punctured, and derives the leaf from it.
func (k key) leaf(p path) (*node, error) {
	index, at, ok := k.cover.find(p)
	if !ok {
		return nil, ErrDestroyed
	}
	n, err := k.node(index)
	if err != nil {
		return nil, err
	}
	return n.descend(p, at), nil
}

// SealOrigin returns the origin of a new object of this epoch. It returns ErrNoEpoch or
// ErrDestroyed if the epoch has no secret.
func (r *Keyring) SealOrigin(e crypto.Epoch, core cid.Cid, f crypto.Fragment, k crypto.Key) (crypto.Origin, error) {
	file, err := r.keys.open(e)
	if err != nil {
		return crypto.Origin{}, err
	}
	defer file.Close()
	return file.service.SealOrigin(core, f, k)
}

// CheckOrigin returns nil if the origin was sealed for this core under the epoch's secret, and the
// object was not destroyed. Otherwise it returns ErrForeign; ErrDestroyed, if the origin is right;
// or ErrNoEpoch, if it cannot be checked because the epoch has no key file, destroyed or not.
func (r *Keyring) CheckOrigin(e crypto.Epoch, core cid.Cid, o crypto.Origin) error {
	p, err := pathOf(core)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	k, err := r.keys.open(e)
	if errors.Is(err, ErrNoEpoch) {
		return ErrNoEpoch
	} else if err != nil {
		return err
	}
	defer k.Close()
	if !k.origins.Made(core, o) {
		return ErrForeign
	}
	return r.keys.refuseDestroyed(k, e, core, p)
}

// Destroyed reports whether the secret of the object with this core was destroyed: alone, or with
// the epoch. A key file that is only missing or damaged is not destroyed: the right one may come
// back.
func (r *Keyring) Destroyed(e crypto.Epoch, core cid.Cid) (bool, error) {
	marked, err := r.marks.has(e, core.String())
	if err != nil || marked {
		return marked, err
	}
	p, err := pathOf(core)
	if err != nil {
		return false, fmt.Errorf("keyring: %w", err)
	}
	k, err := r.keys.open(e)
	if errors.Is(err, ErrNoEpoch) || errors.Is(err, ErrDamaged) {
		return errors.Is(err, ErrDestroyed), nil
	} else if err != nil {
		return false, err
	}
	defer k.Close()
	_, _, ok := k.cover.find(p)
	return !ok, nil
}
