package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
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

// SweepOptions are the options of [Keeper.Sweep].
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
// the next one continues. Unless the clock can be trusted, Sweep returns clock.ErrUntrusted, and
// removes only what does not depend on the time.
//
// Sweep tries every step, also after one has failed. Its result holds beside an error, too.
func (k *Keeper) Sweep(ctx context.Context, o SweepOptions) (s Swept, err error) {
	if !o.DryRun {
		s.Recovered, err = k.vault.Recover(ctx)
		err = errors.Join(err, k.keys.Apply())
	}
	// Only this time decides what has ended: the clock may be set while files are being deleted.
	o.now = k.clock.Now()
	if doubt := k.clock.Trusted(); doubt != nil {
		return s, errors.Join(err, doubt)
	}
	o.deleted = k.countSweep(ctx, o)
	for _, step := range []func(context.Context, SweepOptions, *Swept) error{k.endEpochs, k.destroyDue, k.forgetLists} {
		if ctx.Err() == nil {
			err = errors.Join(err, step(ctx, o, &s))
		}
	}
	return s, errors.Join(err, ctx.Err())
}

// countSweep returns the function that is called after each deletion. If somebody wants to see the
// progress, it counts first.
func (k *Keeper) countSweep(ctx context.Context, o SweepOptions) func() {
	if o.Progress == nil || o.DryRun {
		return func() {}
	}
	var ahead Swept
	_ = k.endEpochs(ctx, SweepOptions{DryRun: true, deleted: func() {}, now: o.now}, &ahead) // the sweep itself meets the same error
	total, done := 0, 0
	for _, e := range ahead.Ended {
		total += e.Files
	}
	return func() {
		done++
		o.Progress(done, total)
	}
}

// over reports whether an epoch ended long enough ago to be swept.
func (o SweepOptions) over(e crypto.Epoch) bool {
	end := e.End()
	return !end.IsZero() && !o.now.Before(end.Add(sweepMargin))
}

// endEpochs ends the epochs that are over.
func (k *Keeper) endEpochs(ctx context.Context, o SweepOptions, s *Swept) error {
	keys, err := k.keys.Epochs()
	if err != nil {
		return err
	}
	lists, err := k.ledger.Epochs()
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
		if err := k.endEpoch(ctx, o, &ended); err != nil {
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
func (k *Keeper) endEpoch(ctx context.Context, o SweepOptions, ended *EndedEpoch) error {
	if ended.Key && !o.DryRun {
		if err := k.keys.End(ended.Epoch); err != nil {
			ended.Key = false
			return err
		}
	}
	// The objects of an epoch without a list, if there are any, are left to fsck.
	return k.ledger.Sweep(ctx, ended.Epoch, !o.DryRun, func(e ledger.Entry) error {
		if kept, err := k.extended(o, e); kept || err != nil {
			return err
		}
		if !o.DryRun {
			if err := k.deleteGently(ctx, e.CID); err != nil {
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
func (k *Keeper) extended(o SweepOptions, e ledger.Entry) (bool, error) {
	epochs, err := k.keys.Extended(e.Core)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(epochs, func(to crypto.Epoch) bool {
		return !o.over(to) && !errors.Is(k.keys.Check(to), keyring.ErrDestroyed)
	}), nil
}

// rest is how many times as long as a deletion the pause after it is. While a store syncs a deletion
// to its disk, mails wait for the same disk.
const rest = 4

// deleteGently deletes an object, and then pauses.
func (k *Keeper) deleteGently(ctx context.Context, c cid.Cid) error {
	began := time.Now()
	if err := k.store.Delete(ctx, c); err != nil {
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
func (k *Keeper) destroyDue(ctx context.Context, o SweepOptions, s *Swept) error {
	due, err := k.due(o.now.Add(-o.Grace))
	if err != nil {
		return err
	}
	var errs []error
	for some := range slices.Chunk(due, destroyTogether) {
		// Deleting takes a while, in which a file may be given back.
		some, err := k.stillDenied(some)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		if !o.DryRun {
			if err := k.Destroy(ctx, some...); err != nil {
				errs = append(errs, fmt.Errorf("destroy what was revoked: %w", err))
				if ctx.Err() != nil || errors.Is(err, vault.ErrUnavailable) {
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
func (k *Keeper) forgetLists(_ context.Context, o SweepOptions, s *Swept) error {
	epochs, err := k.ledger.Epochs()
	if err != nil {
		return err
	}
	for _, e := range epochs {
		if !o.over(e) || o.now.Before(e.End().Add(keepList)) {
			continue
		}
		swept, err := k.ledger.Swept(e)
		if err == nil && !swept {
			continue // its objects are not deleted yet
		}
		if err == nil && !o.DryRun {
			err = k.ledger.Remove(e)
		}
		if err != nil {
			return fmt.Errorf("remove the list of epoch %s: %w", e, err)
		}
		s.Forgotten = append(s.Forgotten, e)
	}
	return nil
}
