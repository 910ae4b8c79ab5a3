package keyring

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

// ErrNoExtension says that the object was not extended, or that the epoch it was extended into is
// gone.
var ErrNoExtension = errors.New("the object was not extended")

const (
	extendedDirName = "extended"
	infoExtend      = "detach/v1 extend"

	cidSize   = 36
	nonceSize = 12
	tagSize   = 16
)

// MaxExtension bounds the size in bytes of a record in extended. An epoch's name has at most 19
// characters.
const MaxExtension = 256

// extension is a record in extended/NEW/CORE, which gives the object an end in a later epoch:
//
//	CID of the root (36) ‖ length of the old epoch's name (1) ‖ the name ‖
//	mode (1: 0 split, 1 link) ‖ nonce (12) ‖ AES-256-GCM of B (32) ‖ tag (16)
type extension struct {
	root   []byte
	old    crypto.Epoch
	link   bool
	sealed []byte // nonce, ciphertext and tag
}

func (r *Keyring) extendedDir(e crypto.Epoch) string {
	return filepath.Join(r.dir, extendedDirName, string(e))
}

func (r *Keyring) extensionPath(e crypto.Epoch, core cid.Cid) string {
	return filepath.Join(r.extendedDir(e), core.String())
}

// Extend makes a record that gives the object with this root and core, of the epoch old, the end of
// a later epoch. b is the object's share, which the record holds under a key of the new epoch. It
// returns ErrDestroyed if the object was destroyed, and ErrNoEpoch if the new epoch has no secret.
func (r *Keyring) Extend(root, core cid.Cid, old, to crypto.Epoch, link bool, b crypto.Share) error {
	if _, err := crypto.ParseEpoch(string(old)); err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	if len(root.Bytes()) != cidSize || len(b.Bytes()) != crypto.SecretSize {
		return errors.New("extend: the root or the share is absent")
	}
	unlock, err := r.lock(changeLock) // Destroy looks for records under the lock
	if err != nil {
		return err
	}
	defer unlock()
	if gone, err := r.marked(old, core.String()); err != nil {
		return err
	} else if gone {
		return ErrDestroyed
	}
	aead, err := r.extensionAEAD(to, core)
	if err != nil {
		return err
	}
	x := extension{root: root.Bytes(), old: old, link: link}
	nonce := make([]byte, nonceSize)
	if _, err := io.ReadFull(rand.Reader, nonce); err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	x.sealed = aead.Seal(nonce, nonce, b.Bytes(), x.aad(to))
	if err := r.writeExtension(to, core, x); err != nil {
		return fmt.Errorf("extend: %w", durable.WithRemedy(err, r.dir))
	}
	return nil
}

func (r *Keyring) extensionAEAD(to crypto.Epoch, core cid.Cid) (cipher.AEAD, error) {
	key, err := r.deriveLeaf(to, core, infoExtend)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("extension: %w", err)
	}
	return cipher.NewGCM(block)
}

func (x extension) mode() byte {
	if x.link {
		return 1
	}
	return 0
}

// aad returns root ‖ old epoch ‖ 0 ‖ new epoch ‖ mode.
func (x extension) aad(to crypto.Epoch) []byte {
	return slices.Concat(x.root, []byte(x.old), []byte{0}, []byte(to), []byte{x.mode()})
}

func (x extension) encode() []byte {
	return slices.Concat(x.root, []byte{byte(len(x.old))}, []byte(x.old), []byte{x.mode()}, x.sealed)
}

var errExtension = errors.New("malformed extension record")

func parseExtension(b []byte) (x extension, err error) {
	const sealed = nonceSize + crypto.SecretSize + tagSize
	if len(b) < cidSize+1 || len(b) != cidSize+1+int(b[cidSize])+1+sealed {
		return x, errExtension
	}
	name, rest := b[cidSize+1:len(b)-1-sealed], b[len(b)-1-sealed:]
	if x.old, err = crypto.ParseEpoch(string(name)); err != nil || rest[0] > 1 {
		return x, errExtension
	}
	x.root, x.link, x.sealed = b[:cidSize], rest[0] == 1, rest[1:]
	return x, nil
}

func (r *Keyring) writeExtension(to crypto.Epoch, core cid.Cid, x extension) error {
	dir := r.extendedDir(to)
	if err := durable.MakeDirectory(dir); err != nil {
		return err
	}
	if err := durable.RemoveAbandoned(dir, nextPrefix, ""); err != nil {
		return err
	}
	tmp, err := durable.CreateLocked(dir, nextPrefix+"*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(x.encode())
	if err = errors.Join(err, tmp.Sync()); err == nil {
		r.step("rename record")
		err = os.Rename(tmp.Name(), r.extensionPath(to, core))
	}
	if err != nil {
		return errors.Join(err, durable.Remove(tmp.Name()), tmp.Close())
	}
	return errors.Join(tmp.Close(), durable.SyncDir(dir))
}

func (r *Keyring) readExtension(to crypto.Epoch, core cid.Cid) (extension, error) {
	f, err := os.Open(r.extensionPath(to, core))
	if err != nil {
		return extension{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxExtension))
	if err != nil {
		return extension{}, err
	}
	x, err := parseExtension(b)
	if err != nil {
		return x, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return x, nil
}

// extensions returns the epochs that an object with this core was extended into, the latest end
// first.
func (r *Keyring) extensions(core cid.Cid) ([]crypto.Epoch, error) {
	names, err := readNames(filepath.Join(r.dir, extendedDirName))
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	var epochs []crypto.Epoch
	for _, name := range names {
		e, err := crypto.ParseEpoch(name)
		if err != nil {
			continue // not ours
		}
		if _, err := os.Lstat(r.extensionPath(e, core)); err == nil {
			epochs = append(epochs, e)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("keyring: %w", durable.WithRemedy(err, r.dir))
		}
	}
	slices.SortFunc(epochs, laterFirst)
	return epochs, nil
}

// laterFirst orders epochs by their end. An epoch without an end comes first.
func laterFirst(a, b crypto.Epoch) int {
	if a.End().IsZero() != b.End().IsZero() {
		return a.End().Compare(b.End())
	}
	return cmp.Or(b.End().Compare(a.End()), cmp.Compare(a, b))
}

// Extended returns the epochs that an object with this core was extended into, the latest end
// first. Their key files may be missing here, or destroyed.
func (r *Keyring) Extended(core cid.Cid) ([]crypto.Epoch, error) { return r.extensions(core) }

// Extension returns the epoch with the latest end that the object was extended into and whose key
// file is here, the object's mode, and its share. It returns ErrNoExtension if there is none, or if
// the object was destroyed.
func (r *Keyring) Extension(root, core cid.Cid) (to crypto.Epoch, link bool, b crypto.Share, err error) {
	epochs, err := r.extensions(core)
	if err != nil {
		return "", false, crypto.Share{}, err
	}
	result := ErrNoExtension
	for _, e := range epochs {
		link, b, err := r.openExtension(e, root, core)
		switch {
		case err == nil:
			return e, link, b, nil
		case !errors.Is(err, ErrNoExtension) && !errors.Is(err, ErrNoEpoch):
			result = err // another record may open
		}
	}
	return "", false, crypto.Share{}, result
}

func (r *Keyring) openExtension(to crypto.Epoch, root, core cid.Cid) (bool, crypto.Share, error) {
	x, err := r.readExtension(to, core)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(x.root, root.Bytes()) {
		return false, crypto.Share{}, ErrNoExtension
	} else if err != nil {
		return false, crypto.Share{}, fmt.Errorf("keyring: %w", err)
	}
	if gone, err := r.marked(x.old, core.String()); err != nil || gone {
		return false, crypto.Share{}, errors.Join(err, ErrNoExtension)
	}
	b, err := r.unseal(to, core, x)
	return x.link, b, err
}

// unseal opens a record's share.
func (r *Keyring) unseal(to crypto.Epoch, core cid.Cid, x extension) (crypto.Share, error) {
	aead, err := r.extensionAEAD(to, core)
	if err != nil {
		return crypto.Share{}, err
	}
	raw, err := aead.Open(nil, x.sealed[:nonceSize], x.sealed[nonceSize:], x.aad(to))
	if err != nil {
		return crypto.Share{}, fmt.Errorf("%s: %w", r.extensionPath(to, core), errExtension)
	}
	return crypto.ShareFromBytes(raw)
}

// destroyExtensions removes the records of the marked objects, and returns the epochs that they
// were extended into, where it marks them too. The caller holds changeLock, and then applies the
// marks.
func (r *Keyring) destroyExtensions(marks []string) (extended []crypto.Epoch, err error) {
	epochs, err := readNames(filepath.Join(r.dir, extendedDirName))
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	for _, name := range epochs {
		e, err := crypto.ParseEpoch(name)
		if err != nil {
			continue // not ours
		}
		records, err := readNames(r.extendedDir(e))
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		cores := both(records, marks)
		for _, core := range cores {
			if err := r.destroyExtension(e, core); err != nil {
				return nil, err
			}
		}
		if len(cores) > 0 {
			extended = append(extended, e)
		}
	}
	return extended, nil
}

// both returns the names of cores that are in both lists.
func both(records, marks []string) []string {
	marked := make(map[string]bool, len(marks))
	for _, mark := range marks {
		_, err := cid.Decode(mark)
		marked[mark] = err == nil
	}
	return slices.DeleteFunc(records, func(record string) bool { return !marked[record] })
}

func (r *Keyring) destroyExtension(to crypto.Epoch, core string) error {
	r.step("mark extension")
	if err := r.mark(to, core); err != nil {
		return err
	}
	r.step("remove extension")
	if err := durable.Remove(filepath.Join(r.extendedDir(to), core)); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	return durable.SyncDir(r.extendedDir(to))
}
