package keyring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

var (
	// ErrNoEpoch says that the epoch has no key file here.
	ErrNoEpoch = errors.New("epoch has no secret")
	// ErrDestroyed says that the secret was destroyed here: that of the object, or that of the whole
	// epoch. It wraps ErrNoEpoch.
	ErrDestroyed = fmt.Errorf("%w: it was destroyed", ErrNoEpoch)
)

const (
	keySuffix = ".key"

	// These begin the names of key files under way. Each belongs to the holder of a lock, so for the
	// next holder such a file is a leftover of a crash.
	newPrefix  = ".new-"  // a new epoch's; makeLock
	nextPrefix = ".next-" // to replace another, or from another keyring; changeLock
	oldPrefix  = ".old-"  // a replaced one, until it is overwritten; changeLock

	// A long change of one epoch must not keep mails from a new one, so there are two locks. The
	// holder of makeLock never waits for changeLock.
	changeLock = ".lock"
	makeLock   = ".lock-new"
)

// Keyring is a directory of key files, which several processes may share. It is safe for concurrent
// use.
type Keyring struct {
	dir string
	at  func(step string) // called before each step of a change, for tests of crashes; may be nil

	mu     sync.Mutex
	known  map[crypto.Epoch]known
	synced map[crypto.Epoch]bool // epochs whose directory entry this process has synced
}

// known is a key file that was verified. The content holds as long as the stamp does.
type known struct {
	stamp   durable.Stamp
	content *content
}

// Open opens the directory, and makes it (0700) if it does not exist. It finishes what a crash
// interrupted, and applies every mark in destroyed to the key files. It refuses a directory that
// others can write to, and key files that are damaged or that others can read. The error names the
// path and the remedy.
func Open(dir string) (*Keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	if err := refuseShared(dir); err != nil {
		return nil, err
	}
	r := newKeyring(dir)
	// On a file system that is mounted read-only, the marks are only heeded, as by Read.
	if err := r.Apply(); err != nil && !errors.Is(err, syscall.EROFS) {
		return nil, err
	}
	if err := r.verify(); err != nil {
		return nil, err
	}
	return r, nil
}

// Read is Open for a caller that changes nothing: a directory that does not exist is an error, and
// marks are heeded, but not applied to the key files.
func Read(dir string) (*Keyring, error) {
	if err := refuseShared(dir); err != nil {
		return nil, err
	}
	r := newKeyring(dir)
	if err := r.verify(); err != nil {
		return nil, err
	}
	return r, nil
}

func newKeyring(dir string) *Keyring {
	return &Keyring{dir: dir, known: make(map[crypto.Epoch]known), synced: make(map[crypto.Epoch]bool)}
}

// verify returns an error if a key file cannot be used.
func (r *Keyring) verify() error {
	entries, err := os.ReadDir(r.dir)
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
			return fmt.Errorf("the name of key file %s is %w: move the file elsewhere", filepath.Join(r.dir, entry.Name()), err)
		}
		// If the file was deleted since the directory was read, the secret was destroyed.
		if err := r.Check(epoch); err != nil && !errors.Is(err, ErrNoEpoch) {
			return err
		}
	}
	return nil
}

// refuseShared refuses a directory that others can write to: they could replace our secrets with
// theirs. Others who can only read the directory learn which epochs there are, and no secret.
func refuseShared(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("open keyring: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("keyring %s can be written by others (mode %04o): run chmod 700 on it", dir, info.Mode().Perm())
	}
	return nil
}

func (r *Keyring) path(e crypto.Epoch) string { return filepath.Join(r.dir, string(e)+keySuffix) }

// Epochs returns the epochs that have a key file, sorted by name.
func (r *Keyring) Epochs() ([]crypto.Epoch, error) {
	names, err := readNames(r.dir)
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

// readNames returns the names in a directory. A directory that does not exist has none.
func readNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, nil
}

// Check returns nil if the epoch's key file can be used, and otherwise ErrNoEpoch, ErrDestroyed, or
// why it cannot be used.
func (r *Keyring) Check(e crypto.Epoch) error {
	k, err := r.open(e)
	if err != nil {
		return err
	}
	return k.Close()
}

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

func (r *Keyring) step(name string) {
	if r.at != nil {
		r.at(name)
	}
}

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
