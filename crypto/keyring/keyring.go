package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/nkirchhoffer/detach-mta/crypto"
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
// use. Its methods take the locks, and decide the order in which the parts change their files.
type Keyring struct {
	dir string
	at  func(step string) // called before each step of a change, for tests of crashes; may be nil

	marks    marks     // destroyed/
	keys     *keys     // EPOCH.key, read
	writer   keyWriter // EPOCH.key, made and replaced
	shredder shredder  // EPOCH.key, deleted
	records  records   // extended/
}

// Open opens the directory, and makes it (0700) if it does not exist. It finishes what a crash
// interrupted, and applies every mark in destroyed to the key files. It refuses a directory that
// others can write to, and key files that others can read. The error names the path and the remedy.
// A damaged key file closes its own epoch alone: Check finds it.
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
	if err := r.keys.verify(); err != nil {
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
	if err := r.keys.verify(); err != nil {
		return nil, err
	}
	return r, nil
}

func newKeyring(dir string) *Keyring {
	r := &Keyring{dir: dir, marks: marks{dir}}
	r.keys = newKeys(dir, r.marks)
	r.shredder = shredder{r.keys, r.step}
	r.writer = keyWriter{r.keys, r.shredder, r.step}
	r.records = records{dir, r.marks, r.keys, r.step}
	return r
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

// Epochs returns the epochs that have a key file, sorted by name.
func (r *Keyring) Epochs() ([]crypto.Epoch, error) { return r.keys.epochs() }

// Check returns nil if the epoch's key file can be used, and otherwise ErrNoEpoch, ErrDestroyed, or
// why it cannot be used.
func (r *Keyring) Check(e crypto.Epoch) error { return r.keys.check(e) }

// step is called by all parts before each step of a change.
func (r *Keyring) step(name string) {
	if r.at != nil {
		r.at(name)
	}
}

// Writer returns the epoch for files of this period that are stored now: the first one in the
// keyring that has the period and is not damaged, or a new one. When Writer returns, the key file
// is on disk, and links that need it may be given away.
func (r *Keyring) Writer(p crypto.Period) (crypto.Epoch, error) {
	if _, err := crypto.ParsePeriod(string(p)); err != nil {
		return "", fmt.Errorf("keyring: %w", err)
	}
	e, err := r.keys.usable(p)
	if err != nil || e != "" {
		return e, err
	}
	unlock, err := r.keys.lock(makeLock)
	if err != nil {
		return "", err
	}
	defer unlock()
	if e, err := r.keys.usable(p); err != nil || e != "" {
		return e, err // another caller was faster
	}
	return r.writer.create(p)
}
