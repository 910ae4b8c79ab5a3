package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

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
	unlock, err := r.keys.lock(changeLock)
	if err != nil {
		return err
	}
	defer unlock()
	r.step("mark")
	if err := r.marks.add(e, names...); err != nil {
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
	unlock, err := r.keys.lock(changeLock)
	if err != nil {
		return err
	}
	defer unlock()
	r.step("mark")
	if err := r.marks.add(e, allMark); err != nil {
		return err
	}
	return r.applyTo(e)
}

// Apply brings the key files up to date with the marks in destroyed, which may have come from
// another machine, and removes what a crash left. Open does the same.
func (r *Keyring) Apply() error {
	unlock, err := r.keys.lock(changeLock)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.shredder.removeLeftovers(); err != nil {
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
		marks, err := readNames(r.marks.folder(e))
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
	extended, err := r.records.destroy(marks)
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
	ended, err := r.marks.has(e, allMark)
	if err != nil {
		return err
	}
	if ended {
		return r.finishEnd(e)
	}
	marks, err := readNames(r.marks.folder(e))
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
	return r.writer.puncture(e, paths)
}

func (r *Keyring) finishEnd(e crypto.Epoch) error {
	_, keyErr := os.Lstat(r.keys.path(e))
	_, extendedErr := os.Lstat(r.records.folder(e))
	if errors.Is(keyErr, fs.ErrNotExist) && errors.Is(extendedErr, fs.ErrNotExist) {
		return nil // finished already, as most epochs are when Open comes here
	}
	r.step("overwrite ended")
	if err := r.shredder.shred(r.keys.path(e)); err != nil {
		return fmt.Errorf("end epoch %s: %w", e, err)
	}
	r.keys.forget(e)
	r.step("remove extensions")
	if err := os.RemoveAll(r.records.folder(e)); err != nil {
		return fmt.Errorf("end epoch %s: %w", e, err)
	}
	if err := durable.SyncDir(r.dir); err != nil {
		return fmt.Errorf("end epoch %s: %w", e, err)
	}
	return nil
}
