package keyring

import (
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

const (
	destroyedDir = "destroyed"
	// allMark is the name of the mark for a whole epoch. It is not a CID.
	allMark = "all"
)

func (r *Keyring) markDir(e crypto.Epoch) string {
	return filepath.Join(r.dir, destroyedDir, string(e))
}

// marked reports whether destroyed/EPOCH has a mark of this name.
func (r *Keyring) marked(e crypto.Epoch, name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(r.markDir(e), name))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, fmt.Errorf("keyring: %w", durable.WithRemedy(err, r.dir))
}

// mark makes empty files in destroyed/EPOCH. When it returns nil they survive a power failure.
func (r *Keyring) mark(e crypto.Epoch, names ...string) error {
	if err := durable.MakeDirectory(r.markDir(e)); err != nil {
		return fmt.Errorf("mark as destroyed: %w", durable.WithRemedy(err, r.dir))
	}
	for _, name := range names {
		f, err := os.OpenFile(filepath.Join(r.markDir(e), name), os.O_WRONLY|os.O_CREATE, 0o600)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return fmt.Errorf("mark as destroyed: %w", durable.WithRemedy(err, r.dir))
		}
	}
	if err := durable.SyncDir(r.markDir(e)); err != nil {
		return fmt.Errorf("mark as destroyed: %w", err)
	}
	return nil
}

// Destroy destroys the secrets of these objects: it marks their cores as destroyed, punctures the
// key file, and does the same for every epoch that the objects were extended into. From the mark
// on no process that shares the keyring derives them. It may be repeated, and Open finishes what
// was interrupted. The epoch's key file may be missing: it is punctured when it comes.
func (r *Keyring) Destroy(e crypto.Epoch, cores ...cid.Cid) error {
	if _, err := crypto.ParseEpoch(string(e)); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	names := make([]string, len(cores))
	for i, core := range cores {
		if _, err := pathOf(core); err != nil {
			return fmt.Errorf("keyring: %w", err)
		}
		names[i] = core.String()
	}
	if len(names) == 0 {
		return nil
	}
	unlock, err := r.lock(changeLock)
	if err != nil {
		return err
	}
	defer unlock()
	r.step("mark")
	if err := r.mark(e, names...); err != nil {
		return err
	}
	return r.apply(e, names)
}

// End destroys the secrets of a whole epoch, and with them the files that were extended into it.
// The marks of its single objects stay: they also keep those objects from being extended by a
// keyring that is merged later. End may be repeated, and Open finishes what was interrupted.
func (r *Keyring) End(e crypto.Epoch) error {
	if _, err := crypto.ParseEpoch(string(e)); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	unlock, err := r.lock(changeLock)
	if err != nil {
		return err
	}
	defer unlock()
	r.step("mark")
	if err := r.mark(e, allMark); err != nil {
		return err
	}
	return r.applyTo(e)
}

// Apply brings the key files up to date with the marks in destroyed, which may have come from
// another machine, and removes what a crash left. Open does the same.
func (r *Keyring) Apply() error {
	unlock, err := r.lock(changeLock)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.removeLeftovers(); err != nil {
		return err
	}
	names, err := readNames(filepath.Join(r.dir, destroyedDir))
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	for _, name := range names {
		e, err := crypto.ParseEpoch(name)
		if err != nil {
			continue // not ours
		}
		marks, err := readNames(r.markDir(e))
		if err != nil {
			return fmt.Errorf("keyring: %w", err)
		}
		if err := r.apply(e, marks); err != nil && !onlyDamaged(err) {
			return err
		}
	}
	return nil
}

// onlyDamaged reports whether an error of apply says nothing but that key files are damaged. They get
// the marks when the right ones are put back. Until then they derive nothing.
func onlyDamaged(err error) bool {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(all.Unwrap(), func(err error) bool { return !errors.Is(err, ErrDamaged) })
	}
	return errors.Is(err, ErrDamaged)
}

// apply removes the extensions of the marked objects of an epoch, and then destroys what is marked
// in every epoch concerned. The caller holds changeLock.
func (r *Keyring) apply(e crypto.Epoch, marks []string) error {
	extended, err := r.destroyExtensions(marks)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range append(extended, e) {
		errs = append(errs, r.applyTo(e)) // a damaged key file must not keep the others whole
	}
	return errors.Join(errs...)
}

// applyTo destroys in one epoch's key file what is marked. The caller holds changeLock.
func (r *Keyring) applyTo(e crypto.Epoch) error {
	ended, err := r.marked(e, allMark)
	if err != nil {
		return err
	}
	if ended {
		return r.finishEnd(e)
	}
	marks, err := readNames(r.markDir(e))
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	var paths []path
	for _, name := range marks {
		// A name that is not a CID is not a mark.
		if core, err := cid.Decode(name); err == nil {
			if p, err := pathOf(core); err == nil {
				paths = append(paths, p)
			}
		}
	}
	return r.puncture(e, paths)
}

func (r *Keyring) finishEnd(e crypto.Epoch) error {
	_, keyErr := os.Lstat(r.path(e))
	_, extendedErr := os.Lstat(r.extendedDir(e))
	if errors.Is(keyErr, fs.ErrNotExist) && errors.Is(extendedErr, fs.ErrNotExist) {
		return nil // finished already, as most epochs are when Open comes here
	}
	r.step("overwrite ended")
	if err := r.shred(r.path(e)); err != nil {
		return fmt.Errorf("end epoch %s: %w", e, err)
	}
	r.forget(e)
	r.step("remove extensions")
	if err := os.RemoveAll(r.extendedDir(e)); err != nil {
		return fmt.Errorf("end epoch %s: %w", e, err)
	}
	if err := durable.SyncDir(r.dir); err != nil {
		return fmt.Errorf("end epoch %s: %w", e, err)
	}
	return nil
}

// puncture writes the key file anew without the leaves of these paths, if it has any of them. A
// missing key file is not an error. The caller holds changeLock.
func (r *Keyring) puncture(e crypto.Epoch, paths []path) error {
	paths, err := r.unpunctured(e, paths)
	if errors.Is(err, ErrNoEpoch) || err == nil && len(paths) == 0 {
		return nil
	} else if err != nil {
		return err
	}
	r.forget(e) // so that every byte is verified again before it is copied
	k, err := r.open(e)
	if err != nil {
		return err
	}
	err = r.replace(e, func(w io.Writer) error { return writePunctured(w, k.content, k, paths) })
	if err = errors.Join(err, k.Close()); err == nil {
		r.step("overwrite")
		err = r.shred(r.oldPath(e))
	}
	if err != nil {
		return fmt.Errorf("puncture the key file of epoch %s: %w", e, durable.WithRemedy(err, r.dir))
	}
	return nil
}

// unpunctured returns those of the paths that the key file still has.
func (r *Keyring) unpunctured(e crypto.Epoch, paths []path) ([]path, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	k, err := r.open(e)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(paths, func(p path) bool { _, _, ok := k.cover.find(p); return !ok }), k.Close()
}

// oldPath is a second name of the key file that is replaced. After a crash removeLeftovers
// overwrites the file.
func (r *Keyring) oldPath(e crypto.Epoch) string {
	return filepath.Join(r.dir, oldPrefix+string(e)+keySuffix)
}

// replace replaces the epoch's key file by what write writes, and leaves the old one at oldPath.
func (r *Keyring) replace(e crypto.Epoch, write func(io.Writer) error) error {
	if err := r.removeLeftover(r.oldPath(e)); err != nil {
		return err
	}
	r.step("write")
	return r.writeTemporary(nextPrefix, write, func(tmp string) error {
		r.step("link old")
		if err := os.Link(r.path(e), r.oldPath(e)); err != nil {
			return err
		}
		r.step("rename")
		if err := os.Rename(tmp, r.path(e)); err != nil {
			return err
		}
		r.step("sync")
		return durable.SyncDir(r.dir)
	})
}
