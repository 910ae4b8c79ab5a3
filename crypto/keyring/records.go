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

const extendedDirName = "extended"

// records are the files extended/NEW/CORE. Each gives an object an end in a later epoch.
type records struct {
	dir   string // the keyring's
	marks marks
	keys  *keys
	step  func(name string)
}

func (rs records) folder(e crypto.Epoch) string {
	return filepath.Join(rs.dir, extendedDirName, string(e))
}

func (rs records) path(e crypto.Epoch, core cid.Cid) string {
	return filepath.Join(rs.folder(e), core.String())
}

func (rs records) aead(to crypto.Epoch, core cid.Cid) (cipher.AEAD, error) {
	key, err := rs.keys.deriveLeaf(to, core, infoExtend)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("extension: %w", err)
	}
	return cipher.NewGCM(block)
}

// seal completes a record with the share.
func (rs records) seal(to crypto.Epoch, core cid.Cid, x extension, b crypto.Share) (extension, error) {
	aead, err := rs.aead(to, core)
	if err != nil {
		return x, err
	}
	nonce := make([]byte, nonceSize)
	if _, err := io.ReadFull(rand.Reader, nonce); err != nil {
		return x, fmt.Errorf("extend: %w", err)
	}
	x.sealed = aead.Seal(nonce, nonce, b.Bytes(), x.aad(to))
	return x, nil
}

// write makes the record's file, or replaces it. The caller holds changeLock.
func (rs records) write(to crypto.Epoch, core cid.Cid, x extension) error {
	dir := rs.folder(to)
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
		rs.step("rename record")
		err = os.Rename(tmp.Name(), rs.path(to, core))
	}
	if err != nil {
		return errors.Join(err, durable.Remove(tmp.Name()), tmp.Close())
	}
	return errors.Join(tmp.Close(), durable.SyncDir(dir))
}

// read returns the record, or fs.ErrNotExist.
func (rs records) read(to crypto.Epoch, core cid.Cid) (extension, error) {
	f, err := os.Open(rs.path(to, core))
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

// epochs returns the epochs that an object with this core was extended into, the latest end first.
func (rs records) epochs(core cid.Cid) ([]crypto.Epoch, error) {
	names, err := readNames(filepath.Join(rs.dir, extendedDirName))
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	var epochs []crypto.Epoch
	for _, name := range names {
		e, err := crypto.ParseEpoch(name)
		if err != nil {
			continue // not ours
		}
		if _, err := os.Lstat(rs.path(e, core)); err == nil {
			epochs = append(epochs, e)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("keyring: %w", durable.WithRemedy(err, rs.dir))
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

// open returns the mode and the share of an object with this root and own epoch, or ErrNoExtension if
// there is no record, or if the object was destroyed.
func (rs records) open(to crypto.Epoch, root, core cid.Cid, old crypto.Epoch) (bool, crypto.Share, error) {
	x, err := rs.read(to, core)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(x.root, root.Bytes()) {
		return false, crypto.Share{}, ErrNoExtension
	} else if err != nil {
		return false, crypto.Share{}, fmt.Errorf("keyring: %w", err)
	}
	if x.old != old { // the marks of another epoch say nothing about the object
		return false, crypto.Share{}, fmt.Errorf("%s: %w: the object's epoch is %s, and the record names %s", rs.path(to, core), errExtension, old, x.old)
	}
	if gone, err := rs.marks.has(x.old, core.String()); err != nil || gone {
		return false, crypto.Share{}, errors.Join(err, ErrNoExtension)
	}
	b, err := rs.unseal(to, core, x)
	return x.link, b, err
}

// unseal opens a record's share.
func (rs records) unseal(to crypto.Epoch, core cid.Cid, x extension) (crypto.Share, error) {
	aead, err := rs.aead(to, core)
	if err != nil {
		return crypto.Share{}, err
	}
	raw, err := aead.Open(nil, x.sealed[:nonceSize], x.sealed[nonceSize:], x.aad(to))
	if err != nil {
		return crypto.Share{}, fmt.Errorf("%s: %w", rs.path(to, core), errExtension)
	}
	return crypto.ShareFromBytes(raw)
}

// destroy removes the records of the marked objects, and returns the epochs that they were extended
// into, where it marks them too. The caller holds changeLock, and then applies the marks.
func (rs records) destroy(marks []string) (extended []crypto.Epoch, err error) {
	epochs, err := readNames(filepath.Join(rs.dir, extendedDirName))
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	for _, name := range epochs {
		e, err := crypto.ParseEpoch(name)
		if err != nil {
			continue // not ours
		}
		records, err := readNames(rs.folder(e))
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		cores := both(records, marks)
		for _, core := range cores {
			if err := rs.destroyOne(e, core); err != nil {
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

func (rs records) destroyOne(to crypto.Epoch, core string) error {
	rs.step("mark extension")
	if err := rs.marks.add(to, core); err != nil {
		return err
	}
	rs.step("remove extension")
	if err := durable.Remove(filepath.Join(rs.folder(to), core)); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	return durable.SyncDir(rs.folder(to))
}
