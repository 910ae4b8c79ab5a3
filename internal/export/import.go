package export

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
)

// Target is where an archive is imported.
type Target struct {
	Keys    *keyring.Keyring
	DataDir string
	// Deny adds the rulings and CIDs of another deny list to this one, and returns how many lines
	// were new.
	Deny func(list []byte) (int, error)
}

// Import adds what the archive has to a keyring and its deny list, and counts what was new. It may
// run beside the service, and may be repeated after an error: each file is there as a whole or not
// at all. Keys that are destroyed on either side stay destroyed.
func (a *Archive) Import(to Target) (Counts, error) {
	in := &importer{Target: to, marks: make(map[crypto.Epoch][]cid.Cid)}
	steps := []struct {
		kinds []kind
		take  func(e entry, content io.Reader) error
	}{
		{[]kind{denied}, in.deny},
		{[]kind{destroyed, ended}, in.destroy}, // before the keys
		{[]kind{keyFile}, in.key},
		{[]kind{extended}, in.extend},
	}
	for _, step := range steps {
		err := a.each(func(e entry, content io.Reader, _ int64) error {
			for _, k := range step.kinds {
				if k == e.kind {
					return step.take(e, content)
				}
			}
			return nil
		})
		if err = errors.Join(err, in.flush()); err != nil {
			return in.counts, fmt.Errorf("import: %w", err)
		}
	}
	// A key file that was imported has the keys of what is destroyed here.
	if err := to.Keys.Apply(); err != nil {
		return in.counts, fmt.Errorf("import: %w", err)
	}
	if in.unusable > 0 {
		return in.counts, fmt.Errorf("import: %d records of extended files cannot be used, and the rest is imported; the first is %w", in.unusable, in.first)
	}
	return in.counts, nil
}

type importer struct {
	Target
	counts Counts
	marks  map[crypto.Epoch][]cid.Cid // of destroyed files, to be written together
	marked int                        // how many they are

	unusable int // records of extended files that do not open
	first    error
}

// maxMarks bounds the marks that are collected: a key file is written anew for each collection.
const maxMarks = 100_000

func (in *importer) deny(_ entry, content io.Reader) error {
	list, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	in.counts.Denied, err = in.Deny(list)
	return err
}

// destroy collects the marks that are not here yet.
func (in *importer) destroy(e entry, _ io.Reader) error {
	_, err := os.Lstat(filepath.Join(in.DataDir, filepath.FromSlash(e.name())))
	if !errors.Is(err, fs.ErrNotExist) {
		return err // nil: it is here
	}
	in.counts.Destroyed++
	if e.kind == ended {
		return in.Keys.End(e.epoch)
	}
	in.marks[e.epoch] = append(in.marks[e.epoch], e.core)
	if in.marked++; in.marked >= maxMarks {
		return in.flush()
	}
	return nil
}

// flush writes the marks that were collected.
func (in *importer) flush() error {
	for epoch, cores := range in.marks {
		if err := in.Keys.Destroy(epoch, cores...); err != nil {
			return err
		}
		delete(in.marks, epoch)
	}
	in.marked = 0
	return nil
}

func (in *importer) key(e entry, content io.Reader) error {
	file, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	before := in.Keys.Check(e.epoch)
	if errors.Is(before, keyring.ErrDestroyed) {
		return nil // the epoch has ended here
	}
	if err := in.Keys.Merge(e.epoch, file); err != nil {
		return err
	}
	if errors.Is(before, keyring.ErrNoEpoch) {
		in.counts.Epochs = append(in.counts.Epochs, e.epoch)
	}
	return nil
}

func (in *importer) extend(e entry, content io.Reader) error {
	record, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	fresh, err := in.Keys.MergeExtension(e.epoch, e.core, record)
	if errors.Is(err, keyring.ErrNoEpoch) {
		return nil // the file is destroyed here, or its new epoch has ended
	}
	if fresh {
		in.counts.Extended++
	}
	if err != nil { // the others must be restored all the same
		if in.unusable++; in.unusable == 1 {
			in.first = fmt.Errorf("%s: %w", e.name(), err)
		}
	}
	return nil
}
