package keyring

import (
	"errors"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

// Grant is what the keyring gives for an object: the end that it has now, and its share.
type Grant struct {
	Epoch    crypto.Epoch // the present one: after an extension, another than the object's own
	Extended bool
	// Share derives the share, or returns the errors of [Keyring.Share]. That takes longer than
	// finding the epoch, and most requests need the end alone.
	Share func() (crypto.Share, error)
}

// Grant returns the grant of the object's extension, if it was extended in this mode, and otherwise
// that of its own epoch e, whose secret may be missing. An error is that of a record that cannot be
// used: beside it, the grant of e is valid, for callers that want to open the object without the
// record.
func (r *Keyring) Grant(root, core cid.Cid, e crypto.Epoch, link bool) (Grant, error) {
	later, laterLink, share, err := r.Extension(root, core, e)
	if err == nil && laterLink == link {
		return Grant{later, true, given(share)}, nil
	}
	if errors.Is(err, ErrNoExtension) {
		err = nil
	}
	if link {
		return Grant{e, false, given(crypto.ZeroShare())}, err
	}
	return Grant{e, false, func() (crypto.Share, error) { return r.Share(e, core) }}, err
}

func given(s crypto.Share) func() (crypto.Share, error) {
	return func() (crypto.Share, error) { return s, nil }
}
