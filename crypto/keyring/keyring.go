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
	"syscall"

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

// verify returns an error if a key file is not safe, or has a name that no epoch has.
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
		if err := r.Check(epoch); err != nil && !errors.Is(err, ErrNoEpoch) && !errors.Is(err, ErrDamaged) {
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

func (r *Keyring) step(name string) {
	if r.at != nil {
		r.at(name)
	}
}
