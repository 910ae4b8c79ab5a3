package export

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
)

// ErrEmpty says that a keyring has no epoch yet.
var ErrEmpty = errors.New("there are no keys yet")

// Counts is what an export has, or an import has brought.
type Counts struct {
	Epochs    []crypto.Epoch
	Destroyed int // files whose key is destroyed, and epochs
	Extended  int // files
	Denied    int // bytes of the deny list in an export, and lines that were new in an import
	// LeftOut says of each key file that an export does not have, although it is here, why not.
	LeftOut []error
}

// Source is what is exported.
type Source struct {
	Keys    *keyring.Keyring
	DataDir string
	Denied  []byte // the deny list, without what else stands in its lines
}

// Write writes an export for recipients. It may run beside the service: each key file is whole, and
// what is destroyed while Write runs may be in the export as if Write had run before. A key file that
// cannot be used is left out, unless there is no other.
func Write(w io.Writer, src Source, recipients ...age.Recipient) (Counts, error) {
	sealed, err := age.Encrypt(w, recipients...)
	if err != nil {
		return Counts{}, fmt.Errorf("export: %w", err)
	}
	out := &writer{tar: tar.NewWriter(sealed), now: time.Now()}
	if err := out.all(src); err != nil {
		return Counts{}, fmt.Errorf("export: %w", err)
	}
	if err := errors.Join(out.tar.Close(), sealed.Close()); err != nil {
		return Counts{}, fmt.Errorf("export: %w", err)
	}
	return out.counts, nil
}

type writer struct {
	tar    *tar.Writer
	now    time.Time
	counts Counts
}

// all writes the key files before the marks of what is destroyed: a key that is destroyed meanwhile
// is then missing in the key file, or its mark follows.
func (w *writer) all(src Source) error {
	if err := w.keys(src.Keys); err != nil {
		return err
	}
	if err := w.folder(src.DataDir, extendedFolder); err != nil {
		return err
	}
	if len(src.Denied) > 0 {
		if err := w.add(deniedName, src.Denied); err != nil {
			return err
		}
	}
	return w.folder(src.DataDir, destroyedFolder)
}

func (w *writer) keys(r *keyring.Keyring) error {
	epochs, err := r.Epochs()
	if err != nil {
		return err
	}
	for _, e := range epochs {
		file, err := r.Export(e)
		if errors.Is(err, keyring.ErrNoEpoch) {
			continue // it ended since
		} else if err != nil {
			w.counts.LeftOut = append(w.counts.LeftOut, err)
			continue
		}
		if err := w.add(entry{kind: keyFile, epoch: e}.name(), file); err != nil {
			return err
		}
	}
	switch {
	case len(w.counts.Epochs) > 0:
		return nil
	case len(w.counts.LeftOut) > 0:
		return errors.Join(w.counts.LeftOut...)
	}
	return ErrEmpty
}

// folder adds the files in the folders of a folder, in any order. A folder may have very many.
func (w *writer) folder(dataDir, folder string) error {
	top, err := os.ReadDir(filepath.Join(dataDir, folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range top {
		if _, err := crypto.ParseEpoch(e.Name()); err != nil {
			continue
		}
		if err := w.files(dataDir, folder+"/"+e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// batch is how many names of a folder are read together.
const batch = 1000

func (w *writer) files(dataDir, folder string) error {
	dir, err := os.Open(filepath.Join(dataDir, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			if err := w.file(dataDir, folder+"/"+name); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// file adds a record or a mark. Temporary files have other names, and are left out.
func (w *writer) file(dataDir, name string) error {
	e, err := parseName(name)
	if err != nil {
		return nil
	}
	content, err := os.ReadFile(filepath.Join(dataDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an epoch ended since
	} else if err != nil {
		return err
	}
	if int64(len(content)) > e.maxSize() {
		return fmt.Errorf("%s has %d bytes, more than Detach writes: move it elsewhere", filepath.Join(dataDir, name), len(content))
	}
	return w.add(name, content)
}

func (w *writer) add(name string, content []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o600, ModTime: w.now.Truncate(time.Second), Format: tar.FormatPAX}
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	e, err := parseName(name)
	if err != nil {
		return err
	}
	w.counts.add(e, len(content))
	_, err = w.tar.Write(content)
	return err
}

func (c *Counts) add(e entry, size int) {
	switch e.kind {
	case keyFile:
		c.Epochs = append(c.Epochs, e.epoch)
	case extended:
		c.Extended++
	case denied:
		c.Denied += size
	default:
		c.Destroyed++
	}
}
