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

// known is a key file that was verified. If it is settled, the content holds as long as the stamp
// does. Otherwise a change may leave the stamp as it is.
type known struct {
	*content
	stamp   durable.Stamp
	settled bool
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

// key is a key file that is open for reading under a shared lock, and verified. Programs without
// locks may still change it, as cp does. Close gives the lock up.
type key struct {
	*os.File
	known
	epoch crypto.Epoch
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
	return key{f, c, e}, nil
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

// read verifies an open key file, unless it is the one that was verified last.
func (ks *keys) read(e crypto.Epoch, f *os.File) (known, error) {
	info, err := f.Stat()
	if err != nil {
		return known{}, fmt.Errorf("keyring: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return known{}, fmt.Errorf("key file %s can be read by others (mode %04o): run chmod 600 on it", f.Name(), info.Mode().Perm())
	}
	stamp, err := durable.StampOfFile(f)
	if err != nil {
		return known{}, fmt.Errorf("keyring: %w", err)
	}
	ks.mu.Lock()
	last := ks.known[e]
	ks.mu.Unlock()
	if last.settled && last.stamp == stamp {
		return last, nil
	}
	now := time.Now()
	c, err := parseNamed(f, info.Size(), e)
	if err != nil {
		return known{}, inFile(f, err)
	}
	fresh := known{c, stamp, stamp.Settled(now)}
	if fresh.settled {
		ks.mu.Lock()
		ks.known[e] = fresh
		ks.mu.Unlock()
	}
	return fresh, nil
}

// inFile completes an error of parseNamed.
func inFile(f *os.File, err error) error {
	if errors.Is(err, ErrDamaged) {
		return fmt.Errorf("%s: %w; put the right file back from a backup or another machine", f.Name(), err)
	}
	return fmt.Errorf("keyring: %w", err)
}

// node reads a node. It returns ErrDamaged if the file is no longer the one that was verified: a node
// of another file would give a share that opens nothing.
func (k key) node(index int) (*node, error) {
	var n node
	if !k.settled {
		return &n, k.readVerified(n[:], index)
	}
	_, err := k.ReadAt(n[:], k.offset(index))
	stamp, stampErr := durable.StampOfFile(k.File)
	if err != nil || stampErr != nil || stamp != k.stamp { // the stamp also changes when a link is made
		err = k.readVerified(n[:], index)
	}
	return &n, err
}

// readVerified reads a node while it verifies the whole file again.
func (k key) readVerified(n []byte, index int) error {
	info, err := k.Stat()
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	all := io.NewSectionReader(k, 0, info.Size())
	c, err := parseNamed(io.TeeReader(all, &cutout{n, -k.offset(index)}), info.Size(), k.epoch)
	if err == nil && c.sum != k.sum {
		err = errChanged
	}
	if err != nil {
		return inFile(k.File, err)
	}
	return nil
}

// cutout keeps a part of what is written to it.
type cutout struct {
	into []byte
	at   int64 // where in into the next byte belongs
}

func (c *cutout) Write(p []byte) (int, error) {
	if from, to := max(c.at, 0), min(c.at+int64(len(p)), int64(len(c.into))); from < to {
		copy(c.into[from:to], p[from-c.at:])
	}
	c.at += int64(len(p))
	return len(p), nil
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
