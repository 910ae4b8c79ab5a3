package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

// lock waits until no other caller, in any process, has the lock.
func (r *Keyring) lock(name string) (unlock func(), err error) {
	path := filepath.Join(r.dir, name)
	f, err := openCurrent(path, durable.Lock, func() (*os.File, error) {
		return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	})
	if err != nil {
		return nil, fmt.Errorf("lock the keyring: %w", durable.WithRemedy(err, r.dir))
	}
	return func() { _ = f.Close() }, nil
}

// key is a key file that is open for reading under a shared lock, and verified. Close gives the
// lock up.
type key struct {
	*os.File
	*content
}

// open opens the epoch's key file. It opens only files whose name is an epoch's.
func (r *Keyring) open(e crypto.Epoch) (key, error) {
	if _, err := crypto.ParseEpoch(string(e)); err != nil {
		return key{}, fmt.Errorf("keyring: %w", err)
	}
	f, err := openCurrent(r.path(e), durable.LockShared, func() (*os.File, error) { return os.Open(r.path(e)) })
	if errors.Is(err, fs.ErrNotExist) {
		r.forget(e)
		return key{}, r.absent(e)
	} else if err != nil {
		return key{}, fmt.Errorf("keyring: %w", durable.WithRemedy(err, r.dir))
	}
	// Only now that nobody can overwrite the file: End marks the epoch before it does.
	c, err := r.read(e, f)
	if ended, markErr := r.marked(e, allMark); markErr != nil {
		err = markErr
	} else if ended {
		err = ErrDestroyed // a crash in End may have left half a file
	}
	if err != nil {
		return key{}, errors.Join(err, f.Close())
	}
	return key{f, c}, nil
}

// openCurrent opens and locks a file, and makes sure that it still had its name when the lock was
// there. A key file that lost its name may be overwritten.
func openCurrent(path string, lock func(*os.File) error, open func() (*os.File, error)) (*os.File, error) {
	for {
		f, err := open()
		if err != nil {
			return nil, err
		}
		err = lock(f)
		current, statErr := hasName(f, path)
		if err = errors.Join(err, statErr); err == nil && current {
			return f, nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
}

func hasName(f *os.File, path string) (bool, error) {
	ours, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(ours, named), err
}

// read returns the content of an open key file, from memory if the file is the one that was
// verified last.
func (r *Keyring) read(e crypto.Epoch, f *os.File) (*content, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s can be read by others (mode %04o): run chmod 600 on it", f.Name(), info.Mode().Perm())
	}
	stamp, err := durable.StampOfFile(f)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	r.mu.Lock()
	last := r.known[e]
	r.mu.Unlock()
	if last.content != nil && last.stamp == stamp {
		return last.content, nil
	}
	now := time.Now()
	c, err := parseNamed(f, info.Size(), e)
	if errors.Is(err, ErrDamaged) {
		return nil, fmt.Errorf("%s: %w; put the right file back from a backup or another machine", f.Name(), err)
	} else if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	if stamp.Settled(now) {
		r.mu.Lock()
		r.known[e] = known{stamp, c}
		r.mu.Unlock()
	}
	return c, nil
}

func (r *Keyring) forget(e crypto.Epoch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, e)
	delete(r.synced, e)
}

// absent says why the epoch has no key file.
func (r *Keyring) absent(e crypto.Epoch) error {
	ended, err := r.marked(e, allMark)
	switch {
	case err != nil:
		return err
	case ended:
		return ErrDestroyed
	}
	return ErrNoEpoch
}
