package crypto

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

var (
	// ErrNoEpoch says that the epoch has no secret here: it was never made, is missing, or was
	// destroyed.
	ErrNoEpoch = errors.New("epoch has no secret")
	// ErrDestroyed says that the operator has destroyed the epoch's secret, or given it up as lost,
	// and every file of the epoch with it. It wraps ErrNoEpoch.
	ErrDestroyed = fmt.Errorf("%w: it was destroyed", ErrNoEpoch)
)

const (
	keySuffix = ".key"
	// destroyedSuffix ends the name of a file that says: the secret of this epoch is gone for good.
	destroyedSuffix = ".destroyed"
	newPrefix       = ".new-" // begins the name of a secret that is being written
	// keyFileSize is 64 hex digits and a newline.
	keyFileSize = 2*SecretSize + 1

	infoShare = "detach/v1 share"
)

// Keyring is a directory of epoch secrets, one file each: EPOCH.key, 64 hex digits and a newline,
// mode 0600. Several processes may share it. Nothing is cached: the secret is read each time, so a
// deleted file is a secret that is gone, immediately and in every process. The operator creates the
// file EPOCH.destroyed to say that it is gone for good, and not missing. A Keyring is safe for
// concurrent use.
type Keyring struct {
	dir string

	mu     sync.Mutex
	synced map[Epoch]bool // epochs whose directory entry this process has synced
}

// OpenKeyring opens the directory, and makes it (0700) if it does not exist. It refuses a directory
// that others can write to, and key files that are malformed or that others can read. The error
// names the path and the remedy.
func OpenKeyring(dir string) (*Keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	if err := refuseShared(dir); err != nil {
		return nil, err
	}
	if err := removeLeftovers(dir); err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	return ReadKeyring(dir)
}

// ReadKeyring is OpenKeyring for a caller that makes no secrets: nothing in the directory changes,
// and a directory that does not exist is an error.
func ReadKeyring(dir string) (*Keyring, error) {
	if err := refuseShared(dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	r := &Keyring{dir: dir, synced: make(map[Epoch]bool)}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), keySuffix)
		if !ok {
			continue
		}
		epoch, err := ParseEpoch(name)
		if err != nil {
			return nil, fmt.Errorf("the name of key file %s is %w: move the file elsewhere", filepath.Join(dir, entry.Name()), err)
		}
		// If the file was deleted since the directory was read, the secret was destroyed.
		if _, err := r.secret(epoch); err != nil && !errors.Is(err, ErrNoEpoch) {
			return nil, err
		}
	}
	return r, nil
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

// Ensure makes the epoch's secret unless it exists. When Ensure returns nil the secret is on disk,
// also if another process made it, and links that need it may be given away.
//
// The caller must know that no object needs a secret of this epoch that is only missing here.
// Ensure makes a new one for an epoch whose secret was destroyed, and removes the file that says
// so.
func (r *Keyring) Ensure(e Epoch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.secret(e)
	if errors.Is(err, ErrNoEpoch) {
		delete(r.synced, e)
		if err = r.create(e); err == nil {
			_, err = r.secret(e) // ours, or that of another process that was faster
		}
		if err == nil { // otherwise the loss of the new secret would pass for its destruction
			err = durable.Remove(r.destroyedPath(e))
		}
	}
	if err != nil || r.synced[e] {
		return err
	}
	// The bytes of the file were synced before the file got its name. If another process made it,
	// that process may not have synced the directory yet.
	if err := durable.SyncDir(r.dir); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	r.synced[e] = true
	return nil
}

// create writes a secret to a temporary file, and links that to the epoch's name. link(2) never
// replaces a file, so one of several processes wins, and all of them read a whole file.
func (r *Keyring) create(e Epoch) error {
	if err := removeLeftovers(r.dir); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	s, err := randomSecret(rand.Reader)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	tmp, err := durable.CreateLocked(r.dir, newPrefix+"*")
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	_, err = tmp.WriteString(hex.EncodeToString(s.bytes()) + "\n")
	if err = errors.Join(err, tmp.Sync()); err == nil {
		// Link before closing tmp, which gives up its lock: a file of this name without a lock is
		// a leftover.
		err = os.Link(tmp.Name(), r.path(e))
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil // another process was faster
	}
	if err = errors.Join(err, tmp.Close(), durable.Remove(tmp.Name())); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	return nil
}

// removeLeftovers removes what a crash in create left: half a secret, or a secret's second name,
// which would keep the secret when its first name is removed.
func removeLeftovers(dir string) error { return durable.RemoveAbandoned(dir, newPrefix, "") }

func (r *Keyring) path(e Epoch) string { return filepath.Join(r.dir, string(e)+keySuffix) }

func (r *Keyring) destroyedPath(e Epoch) string {
	return filepath.Join(r.dir, string(e)+destroyedSuffix)
}

// Check returns nil if the epoch's secret can be read, and otherwise ErrNoEpoch, ErrDestroyed, or
// why the file cannot be used.
func (r *Keyring) Check(e Epoch) error {
	_, err := r.secret(e)
	return err
}

// Empty reports whether the keyring has neither a secret nor a file that says that one was
// destroyed: it is new, or it was lost as a whole.
func (r *Keyring) Empty() (bool, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return false, fmt.Errorf("keyring: %w", err)
	}
	return !slices.ContainsFunc(entries, func(entry fs.DirEntry) bool {
		name, isKey := strings.CutSuffix(entry.Name(), keySuffix)
		if !isKey {
			name = strings.TrimSuffix(entry.Name(), destroyedSuffix)
		}
		_, err := ParseEpoch(name)
		return err == nil
	}), nil
}

// secret reads the epoch's file. It opens only files whose name is an epoch's.
func (r *Keyring) secret(e Epoch) (secret, error) {
	if _, err := ParseEpoch(string(e)); err != nil {
		return secret{}, fmt.Errorf("keyring: %w", err)
	}
	f, err := os.Open(r.path(e))
	if errors.Is(err, fs.ErrNotExist) {
		return secret{}, r.absent(e)
	} else if err != nil {
		return secret{}, fmt.Errorf("keyring: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret{}, fmt.Errorf("keyring: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return secret{}, fmt.Errorf("key file %s can be read by others (mode %04o): run chmod 600 on it", f.Name(), info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, keyFileSize+1))
	if err != nil {
		return secret{}, fmt.Errorf("keyring: %w", err)
	}
	digits, ok := bytes.CutSuffix(text, []byte("\n"))
	var b [SecretSize]byte
	if !ok || len(digits) != hex.EncodedLen(len(b)) {
		return secret{}, errKeyFile(f.Name())
	}
	// The decoder's error is not returned: it quotes what it read.
	if _, err := hex.Decode(b[:], digits); err != nil {
		return secret{}, errKeyFile(f.Name())
	}
	return newSecret(&b), nil
}

// absent says why the epoch has no key file.
func (r *Keyring) absent(e Epoch) error {
	_, err := os.Lstat(r.destroyedPath(e))
	switch {
	case err == nil:
		return ErrDestroyed
	case errors.Is(err, fs.ErrNotExist):
		return ErrNoEpoch
	}
	return fmt.Errorf("keyring: %w", err)
}

func errKeyFile(path string) error {
	return fmt.Errorf("key file %s is malformed (want 64 hex digits and a newline): restore it from a backup", path)
}

// Share derives B for the object with this binary CIDv1. It returns ErrNoEpoch if the secret is
// gone.
func (r *Keyring) Share(e Epoch, cidBytes []byte) (Share, error) {
	b, err := r.derive(e, infoShare+string(cidBytes))
	if err != nil {
		return Share{}, err
	}
	return Share{newSecret((*[SecretSize]byte)(b))}, nil
}

// derive returns 32 bytes of HKDF-SHA256 (RFC 5869) of the epoch's secret, with an empty salt.
func (r *Keyring) derive(e Epoch, info string) ([]byte, error) {
	s, err := r.secret(e)
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, s.bytes(), nil, info, SecretSize)
}
