package keyring

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

// keyWriter makes key files and replaces them. At every moment a name leads to a whole file.
type keyWriter struct {
	keys     *keys
	shredder shredder
	step     func(name string)
}

// create makes a new key file. The caller holds makeLock.
func (kw keyWriter) create(p crypto.Period) (crypto.Epoch, error) {
	var e crypto.Epoch
	err := kw.writeTemporary(newPrefix, func(w io.Writer) error {
		service, err := writeNew(w)
		if err == nil { // else there is no secret to name the epoch by
			e = crypto.NewEpoch(p, service)
		}
		return err
	}, func(tmp string) error { return kw.link(tmp, e) })
	if err != nil {
		return "", fmt.Errorf("make a key file: %w", durable.WithRemedy(err, kw.keys.dir))
	}
	return e, nil
}

// link gives a key file its name. link(2) never replaces a file.
func (kw keyWriter) link(tmp string, e crypto.Epoch) error {
	kw.step("link")
	if err := os.Link(tmp, kw.keys.path(e)); err != nil {
		return err
	}
	kw.step("sync name")
	return kw.keys.syncName(e)
}

// puncture writes the key file anew without the leaves of these paths, if it has any of them. A
// missing key file is not an error. The caller holds changeLock.
func (kw keyWriter) puncture(e crypto.Epoch, paths []path) error {
	paths, err := kw.unpunctured(e, paths)
	if errors.Is(err, ErrNoEpoch) || err == nil && len(paths) == 0 {
		return nil
	} else if err != nil {
		return err
	}
	kw.keys.forget(e) // so that every byte is verified again before it is copied
	k, err := kw.keys.open(e)
	if err != nil {
		return err
	}
	err = kw.replace(e, func(w io.Writer) error { return writePunctured(w, k.content, k, paths) })
	if err = errors.Join(err, k.Close()); err == nil {
		kw.step("overwrite")
		err = kw.shredder.shred(kw.oldPath(e))
	}
	if err != nil {
		return fmt.Errorf("puncture the key file of epoch %s: %w", e, durable.WithRemedy(err, kw.keys.dir))
	}
	return nil
}

// unpunctured returns those of the paths that the key file still has.
func (kw keyWriter) unpunctured(e crypto.Epoch, paths []path) ([]path, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	k, err := kw.keys.open(e)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(paths, func(p path) bool { _, _, ok := k.cover.find(p); return !ok }), k.Close()
}

// oldPath is a second name of the key file that is replaced. After a crash removeLeftovers
// overwrites the file.
func (kw keyWriter) oldPath(e crypto.Epoch) string {
	return filepath.Join(kw.keys.dir, oldPrefix+string(e)+keySuffix)
}

// replace replaces the epoch's key file by what write writes, and leaves the old one at oldPath.
func (kw keyWriter) replace(e crypto.Epoch, write func(io.Writer) error) error {
	if err := kw.shredder.removeLeftover(kw.oldPath(e)); err != nil {
		return err
	}
	kw.step("write")
	return kw.writeTemporary(nextPrefix, write, func(tmp string) error {
		kw.step("link old")
		if err := os.Link(kw.keys.path(e), kw.oldPath(e)); err != nil {
			return err
		}
		kw.step("rename")
		if err := os.Rename(tmp, kw.keys.path(e)); err != nil {
			return err
		}
		kw.step("sync")
		return durable.SyncDir(kw.keys.dir)
	})
}

// writeTemporary writes a key file, 0600 and synced, under a temporary name, which is no longer
// there when writeTemporary returns. publish gives the file its own name. The caller holds the lock
// of the prefix.
func (kw keyWriter) writeTemporary(prefix string, write func(io.Writer) error, publish func(tmp string) error) error {
	tmp, err := os.CreateTemp(kw.keys.dir, prefix+"*")
	if err != nil {
		return err
	}
	err = errors.Join(write(tmp), tmp.Sync(), tmp.Close())
	if err == nil {
		err = publish(tmp.Name())
	}
	return errors.Join(err, kw.shredder.removeLeftover(tmp.Name()))
}
