package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

// Export returns the bytes of the epoch's key file, verified. They are secret.
func (r *Keyring) Export(e crypto.Epoch) ([]byte, error) {
	k, err := r.open(e)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	// Read to memory, because the shared lock keeps the secrets from being destroyed.
	b := make([]byte, k.size())
	if _, err := k.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return b, nil
}

// Merge takes in a key file of this epoch from another keyring. If the keyring has one already, the
// result has the punctures of both. Merge returns ErrDamaged if the bytes are not the epoch's key
// file, and ErrDestroyed if the epoch was destroyed here.
func (r *Keyring) Merge(e crypto.Epoch, other []byte) error {
	c, err := parseNamed(bytes.NewReader(other), int64(len(other)), e)
	if err != nil {
		return fmt.Errorf("merge the key file of epoch %s: %w", e, err)
	}
	unlock, err := r.lock(changeLock)
	if err != nil {
		return err
	}
	defer unlock()
	k, err := r.open(e)
	if errors.Is(err, ErrNoEpoch) && !errors.Is(err, ErrDestroyed) {
		return r.install(e, other)
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
	return r.puncture(e, slices.Clone(c.cover.paths))
}

// install adds a key file, and punctures it as the marks say. The caller holds changeLock.
func (r *Keyring) install(e crypto.Epoch, content []byte) error {
	err := r.writeTemporary(nextPrefix, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}, func(tmp string) error { return r.link(tmp, e) })
	if err != nil {
		return fmt.Errorf("merge the key file of epoch %s: %w", e, durable.WithRemedy(err, r.dir))
	}
	return r.applyTo(e)
}
