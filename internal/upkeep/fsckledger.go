package upkeep

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// reportOrphans reports the objects that are ours and not in the ledger, and adds them to it. An
// object of a mail that is on its way is no orphan: a batch first notes an object in its record,
// then stores it, then adds it to the ledger, and at last removes the record. So who reads the
// records before the ledger finds it in one of them.
func (f *fsck) reportOrphans(ctx context.Context) error {
	for some := range slices.Chunk(f.orphans, orphansAtOnce) {
		pending, err := f.k.vault.Pending()
		if err != nil {
			return err
		}
		if err := f.k.ledger.CatchUp(); err != nil {
			return fmt.Errorf("read ledger: %w", err)
		}
		some = slices.DeleteFunc(some, func(e ledger.Entry) bool {
			return !f.k.ledger.Lags(e.CID, e.EndEpoch()) || pending[e.CID] || !f.stored(ctx, e.CID)
		})
		if err := f.adopt(some); err != nil {
			return err
		}
	}
	return nil
}

// stored reports whether the store has an object, or does not say.
func (f *fsck) stored(ctx context.Context, c cid.Cid) bool {
	blocks, err := f.k.store.Open(ctx, c)
	if err != nil {
		return !errors.Is(err, vault.ErrNotFound)
	}
	_ = blocks.Close() // nothing was read
	return true
}

func (f *fsck) adopt(orphans []ledger.Entry) error {
	if f.Repair {
		if err := f.k.ledger.Append(orphans...); err != nil {
			return err
		}
	}
	for _, e := range orphans {
		what := "it is ours, and not in the ledger: its link works, but detach list does not show it"
		if e.EndEpoch() != e.KID.Epoch {
			what = "it was extended, and the ledger has it without its later end: it would be deleted too early"
		}
		f.report(Finding{Class: Orphaned, CID: e.CID.String(), Epoch: e.Epoch, What: what,
			Do: "run detach fsck --repair, which adds it", Repaired: f.Repair})
	}
	return nil
}

// checkLedger reports what is in the ledger and not in the store.
func (f *fsck) checkLedger(ctx context.Context) error {
	var dead []ledger.Entry
	total := 0 // objects that the store should have
	err := f.k.ledger.All(func(e ledger.Entry) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		d, _ := ledger.DigestOf(e.CID)
		if f.present[d] {
			total++
			return nil
		}
		// Destroying an object that was extended marks it in the later epoch, too.
		gone, err := f.k.keys.Destroyed(e.EndEpoch(), e.Core)
		if err != nil && !errors.Is(err, keyring.ErrDamaged) {
			return err
		} else if gone || f.k.expired(e.EndEpoch().End()) {
			return nil
		}
		total++
		if f.stored(ctx, e.CID) {
			f.unlisted = append(f.unlisted, e)
		} else {
			dead = append(dead, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return f.bury(dead, total)
}

// fewDead is how many objects may be taken out of the ledger however small it is.
const fewDead = 10

// bury reports dead objects, and takes them out of the ledger. If most of the ledger seems dead, the
// store is more likely the wrong one, or not mounted: then the ledger stays as it is.
func (f *fsck) bury(dead []ledger.Entry, total int) error {
	do := "run detach fsck --repair, which takes it out of the ledger, or bring the object back from a backup"
	repair := f.Repair
	if len(dead) > fewDead && len(dead) > total/2 {
		repair = false
		do = fmt.Sprintf("the store lacks %d of %d objects of the ledger: check that store.kind and store.also name the store that has them; the ledger stays as it is", len(dead), total)
	}
	if repair {
		if err := f.k.ledger.Forget(dead...); err != nil {
			return err
		}
	}
	for _, e := range dead {
		f.report(Finding{Class: Dead, CID: e.CID.String(), Epoch: e.Epoch, What: "it is in the ledger, and not in the store: its link gives an error", Do: do, Repaired: repair})
	}
	return nil
}

// checkPins reports objects that a node has, and no pin of ours holds. An object that was stored
// after the first listing is in a second one.
func (f *fsck) checkPins(ctx context.Context) error {
	if len(f.unlisted) == 0 {
		return nil
	}
	err := f.k.store.List(ctx, vault.PinPrefix, func(i ipfs.Item) error {
		d, _ := ledger.DigestOf(i.Root)
		f.present[d] = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	for _, e := range f.unlisted {
		d, _ := ledger.DigestOf(e.CID)
		if _, known, err := f.k.ledger.Lookup(e.CID); err != nil {
			return err
		} else if f.present[d] || !known {
			continue
		}
		f.pin(ctx, e)
	}
	return nil
}

// pin reports an object without a pin of ours, and pins it.
func (f *fsck) pin(ctx context.Context, e ledger.Entry) {
	x := Finding{Class: Unpinned, CID: e.CID.String(), Epoch: e.Epoch, What: "its pin is missing or has another name: the node's next garbage collection may delete it",
		Do: "run detach fsck --repair, which pins it"}
	if f.Repair {
		err := f.k.store.Rename(ctx, e.CID, vault.PinName(e.KID.Epoch))
		if x.Repaired = err == nil; err != nil {
			x.Do = fmt.Sprintf("pin it at the node: %v", err)
		}
	}
	f.report(x)
}

// checkKeys reports the epochs that have objects, in the ledger or in the store, and no key file or
// a damaged one.
func (f *fsck) checkKeys(context.Context) error {
	epochs, err := f.k.ledger.Epochs()
	if err != nil {
		return err
	}
	for _, e := range epochs {
		if _, ok := f.keyless[e]; ok || f.k.expired(e.End()) {
			continue
		}
		switch err := f.k.keys.Check(e); {
		case err == nil || errors.Is(err, keyring.ErrDestroyed):
		case errors.Is(err, keyring.ErrNoEpoch), errors.Is(err, keyring.ErrDamaged):
			f.keyless[e] = new(unopened)
		default:
			return err
		}
	}
	for _, e := range slices.Sorted(maps.Keys(f.keyless)) {
		f.report(f.keylessFinding(e, *f.keyless[e]))
	}
	return nil
}

// keylessFinding says what an epoch's missing or damaged key file keeps closed.
func (f *fsck) keylessFinding(e crypto.Epoch, u unopened) Finding {
	what := fmt.Sprintf("keys/%s.key is missing", e)
	if errors.Is(f.k.keys.Check(e), keyring.ErrDamaged) {
		what = fmt.Sprintf("keys/%s.key is damaged", e)
	}
	if u == (unopened{}) {
		what += ": no object needs it now, but files that were extended into this epoch end earlier than the ledger says"
	} else {
		what += fmt.Sprintf(": the store has objects that do not open, %d in the ledger and %d more that name this epoch", u.listed, u.stored)
	}
	return Finding{Class: Keyless, Epoch: e, What: what,
		Do: fmt.Sprintf("put the key file back, from an export or from the machine that made it; if it is lost for good, create an empty file keys/destroyed/%s/all", e)}
}

// checkLeftovers reports the records of batches whose process is gone.
func (f *fsck) checkLeftovers(ctx context.Context) error {
	names, err := f.k.vault.Abandoned()
	if err != nil || len(names) == 0 {
		return err
	}
	if f.Repair {
		if _, err := f.k.vault.Recover(ctx); err != nil {
			return err
		}
	}
	for _, name := range names {
		f.report(Finding{Class: Leftover, What: "pending/" + name + " is of a mail that was interrupted",
			Do: "run detach fsck --repair, or detach serve, which deletes what the mail had stored", Repaired: f.Repair})
	}
	return nil
}
