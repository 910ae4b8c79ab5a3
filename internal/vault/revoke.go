package vault

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
	"github.com/nkirchhoffer/detach-mta/internal/durable"
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
	list   denied
	now    time.Time
	epochs map[crypto.Epoch]epochStatus
}

type epochStatus struct {
	end       time.Time
	destroyed func(core cid.Cid) bool
}

// Statuses returns the present state of the deny list and of the clock.
func (v *Vault) Statuses() (*Statuses, error) {
	list, err := v.denied.current()
	if err != nil {
		return nil, err
	}
	return &Statuses{v.keys, list, v.cfg.Now(), make(map[crypto.Epoch]epochStatus)}, nil
}

// Of returns the status of an entry.
func (s *Statuses) Of(e Entry) (Status, error) {
	epoch, err := s.epoch(e.file())
	if err != nil {
		return Status{}, err
	}
	status := Status{State: StateServed, End: epoch.end, Lines: s.list.written[e.CID]}
	if r, ok := s.list.rulings[e.CID]; ok && !r.undo {
		status.Revoked = r.at
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

// Entries calls take for each object in the ledger, epoch by epoch, also for those that are gone,
// until take returns an error. It asks the store nothing.
func (v *Vault) Entries(take func(Entry) error) error {
	all, err := v.ledger.listing()
	if err != nil {
		return err
	}
	all.withGone = true
	return all.eachEpoch(take)
}

// Find returns the entries of objects: from the ledger, from the rulings of the deny list, or else
// from the store, which must have them. If some are not found, it returns the others, and an error
// with a line for each CID. The errors wrap ErrNotFound or what the store said.
func (v *Vault) Find(ctx context.Context, cids ...cid.Cid) ([]Entry, error) {
	list, err := v.denied.current()
	if err != nil {
		return nil, err
	}
	found, err := v.ledger.find(cids...)
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
		if r, ok := list.rulings[c]; ok {
			found = append(found, r.entry(c))
		} else if e, err := v.identify(ctx, c); err == nil {
			found = append(found, e)
		} else {
			errs = append(errs, v.notFound(c, err))
		}
	}
	return found, errors.Join(errs...)
}

// notFound returns the error for an object that is not in the ledger.
func (v *Vault) notFound(c cid.Cid, err error) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%s is not stored here: it is not in the ledger, and the store does not have it as an object of this installation: %w", c, ErrNotFound)
	}
	return fmt.Errorf("%s is not in the ledger, and the store cannot tell whether it is ours: %w; to have it refused until then, write the CID into %s", c, err, v.denied.path)
}

// FindMails returns the entries of all objects of the mails that these objects belong to. If the
// ledger does not say to which mail an object belongs, the error names it.
func (v *Vault) FindMails(_ context.Context, cids ...cid.Cid) ([]Entry, error) {
	found, err := v.ledger.find(cids...)
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
	return v.ledger.ofMails(slices.Collect(maps.Values(mails))...)
}

// Revoke adds rulings to the deny list, so that no process that reads it serves the objects. Those
// that are denied by a ruling already keep its time. It returns when the rulings are on disk.
func (v *Vault) Revoke(entries ...Entry) error { return v.rule(entries, false) }

// Undo takes back what Revoke did. It does not take out the lines that an operator wrote.
func (v *Vault) Undo(entries ...Entry) error { return v.rule(entries, true) }

func (v *Vault) rule(entries []Entry, undo bool) error {
	list, err := v.denied.current()
	if err != nil {
		return err
	}
	// With a clock that is behind, the grace period would be over as soon as it is corrected.
	rulings, now := make(map[cid.Cid]ruling), v.clock.latest()
	for _, e := range entries {
		old, ok := list.rulings[e.CID]
		if denied := ok && !old.undo; denied == undo {
			rulings[e.CID] = ruling{core: e.Core, epoch: e.KID.Epoch, undo: undo, at: now}
		}
	}
	if len(rulings) == 0 {
		return nil
	}
	return v.denied.append(rulings)
}

// Due returns the objects that Revoke denied at least a grace period ago, and that were not
// destroyed yet. Objects that only an operator's line denies are never due.
func (v *Vault) Due(grace time.Duration) (due []Entry, err error) {
	return v.due(v.cfg.Now().Add(-grace))
}

// due is Due for what Revoke denied no later than a time.
func (v *Vault) due(until time.Time) (due []Entry, err error) {
	list, err := v.denied.current()
	if err != nil {
		return nil, err
	}
	for c, r := range list.rulings {
		if r.undo || r.at.After(until) {
			continue
		}
		if done, err := v.isDestroyed(c, r); err != nil {
			return nil, err
		} else if !done {
			due = append(due, r.entry(c))
		}
	}
	slices.SortFunc(due, func(a, b Entry) int { return cmp.Compare(a.CID.KeyString(), b.CID.KeyString()) })
	return due, nil
}

// stillDenied returns those of the objects that the latest ruling denies now.
func (v *Vault) stillDenied(entries []Entry) ([]Entry, error) {
	list, err := v.denied.current()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(entries, func(e Entry) bool {
		r, ok := list.rulings[e.CID]
		return !ok || r.undo
	}), nil
}

// isDestroyed reports whether nothing opens a denied object any more: neither its epoch, nor one
// that it was extended into.
func (v *Vault) isDestroyed(c cid.Cid, r ruling) (bool, error) {
	done, err := v.keys.Destroyed(r.epoch, r.core)
	if errors.Is(err, keyring.ErrDamaged) { // it has no mark yet
		return false, nil
	} else if err != nil || !done {
		return false, err
	}
	// A record that cannot be used must go, too.
	_, _, _, err = v.keys.Extension(c, r.core)
	return errors.Is(err, keyring.ErrNoExtension), nil
}

// Destroy destroys the keys of objects, so that nothing opens them again, and then deletes the
// objects. An error of the keyring wraps no error of the store. Objects that the store could not
// delete, or that were left because ctx was canceled, are deleted by a later Recover: their keys are
// destroyed.
func (v *Vault) Destroy(ctx context.Context, entries ...Entry) (err error) {
	if len(entries) == 0 {
		return nil
	}
	// The record stands first, so that a process that is killed leaves no object behind.
	record, err := v.pending.create()
	if err != nil {
		return fmt.Errorf("record what is destroyed: %w", err)
	}
	defer func() { err = errors.Join(err, record.Close()) }()
	if err := writePending(record, entries); err != nil {
		return errors.Join(fmt.Errorf("record what is destroyed: %w", err), durable.Remove(record.Name()))
	}
	done, failed := v.destroyKeys(entries)
	for _, e := range done {
		if err := v.store.Delete(ctx, e.CID); err != nil {
			return errors.Join(failed, fmt.Errorf("delete %s, whose key is destroyed: %w", e.CID, err))
		}
	}
	return errors.Join(failed, durable.Remove(record.Name()))
}

// destroyKeys destroys the keys of each epoch in one call, which writes the key file anew once. It
// tries every epoch, and returns the entries whose keys nothing derives any more: those in a damaged
// key file too, which gets its punctures when it is mended.
func (v *Vault) destroyKeys(entries []Entry) (done []Entry, err error) {
	epochs := make(map[crypto.Epoch][]Entry)
	for _, e := range entries {
		epochs[e.KID.Epoch] = append(epochs[e.KID.Epoch], e)
	}
	var errs []error
	for _, epoch := range slices.Sorted(maps.Keys(epochs)) {
		var cores []cid.Cid
		for _, e := range epochs[epoch] {
			cores = append(cores, e.Core)
		}
		err := v.keys.Destroy(epoch, cores...)
		if err != nil {
			errs = append(errs, fmt.Errorf("destroy keys of %s: %w", epoch, err))
		}
		if err == nil || errors.Is(err, keyring.ErrDamaged) {
			done = append(done, epochs[epoch]...)
		}
	}
	return done, errors.Join(errs...)
}
