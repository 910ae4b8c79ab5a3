package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

// MaxKeyFile bounds the size in bytes of a key file that comes from elsewhere, and so the memory
// that reading it takes. A key file with 100,000 destroyed files is smaller.
const MaxKeyFile = 256 << 20

// Verify returns nil if these bytes are a whole key file of the epoch, and otherwise ErrDamaged.
func Verify(e crypto.Epoch, file []byte) error {
	_, err := parseNamed(bytes.NewReader(file), int64(len(file)), e)
	return err
}

// MergeExtension takes in a record of another keyring's extended/NEW/CORE, and reports whether it
// was new. A record that is here stays. The epoch's key file must be merged first: MergeExtension
// returns ErrNoEpoch if it is missing, ErrDestroyed if the object was destroyed here, and another
// error for a record that does not open.
func (r *Keyring) MergeExtension(to crypto.Epoch, core cid.Cid, record []byte) (fresh bool, err error) {
	x, err := parseExtension(record)
	if err != nil {
		return false, err
	}
	unlock, err := r.lock(changeLock) // Destroy looks for records under the lock
	if err != nil {
		return false, err
	}
	defer unlock()
	if gone, err := r.marked(x.old, core.String()); err != nil {
		return false, err
	} else if gone {
		return false, ErrDestroyed
	}
	if _, err := r.unseal(to, core, x); err != nil {
		return false, err
	}
	if _, err := r.readExtension(to, core); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := r.writeExtension(to, core, x); err != nil {
		return false, fmt.Errorf("merge an extension: %w", durable.WithRemedy(err, r.dir))
	}
	return true, nil
}
