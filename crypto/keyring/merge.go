package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

// Export returns the bytes of the epoch's key file, verified. They are secret.
func (r *Keyring) Export(e crypto.Epoch) ([]byte, error) {
	k, err := r.keys.open(e)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	return k.bytes()
}

// bytes returns the whole file, verified. It reads to memory, because the shared lock keeps the
// secrets from being destroyed.
func (k key) bytes() ([]byte, error) {
	b, err := io.ReadAll(io.NewSectionReader(k, 0, k.size()+1))
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	if Verify(k.epoch, b) != nil {
		return nil, inFile(k.File, errChanged)
	}
	return b, nil
}

// Merge takes in a key file of this epoch from another keyring. If the keyring has one already, the
// result has the punctures of both. A damaged one is replaced. Merge returns ErrDamaged if the bytes
// are not the epoch's key file, and ErrDestroyed if the epoch was destroyed here.
func (r *Keyring) Merge(e crypto.Epoch, other []byte) error {
	c, err := parseNamed(bytes.NewReader(other), int64(len(other)), e)
	if err != nil {
		return fmt.Errorf("merge the key file of epoch %s: %w", e, err)
	}
	unlock, err := r.keys.lock(changeLock)
	if err != nil {
		return err
	}
	defer unlock()
	k, err := r.keys.open(e)
	if errors.Is(err, ErrNoEpoch) && !errors.Is(err, ErrDestroyed) {
		return r.install(e, other)
	} else if errors.Is(err, ErrDamaged) {
		return r.mend(e, other)
	} else if err != nil {
		return err
	}
	same := k.service == c.service
	if err := k.Close(); err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("merge the key file of epoch %s: %w: it has another secret than the one here", e, ErrDamaged)
	}
	return r.writer.puncture(e, slices.Clone(c.cover.paths))
}

// install adds a key file, and punctures it as the marks say. The caller holds changeLock.
func (r *Keyring) install(e crypto.Epoch, content []byte) error {
	err := r.writer.writeTemporary(nextPrefix, writing(content), func(tmp string) error { return r.writer.link(tmp, e) })
	if err != nil {
		return fmt.Errorf("merge the key file of epoch %s: %w", e, durable.WithRemedy(err, r.dir))
	}
	return r.applyTo(e)
}

// mend replaces a damaged key file, and punctures the new one as the marks say: nobody can tell
// what else the damaged one had destroyed. The caller holds changeLock.
func (r *Keyring) mend(e crypto.Epoch, content []byte) error {
	err := r.writer.replace(e, writing(content))
	if err == nil {
		err = r.shredder.shred(r.writer.oldPath(e))
	}
	if err != nil {
		return fmt.Errorf("replace the damaged key file of epoch %s: %w", e, durable.WithRemedy(err, r.dir))
	}
	return r.applyTo(e)
}

func writing(content []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}
}

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
	unlock, err := r.keys.lock(changeLock) // Destroy looks for records under the lock
	if err != nil {
		return false, err
	}
	defer unlock()
	if gone, err := r.marks.has(x.old, core.String()); err != nil {
		return false, err
	} else if gone {
		return false, ErrDestroyed
	}
	if _, err := r.records.unseal(to, core, x); err != nil {
		return false, err
	}
	if _, err := r.records.read(to, core); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := r.records.write(to, core, x); err != nil {
		return false, fmt.Errorf("merge an extension: %w", durable.WithRemedy(err, r.dir))
	}
	return true, nil
}
