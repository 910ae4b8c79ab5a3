package keyring

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

// Writer returns the epoch for files of this period that are stored now: the first one in the
// keyring that has the period and is not damaged, or a new one. When Writer returns, the key file
// is on disk, and links that need it may be given away.
func (r *Keyring) Writer(p crypto.Period) (crypto.Epoch, error) {
	if _, err := crypto.ParsePeriod(string(p)); err != nil {
		return "", fmt.Errorf("keyring: %w", err)
	}
	e, err := r.usable(p)
	if err != nil || e != "" {
		return e, err
	}
	unlock, err := r.lock(makeLock)
	if err != nil {
		return "", err
	}
	defer unlock()
	if e, err := r.usable(p); err != nil || e != "" {
		return e, err // another caller was faster
	}
	return r.create(p)
}

// usable returns the first epoch of a period whose key file can be used, or "".
func (r *Keyring) usable(p crypto.Period) (crypto.Epoch, error) {
	epochs, err := r.Epochs()
	if err != nil {
		return "", err
	}
	for _, e := range epochs {
		if e.Period() != p {
			continue
		}
		switch err := r.Check(e); {
		case err == nil:
			return e, r.syncName(e)
		case !errors.Is(err, ErrNoEpoch) && !errors.Is(err, ErrDamaged):
			return "", err
		}
	}
	return "", nil
}

// syncName makes the name of a key file survive a power failure. The file's bytes were synced
// before the file got its name, but the process that made it may not have synced the directory yet.
func (r *Keyring) syncName(e crypto.Epoch) error {
	r.mu.Lock()
	done := r.synced[e]
	r.mu.Unlock()
	if done {
		return nil
	}
	if err := durable.SyncDir(r.dir); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	r.mu.Lock()
	r.synced[e] = true
	r.mu.Unlock()
	return nil
}

// create makes a new key file. The caller holds makeLock.
func (r *Keyring) create(p crypto.Period) (crypto.Epoch, error) {
	var e crypto.Epoch
	err := r.writeTemporary(newPrefix, func(w io.Writer) error {
		service, err := writeNew(w)
		if err == nil { // else there is no secret to name the epoch by
			e = crypto.NewEpoch(p, service)
		}
		return err
	}, func(tmp string) error { return r.link(tmp, e) })
	if err != nil {
		return "", fmt.Errorf("make a key file: %w", durable.WithRemedy(err, r.dir))
	}
	return e, nil
}

// link gives a key file its name. link(2) never replaces a file.
func (r *Keyring) link(tmp string, e crypto.Epoch) error {
	r.step("link")
	if err := os.Link(tmp, r.path(e)); err != nil {
		return err
	}
	r.step("sync name")
	return r.syncName(e)
}

// writeTemporary writes a key file, 0600 and synced, under a temporary name, which is no longer
// there when writeTemporary returns. publish gives the file its own name. The caller holds the lock
// of the prefix.
func (r *Keyring) writeTemporary(prefix string, write func(io.Writer) error, publish func(tmp string) error) error {
	tmp, err := os.CreateTemp(r.dir, prefix+"*")
	if err != nil {
		return err
	}
	err = errors.Join(write(tmp), tmp.Sync(), tmp.Close())
	if err == nil {
		err = publish(tmp.Name())
	}
	return errors.Join(err, r.removeLeftover(tmp.Name()))
}
