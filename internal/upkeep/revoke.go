package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/denied"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

// State says whether an object is served, and if not, why.
type State string

// The states of an object.
const (
	StateServed    State = "served"
	StateRevoked   State = "revoked"   // the deny list has it
	StateDestroyed State = "destroyed" // its key is gone for good
	StateEnded     State = "ended"     // its end is over
	StateGone      State = "gone"      // it was deleted: its mail was refused, or fsck missed it
)

// Status is what holds for an object now, as far as that is known without the store.
type Status struct {
	State   State
	End     time.Time // zero: never
	Revoked time.Time // since when; zero if it is not revoked, or only by lines of an operator
	Lines   []int     // the lines of the deny list in which an operator wrote the CID
}

// Statuses finds the status of objects as of the moment in which it was made. It reads the deny list
// once, and what was destroyed once for each epoch. It is not safe for concurrent use.
type Statuses struct {
	keys   Keyring
	list   denied.Content
	now    time.Time
	epochs map[crypto.Epoch]epochStatus
}

type epochStatus struct {
	end       time.Time
	destroyed func(core cid.Cid) bool
}

// Statuses returns the present state of the deny list and of the clock.
func (k *Keeper) Statuses() (*Statuses, error) {
	list, err := k.denied.Content()
	if err != nil {
		return nil, err
	}
	return &Statuses{k.keys, list, k.clock.Now(), make(map[crypto.Epoch]epochStatus)}, nil
}

// Of returns the status of an entry.
func (s *Statuses) Of(e ledger.Entry) (Status, error) {
	epoch, err := s.epoch(e.EndEpoch())
	if err != nil {
		return Status{}, err
	}
	status := Status{State: StateServed, End: epoch.end, Lines: s.list.Lines(e.CID)}
	if r, ok := s.list.Ruling(e.CID); ok && !r.Undo {
		status.Revoked = r.At
	}
	switch {
	case e.Gone:
		status.State = StateGone
	case !epoch.end.IsZero() && !s.now.Before(epoch.end):
		status.State = StateEnded
	case epoch.destroyed(e.Core):
		status.State = StateDestroyed
	case !status.Revoked.IsZero() || len(status.Lines) > 0:
		status.State = StateRevoked
	}
	return status, nil
}

func (s *Statuses) epoch(e crypto.Epoch) (epochStatus, error) {
	if known, ok := s.epochs[e]; ok {
		return known, nil
	}
	destroyed, err := s.keys.DestroyedIn(e)
	if err != nil {
		return epochStatus{}, err
	}
	s.epochs[e] = epochStatus{e.End(), destroyed}
	return s.epochs[e], nil
}

// Find returns the entries of objects: from the ledger, from the rulings of the deny list, or else
// from the store, which must have them. If some are not found, it returns the others, and an error
// with a line for each CID. The errors wrap vault.ErrNotFound or what the store said.
func (k *Keeper) Find(ctx context.Context, cids ...cid.Cid) ([]ledger.Entry, error) {
	list, err := k.denied.Content()
	if err != nil {
		return nil, err
	}
	found, err := k.ledger.Find(cids...)
	if err != nil {
		return nil, err
	}
	known := make(map[cid.Cid]bool, len(found))
	for _, e := range found {
		known[e.CID] = true
	}
	var errs []error
	for _, c := range cids {
		if known[c] {
			continue
		}
		known[c] = true
		if r, ok := list.Ruling(c); ok {
			found = append(found, entryOf(c, r))
		} else if e, err := k.vault.Identify(ctx, c); err == nil {
			found = append(found, e)
		} else {
			errs = append(errs, k.notFound(c, err))
		}
	}
	return found, errors.Join(errs...)
}

// notFound returns the error for an object that is not in the ledger.
func (k *Keeper) notFound(c cid.Cid, err error) error {
	if errors.Is(err, vault.ErrNotFound) {
		return fmt.Errorf("%s is not stored here: it is not in the ledger, and the store does not have it as an object of this installation: %w", c, vault.ErrNotFound)
	}
	return fmt.Errorf("%s is not in the ledger, and the store cannot tell whether it is ours: %w; to have it refused until then, write the CID into %s", c, err, k.denied.Path())
}

// entryOf returns what a ruling knows of an object.
func entryOf(c cid.Cid, r denied.Ruling) ledger.Entry {
	return ledger.Entry{CID: c, Core: r.Core, KID: crypto.KID{Epoch: r.Epoch}, Epoch: r.Epoch}
}

// FindMails returns the entries of all objects of the mails that these objects belong to. If the
// ledger does not say to which mail an object belongs, the error names it.
func (k *Keeper) FindMails(_ context.Context, cids ...cid.Cid) ([]ledger.Entry, error) {
	found, err := k.ledger.Find(cids...)
	if err != nil {
		return nil, err
	}
	mails := make(map[cid.Cid]string)
	for _, e := range found {
		mails[e.CID] = e.Mail
	}
	var errs []error
	for _, c := range cids {
		if mails[c] == "" {
			errs = append(errs, fmt.Errorf("%s: the ledger does not say which mail it belongs to; name the other objects of its mail one by one", c))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return k.ledger.OfMails(slices.Collect(maps.Values(mails))...)
}

// Revoke adds rulings to the deny list, so that no process that reads it serves the objects. Those
// that are denied by a ruling already keep its time. It returns when the rulings are on disk. Rulings
// on the objects that a crash cut short count no more.
func (k *Keeper) Revoke(entries ...ledger.Entry) error { return k.rule(entries, false) }

// Undo takes back what Revoke did. It does not take out the lines that an operator wrote.
func (k *Keeper) Undo(entries ...ledger.Entry) error { return k.rule(entries, true) }

func (k *Keeper) rule(entries []ledger.Entry, undo bool) error {
	list, err := k.denied.Content()
	if err != nil {
		return err
	}
	// With a clock that is behind, the grace period would be over as soon as it is corrected.
	rulings, now := make(map[cid.Cid]denied.Ruling), k.clock.Latest()
	for _, e := range entries {
		old, ok := list.Ruling(e.CID)
		if isDenied := ok && !old.Undo; isDenied == undo {
			rulings[e.CID] = denied.Ruling{Core: e.Core, Epoch: e.KID.Epoch, Undo: undo, At: now}
		}
	}
	if len(rulings) > 0 {
		if err := k.denied.Append(rulings); err != nil {
			return err
		}
	}
	return k.denied.Mend(cidsOf(entries)...)
}

func cidsOf(entries []ledger.Entry) []cid.Cid {
	cids := make([]cid.Cid, len(entries))
	for i, e := range entries {
		cids[i] = e.CID
	}
	return cids
}

// Due returns the objects that Revoke denied at least a grace period ago, and that were not
// destroyed yet. Objects that only an operator's line denies are never due.
func (k *Keeper) Due(grace time.Duration) (due []ledger.Entry, err error) {
	return k.due(k.clock.Now().Add(-grace))
}

// due is Due for what Revoke denied no later than a time.
func (k *Keeper) due(until time.Time) (due []ledger.Entry, err error) {
	list, err := k.denied.Content()
	if err != nil {
		return nil, err
	}
	for c, r := range list.Rulings() {
		if r.Undo || r.At.After(until) {
			continue
		}
		if done, err := k.vault.Destroyed(entryOf(c, r)); err != nil {
			return nil, err
		} else if !done {
			due = append(due, entryOf(c, r))
		}
	}
	slices.SortFunc(due, func(a, b ledger.Entry) int { return cmp.Compare(a.CID.KeyString(), b.CID.KeyString()) })
	return due, nil
}

// stillDenied returns those of the objects that the latest ruling denies now.
func (k *Keeper) stillDenied(entries []ledger.Entry) ([]ledger.Entry, error) {
	list, err := k.denied.Content()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(entries, func(e ledger.Entry) bool {
		r, ok := list.Ruling(e.CID)
		return !ok || r.Undo
	}), nil
}

// Destroy destroys the keys of objects, so that nothing opens them again, and then deletes the
// objects. An error of the keyring wraps no error of the store. Objects that the store could not
// delete, or that were left because ctx was canceled, are deleted by a later Recover: their keys are
// destroyed.
func (k *Keeper) Destroy(ctx context.Context, entries ...ledger.Entry) error {
	return k.vault.Delete(ctx, entries, func() ([]ledger.Entry, error) { return k.destroyKeys(entries) })
}

// destroyKeys destroys the keys of each epoch in one call, which writes the key file anew once. It
// tries every epoch, and returns the entries whose keys nothing derives any more: those in a damaged
// key file too, which gets its punctures when it is mended.
func (k *Keeper) destroyKeys(entries []ledger.Entry) (done []ledger.Entry, err error) {
	epochs := make(map[crypto.Epoch][]ledger.Entry)
	for _, e := range entries {
		epochs[e.KID.Epoch] = append(epochs[e.KID.Epoch], e)
	}
	var errs []error
	for _, epoch := range slices.Sorted(maps.Keys(epochs)) {
		var cores []cid.Cid
		for _, e := range epochs[epoch] {
			cores = append(cores, e.Core)
		}
		err := k.keys.Destroy(epoch, cores...)
		if err != nil {
			errs = append(errs, fmt.Errorf("destroy keys of %s: %w", epoch, err))
		}
		if err == nil || errors.Is(err, keyring.ErrDamaged) {
			done = append(done, epochs[epoch]...)
		}
	}
	return done, errors.Join(errs...)
}
