package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

const (
	// sweepMargin is how long after its end an epoch is swept, for machines whose clocks differ.
	sweepMargin = time.Hour
	// keepList is how long after its end an epoch's list is kept. Until then its links say that the
	// file has expired; later they are unknown.
	keepList = 365 * 24 * time.Hour
	// destroyTogether bounds how many keys are destroyed in one step.
	destroyTogether = 1000
)

// SweepOptions are the options of [Vault.Sweep].
type SweepOptions struct {
	Grace  time.Duration // how long a revoked file can be given back
	DryRun bool          // only say what a sweep would do
	// Progress is called after each file of an ended epoch is deleted. It may be nil.
	Progress func(done, total int)

	deleted func()    // is called after each file; set by Sweep
	now     time.Time // when the sweep began, by the clock that was trusted; set by Sweep
}

// Swept is what a sweep did, or would do.
type Swept struct {
	Ended     []EndedEpoch
	Destroyed int            // revoked files whose keys were destroyed
	Recovered []cid.Cid      // objects that interrupted mails had stored
	Forgotten []crypto.Epoch // whose lists were removed
}

// EndedEpoch is an epoch whose day is over.
type EndedEpoch struct {
	Epoch crypto.Epoch
	Key   bool  // its key was destroyed
	Files int   // that were deleted from the store
	Bytes int64 // of these files
}

// None reports whether there was nothing to do.
func (s Swept) None() bool {
	return len(s.Ended)+s.Destroyed+len(s.Recovered)+len(s.Forgotten) == 0
}

// Sweep removes what has ended: the keys of epochs whose day is over, then their objects; keys and
// objects of files that were revoked longer than the grace period ago; what interrupted mails left;
// and the lists of epochs that ended more than a year ago. It destroys what the marks say that were
// copied in from another machine. Several processes may sweep together, and a sweep may be killed:
// the next one continues. Unless the clock can be trusted, Sweep returns ErrClock, and removes only
// what does not depend on the time.
//
// Sweep tries every step, also after one has failed. Its result holds beside an error, too.
func (v *Vault) Sweep(ctx context.Context, o SweepOptions) (s Swept, err error) {
	if !o.DryRun {
		s.Recovered, err = v.Recover(ctx)
		err = errors.Join(err, v.keys.Apply())
	}
	// Only this time decides what has ended: the clock may be set while files are being deleted.
	o.now = v.cfg.Now()
	if doubt := v.clock.Trusted(); doubt != nil {
		return s, errors.Join(err, doubt)
	}
	o.deleted = v.countSweep(ctx, o)
	for _, step := range []func(context.Context, SweepOptions, *Swept) error{v.endEpochs, v.destroyDue, v.forgetLists} {
		if ctx.Err() == nil {
			err = errors.Join(err, step(ctx, o, &s))
		}
	}
	return s, errors.Join(err, ctx.Err())
}

// countSweep returns the function that is called after each deletion. If somebody wants to see the
// progress, it counts first.
func (v *Vault) countSweep(ctx context.Context, o SweepOptions) func() {
	if o.Progress == nil || o.DryRun {
		return func() {}
	}
	var ahead Swept
	_ = v.endEpochs(ctx, SweepOptions{DryRun: true, deleted: func() {}, now: o.now}, &ahead) // the sweep itself meets the same error
	total, done := 0, 0
	for _, e := range ahead.Ended {
		total += e.Files
	}
	return func() {
		done++
		o.Progress(done, total)
	}
}

// TrustClock records the present time as right, so that Sweep goes on.
func (v *Vault) TrustClock() error { return v.clock.Trust() }

// over reports whether an epoch ended long enough ago to be swept.
func (o SweepOptions) over(e crypto.Epoch) bool {
	end := e.End()
	return !end.IsZero() && !o.now.Before(end.Add(sweepMargin))
}

// endEpochs ends the epochs that are over.
func (v *Vault) endEpochs(ctx context.Context, o SweepOptions, s *Swept) error {
	keys, err := v.keys.Epochs()
	if err != nil {
		return err
	}
	lists, err := v.ledger.epochs()
	if err != nil {
		return err
	}
	epochs := append(slices.Clone(keys), lists...)
	slices.Sort(epochs)
	var errs []error
	for _, e := range slices.Compact(epochs) {
		if !o.over(e) || ctx.Err() != nil {
			continue
		}
		ended := EndedEpoch{Epoch: e, Key: slices.Contains(keys, e)}
		if err := v.endEpoch(ctx, o, &ended); err != nil {
			errs = append(errs, fmt.Errorf("end epoch %s: %w", e, err))
		}
		if ended.Key || ended.Files > 0 {
			s.Ended = append(s.Ended, ended)
		}
	}
	return errors.Join(errs...)
}

// endEpoch destroys the epoch's key, and then deletes its objects. An object whose key stays is not
// deleted.
func (v *Vault) endEpoch(ctx context.Context, o SweepOptions, ended *EndedEpoch) error {
	if ended.Key && !o.DryRun {
		if err := v.keys.End(ended.Epoch); err != nil {
			ended.Key = false
			return err
		}
	}
	list, err := v.openSweptList(ended.Epoch)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the objects, if there are any, are left to fsck
	} else if err != nil {
		return err
	}
	return list.each(ctx, !o.DryRun, func(e Entry) error {
		if kept, err := v.extended(o, e); kept || err != nil {
			return err
		}
		if !o.DryRun {
			if err := v.deleteGently(ctx, e.CID); err != nil {
				return err
			}
		}
		ended.Files, ended.Bytes = ended.Files+1, ended.Bytes+e.Size
		o.deleted()
		return nil
	})
}

// extended reports whether a file of an epoch that is over was extended into one that is not. A key
// file that is missing or damaged may come back, so the file stays unless the key was destroyed.
func (v *Vault) extended(o SweepOptions, e Entry) (bool, error) {
	epochs, err := v.keys.Extended(e.Core)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(epochs, func(to crypto.Epoch) bool {
		return !o.over(to) && !errors.Is(v.keys.Check(to), keyring.ErrDestroyed)
	}), nil
}

// rest is how many times as long as a deletion the pause after it is. While a store syncs a deletion
// to its disk, mails wait for the same disk.
const rest = 4

// deleteGently deletes an object, and then pauses.
func (v *Vault) deleteGently(ctx context.Context, c cid.Cid) error {
	began := time.Now()
	if err := v.store.Delete(ctx, c); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rest * time.Since(began)):
		return nil
	}
}

// destroyDue destroys the keys of what was revoked longer than the grace period ago.
func (v *Vault) destroyDue(ctx context.Context, o SweepOptions, s *Swept) error {
	due, err := v.due(o.now.Add(-o.Grace))
	if err != nil {
		return err
	}
	var errs []error
	for some := range slices.Chunk(due, destroyTogether) {
		// Deleting takes a while, in which a file may be given back.
		some, err := v.stillDenied(some)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		if !o.DryRun {
			if err := v.Destroy(ctx, some...); err != nil {
				errs = append(errs, fmt.Errorf("destroy what was revoked: %w", err))
				if ctx.Err() != nil || errors.Is(err, ErrUnavailable) {
					break
				}
				continue
			}
		}
		s.Destroyed += len(some)
	}
	return errors.Join(errs...)
}

// forgetLists removes the lists of epochs that ended long ago.
func (v *Vault) forgetLists(_ context.Context, o SweepOptions, s *Swept) error {
	epochs, err := v.ledger.epochs()
	if err != nil {
		return err
	}
	for _, e := range epochs {
		if !o.over(e) || o.now.Before(e.End().Add(keepList)) {
			continue
		}
		list, err := v.openSweptList(e)
		if err == nil && list.done < list.size {
			continue // its objects are not deleted yet
		}
		if err == nil && !o.DryRun {
			err = errors.Join(v.ledger.remove(e), durable.Remove(list.path()))
		}
		if err != nil {
			return fmt.Errorf("remove the list of epoch %s: %w", e, err)
		}
		s.Forgotten = append(s.Forgotten, e)
	}
	return nil
}

const (
	// sweptSuffix ends the name of the file that says how far the list of an epoch is swept.
	sweptSuffix = ".swept"
	sweptTemp   = ".swept-" // begins the name of such a file that is being written
	// noteEvery is how many objects are deleted again after a crash.
	noteEvery = 1000
)

// sweptList is the list of an epoch whose objects are being deleted. It says which are, so that
// sweeping again costs nothing. Their lines stay.
type sweptList struct {
	ledger     *ledger
	epoch      crypto.Epoch
	size, done int64 // bytes of the list, and of these the swept ones
}

// openSweptList returns an error that wraps fs.ErrNotExist if the epoch has no list.
func (v *Vault) openSweptList(e crypto.Epoch) (sweptList, error) {
	l := sweptList{ledger: v.ledger, epoch: e}
	info, err := os.Stat(v.ledger.path(e))
	if err != nil {
		return l, err
	}
	l.size = info.Size()
	text, err := os.ReadFile(l.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	// A malformed file, or that of a longer list, says nothing.
	if done, err := strconv.ParseInt(string(text), 10, 64); err == nil && done > 0 && done <= l.size {
		l.done = done
	}
	return l, nil
}

func (l *sweptList) path() string {
	return filepath.Join(l.ledger.dir, string(l.epoch)+sweptSuffix)
}

// each calls sweep for each object that is not swept, until sweep fails. If note is true, it writes
// down how far it came.
func (l *sweptList) each(ctx context.Context, note bool, sweep func(Entry) error) error {
	begin, swept := l.done, 0
	_, err := l.ledger.lines(l.epoch, l.done, func(at int64, text []byte) error {
		if line, c, ok := parseLine(text); ok && !line.Gone {
			if err := errors.Join(ctx.Err(), sweep(line.entry(c, l.epoch))); err != nil {
				return err
			}
			swept++
		}
		l.done = at + int64(len(text))
		if !note || swept < noteEvery {
			return nil
		}
		swept = 0
		return l.note()
	})
	if note && l.done > begin {
		err = errors.Join(err, l.note())
	}
	return err
}

// note writes down how far the list is swept. It is not synced: what is lost is only deleted again.
func (l *sweptList) note() (err error) {
	if err := durable.RemoveAbandoned(l.ledger.dir, sweptTemp, ""); err != nil {
		return err
	}
	f, err := durable.CreateLocked(l.ledger.dir, sweptTemp+"*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, durable.Remove(f.Name()), f.Close()) }()
	if _, err := f.WriteString(strconv.FormatInt(l.done, 10)); err != nil {
		return err
	}
	return os.Rename(f.Name(), l.path())
}
