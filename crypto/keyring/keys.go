package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

// keys are the key files of a directory, for reading. What was verified is remembered, without the
// nodes.
type keys struct {
	dir   string
	marks marks

	mu     sync.Mutex
	known  map[crypto.Epoch]known
	synced map[crypto.Epoch]bool // epochs whose directory entry this process has synced
}

// known is a key file that was verified. The content holds as long as the stamp does.
type known struct {
	stamp   durable.Stamp
	content *content
}

func newKeys(dir string, m marks) *keys {
	return &keys{dir: dir, marks: m, known: make(map[crypto.Epoch]known), synced: make(map[crypto.Epoch]bool)}
}

func (ks *keys) path(e crypto.Epoch) string { return filepath.Join(ks.dir, string(e)+keySuffix) }

// epochs returns the epochs that have a key file, sorted by name.
func (ks *keys) epochs() ([]crypto.Epoch, error) {
	names, err := readNames(ks.dir)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	var epochs []crypto.Epoch
	for _, name := range names {
		name, isKey := strings.CutSuffix(name, keySuffix)
		if epoch, err := crypto.ParseEpoch(name); isKey && err == nil {
			epochs = append(epochs, epoch)
		}
	}
	slices.Sort(epochs)
	return epochs, nil
}

// check returns nil if the epoch's key file can be used, and otherwise ErrNoEpoch, ErrDestroyed, or
// why it cannot be used.
func (ks *keys) check(e crypto.Epoch) error {
	k, err := ks.open(e)
	if err != nil {
		return err
	}
	return k.Close()
}

// verify returns an error if a key file is not safe, or has a name that no epoch has.
func (ks *keys) verify() error {
	entries, err := os.ReadDir(ks.dir)
	if err != nil {
		return fmt.Errorf("open keyring: %w", err)
	}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), keySuffix)
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		epoch, err := crypto.ParseEpoch(name)
		if err != nil {
			return fmt.Errorf("the name of key file %s is %w: move the file elsewhere", filepath.Join(ks.dir, entry.Name()), err)
		}
		// If the file was deleted since the directory was read, the secret was destroyed.
		if err := ks.check(epoch); err != nil && !errors.Is(err, ErrNoEpoch) && !errors.Is(err, ErrDamaged) {
			return err
		}
	}
	return nil
}

// lock waits until no other caller, in any process, has the lock.
func (ks *keys) lock(name string) (unlock func(), err error) {
	path := filepath.Join(ks.dir, name)
	f, err := openCurrent(path, durable.Lock, func() (*os.File, error) {
		return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	})
	if err != nil {
		return nil, fmt.Errorf("lock the keyring: %w", durable.WithRemedy(err, ks.dir))
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
func (ks *keys) open(e crypto.Epoch) (key, error) {
	if _, err := crypto.ParseEpoch(string(e)); err != nil {
		return key{}, fmt.Errorf("keyring: %w", err)
	}
	f, err := openCurrent(ks.path(e), durable.LockShared, func() (*os.File, error) { return os.Open(ks.path(e)) })
	if errors.Is(err, fs.ErrNotExist) {
		ks.forget(e)
		return key{}, ks.absent(e)
	} else if err != nil {
		return key{}, fmt.Errorf("keyring: %w", durable.WithRemedy(err, ks.dir))
	}
	// Only now that nobody can overwrite the file: End marks the epoch before it does.
	c, err := ks.read(e, f)
	if ended, markErr := ks.marks.has(e, allMark); markErr != nil {
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
func (ks *keys) read(e crypto.Epoch, f *os.File) (*content, error) {
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
	ks.mu.Lock()
	last := ks.known[e]
	ks.mu.Unlock()
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
		ks.mu.Lock()
		ks.known[e] = known{stamp, c}
		ks.mu.Unlock()
	}
	return c, nil
}

func (ks *keys) forget(e crypto.Epoch) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	delete(ks.known, e)
	delete(ks.synced, e)
}

// absent says why the epoch has no key file.
func (ks *keys) absent(e crypto.Epoch) error {
	ended, err := ks.marks.has(e, allMark)
	switch {
	case err != nil:
		return err
	case ended:
		return ErrDestroyed
	}
	return ErrNoEpoch
}

// usable returns the first epoch of a period whose key file can be used, or "".
func (ks *keys) usable(p crypto.Period) (crypto.Epoch, error) {
	epochs, err := ks.epochs()
	if err != nil {
		return "", err
	}
	for _, e := range epochs {
		if e.Period() != p {
			continue
		}
		switch err := ks.check(e); {
		case err == nil:
			return e, ks.syncName(e)
		case !errors.Is(err, ErrNoEpoch) && !errors.Is(err, ErrDamaged):
			return "", err
		}
	}
	return "", nil
}

// syncName makes the name of a key file survive a power failure. The file's bytes were synced
// before the file got its name, but the process that made it may not have synced the directory yet.
func (ks *keys) syncName(e crypto.Epoch) error {
	ks.mu.Lock()
	done := ks.synced[e]
	ks.mu.Unlock()
	if done {
		return nil
	}
	if err := durable.SyncDir(ks.dir); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	ks.mu.Lock()
	ks.synced[e] = true
	ks.mu.Unlock()
	return nil
}
