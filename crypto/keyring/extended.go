package keyring

import (
	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

// Extended returns the epochs that an object with this core was extended into, the latest end
// first. Their key files may be missing here, or destroyed.
func (r *Keyring) Extended(core cid.Cid) ([]crypto.Epoch, error) { return r.extensions(core) }
