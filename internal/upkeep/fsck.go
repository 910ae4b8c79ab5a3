package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// Class is a kind of fault that Fsck finds.
type Class string

// The classes.
const (
	Dead     Class = "dead"     // in the ledger and not in the store
	Orphaned Class = "orphaned" // in the store and ours, and not in the ledger, or not with its later end
	Damaged  Class = "damaged"  // in the store, and a block is missing or wrong
	Foreign  Class = "foreign"  // in the store like one of ours, and not made with a secret that is here
	Keyless  Class = "keyless"  // an epoch that has objects and no key file, or a damaged one
	Ended    Class = "ended"    // in the store, although its key was destroyed
	Misnamed Class = "misnamed" // a pin that does not name the object's epoch
	Unpinned Class = "unpinned" // in the ledger and in the store, but no pin of ours holds it
	Leftover Class = "leftover" // what an interrupted mail left
)

// Finding is one fault. It is never about more than one object or one epoch.
type Finding struct {
	Class    Class        `json:"class"`
	CID      string       `json:"cid,omitempty"`
	Epoch    crypto.Epoch `json:"epoch,omitempty"`
	What     string       `json:"what"` // one line: what is wrong
	Do       string       `json:"do"`   // what to do about it; "" if it is repaired
	Repaired bool         `json:"repaired"`
}

// FsckConfig says what Fsck does.
type FsckConfig struct {
	// Sample is the part of the objects, from 0 to 1, of which every block is read and verified.
	Sample  float64
	Repair  bool // what cannot do harm
	Workers int  // objects that are read at the same time; at least 1
	// Delete has damaged objects that are not in the ledger, and that the operator gives up. They may
	// be ours, so Repair leaves them.
	Delete map[cid.Cid]bool
	// Report is called for each finding, and Progress after each object. Neither is called twice at a
	// time.
	Report   func(Finding)
	Progress func(done, total int)
}

// FsckResult counts what Fsck saw.
type FsckResult struct {
	Objects  int           `json:"objects"`  // in the store
	Verified int           `json:"verified"` // of these, to the last block
	Found    map[Class]int `json:"found"`
	Repaired int           `json:"repaired"` // of all that was found
}

// Left returns how many findings are not repaired.
func (r FsckResult) Left() int {
	n := -r.Repaired
	for _, found := range r.Found {
		n += found
	}
	return n
}

// Fsck compares the keyring, the ledger and the store, beside a running service. It repairs only
// what cannot do harm: it writes ledger lines, gives pins their names, and deletes what nobody can
// open any more. It never deletes an object that might be ours. It returns an error if it cannot
// read the ledger or list the store, or if the store is unavailable for many objects in a row.
func (k *Keeper) Fsck(ctx context.Context, cfg FsckConfig) (FsckResult, error) {
	f := &fsck{
		FsckConfig: cfg, k: k, present: make(map[ledger.Digest]bool), keyless: make(map[crypto.Epoch]*unopened),
		result: FsckResult{Found: make(map[Class]int)},
	}
	steps := []func(context.Context) error{f.checkStore, f.checkLeftovers, f.reportOrphans, f.checkLedger, f.checkPins, f.checkKeys}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return f.result, err
		}
	}
	return f.result, nil
}

// fsck is one run of Fsck.
type fsck struct {
	FsckConfig
	k *Keeper

	mu       sync.Mutex
	result   FsckResult
	present  map[ledger.Digest]bool // objects that the store lists
	orphans  []ledger.Entry         // that may be orphans
	unlisted []ledger.Entry         // of the ledger, which the store has and did not list
	keyless  map[crypto.Epoch]*unopened
	outage   int // objects in a row that could not be read because the store was unavailable
	expected int // objects, by the ledger
}

// unopened counts the objects of an epoch whose key file is missing.
type unopened struct{ listed, stored int }

// maxOutage is how many objects in a row may be unreadable before the store counts as unavailable. A
// bad sector of a disk makes a single object unreadable.
const maxOutage = 16

// orphansAtOnce is how many orphans wait for one look at the ledger.
const orphansAtOnce = 1000

func (f *fsck) report(x Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.result.Found[x.Class]++
	if x.Repaired {
		f.result.Repaired++
		x.Do = ""
	}
	f.Report(x)
}

// checkStore looks at every object that the store lists.
func (f *fsck) checkStore(ctx context.Context) error {
	if err := f.k.ledger.CatchUp(); err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	f.expected = f.k.ledger.Size()
	if err := ipfs.EachObject(ctx, f.k.store, vault.PinPrefix, f.Workers, f.checkItem); err != nil {
		return fmt.Errorf("check objects: %w", err)
	}
	return nil
}

// checkItem looks at one object. It returns an error if Fsck must end.
func (f *fsck) checkItem(ctx context.Context, i ipfs.Item) error {
	d, ok := ledger.DigestOf(i.Root)
	known := f.k.ledger.Indexed(i.Root)
	first := f.note(d) || !ok
	if !first { // two stores have it
		return nil
	}
	sealed, size, err := f.read(ctx, i)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := f.countOutage(err); err != nil {
		return err
	}
	switch {
	case errors.Is(err, errVanished):
	case err != nil:
		return f.reportUnreadable(ctx, i.Root, known, err)
	default:
		return f.checkOrigin(ctx, i, sealed, size, known)
	}
	return nil
}

// note records that the store has an object. It returns false if it was noted before.
func (f *fsck) note(d ledger.Digest) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.present[d]
	f.present[d] = true
	f.result.Objects++
	f.Progress(f.result.Objects, max(f.result.Objects, f.expected))
	return !before
}

func (f *fsck) countOutage(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !errors.Is(err, vault.ErrUnavailable) {
		f.outage = 0
		return nil
	}
	if f.outage++; f.outage < maxOutage {
		return nil
	}
	return fmt.Errorf("%d objects in a row cannot be read: %w", maxOutage, err)
}

// errVanished means that an object was deleted after the store listed it.
var errVanished = errors.New("object is gone")

// read returns a verified object and the size of its attachment, and reads all of it if it is in the
// sample.
func (f *fsck) read(ctx context.Context, i ipfs.Item) (sealed *object.Sealed, size int64, err error) {
	blocks, err := f.k.store.Open(ctx, i.Root)
	switch {
	case errors.Is(err, vault.ErrNotFound) && i.Name == "":
		return nil, 0, errVanished // a file; of a pin the blocks stay for a while
	case err != nil:
		return nil, 0, err
	}
	defer blocks.Close()
	if sealed, err = object.Read(ctx, blocks, i.Root); err != nil {
		return nil, 0, err
	}
	if size, err = sealed.Size(ctx, blocks); err != nil {
		return nil, 0, err
	}
	if rand.Float64() < f.Sample {
		if err := ipfs.Walk(ctx, blocks, i.Root, ignore); err != nil {
			return nil, 0, err
		}
		f.mu.Lock()
		f.result.Verified++
		f.mu.Unlock()
	}
	return sealed, size, nil
}

func ignore(ipfs.Block) error { return nil }

// reportUnreadable reports an object that is not what an object must be: damaged, or never one.
func (f *fsck) reportUnreadable(ctx context.Context, c cid.Cid, known bool, err error) error {
	if !known && errors.Is(err, vault.ErrCorrupt) && f.whole(ctx, c) {
		f.report(Finding{Class: Foreign, CID: c.String(), What: "it is not an object of Detach",
			Do: "find out who put it there: Detach neither serves nor deletes it"})
		return nil
	}
	x := Finding{Class: Damaged, CID: c.String(), What: err.Error(), Do: f.remedy(c, known, err)}
	if !known && f.Delete[c] {
		if err := f.k.store.Delete(ctx, c); err != nil {
			return fmt.Errorf("delete %s: %w", c, err)
		}
		x.Repaired = true
	}
	f.report(x)
	return nil
}

// remedy says what to do about a damaged object.
func (f *fsck) remedy(c cid.Cid, known bool, err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return f.k.store.Remedy(err)
	case errors.Is(err, vault.ErrUnavailable):
		return "look at the store's disk and log, and run this again; if the object stays unreadable, bring it back from a backup or another node"
	}
	do := "bring the object back from a backup or another node; until then its link gives an error; if there is none, "
	if known {
		return do + fmt.Sprintf("detach revoke --now %s gives the file up", c)
	}
	return do + fmt.Sprintf("detach fsck --delete %s deletes it", c)
}

// whole reports whether every block of an object is there and right.
func (f *fsck) whole(ctx context.Context, c cid.Cid) bool {
	blocks, err := f.k.store.Open(ctx, c)
	if err != nil {
		return false
	}
	defer blocks.Close()
	return ipfs.Walk(ctx, blocks, c, ignore) == nil
}

// checkOrigin tells our objects from others, and compares ours with the ledger and with their names.
func (f *fsck) checkOrigin(ctx context.Context, i ipfs.Item, s *object.Sealed, size int64, known bool) error {
	later, err := f.k.vault.Prove(s)
	e := s.KID.Epoch
	switch {
	case errors.Is(err, vault.ErrExpired):
		return f.reportEnded(ctx, s)
	case errors.Is(err, keyring.ErrForeign):
		f.report(Finding{Class: Foreign, CID: s.Root.String(), Epoch: e, What: "its origin is not of the key file of the epoch that it names",
			Do: "find out who put it there: Detach neither serves nor deletes it"})
		return nil
	case errors.Is(err, keyring.ErrNoEpoch), errors.Is(err, keyring.ErrDamaged):
		missing, err := f.k.missingEpoch(s)
		if err != nil {
			return err
		}
		if missing == "" {
			return f.reportEnded(ctx, s)
		}
		f.countKeyless(missing, known)
		return nil
	case err != nil:
		return err
	}
	if !known || f.k.ledger.Lags(s.Root, later) {
		f.mu.Lock()
		f.orphans = append(f.orphans, ledger.Entry{CID: s.Root, Core: s.Core, KID: s.KID, Epoch: later, Size: size})
		f.mu.Unlock()
	}
	return f.checkName(ctx, i, e)
}

// missingEpoch returns the epoch whose key file would open an object, or "" if all of them were
// destroyed: the one in which it was stored, and those it was extended into.
func (k *Keeper) missingEpoch(s *object.Sealed) (crypto.Epoch, error) {
	extended, err := k.keys.Extended(s.Core)
	if err != nil {
		return "", err
	}
	for _, e := range append(extended, s.KID.Epoch) {
		if !errors.Is(k.keys.Check(e), keyring.ErrDestroyed) {
			return e, nil
		}
	}
	return "", nil
}

func (f *fsck) countKeyless(e crypto.Epoch, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := f.keyless[e]
	if u == nil {
		u = new(unopened)
		f.keyless[e] = u
	}
	if known {
		u.listed++
	} else {
		u.stored++
	}
}

// reportEnded reports an object of which the key was destroyed: nobody can open it any more.
func (f *fsck) reportEnded(ctx context.Context, s *object.Sealed) error {
	x := Finding{Class: Ended, CID: s.Root.String(), Epoch: s.KID.Epoch, What: "its key was destroyed", Do: "run detach fsck --repair, which deletes it"}
	if f.Repair {
		if err := f.k.store.Delete(ctx, s.Root); err != nil {
			return fmt.Errorf("delete %s: %w", s.Root, err)
		}
		x.Repaired = true
	}
	f.report(x)
	return nil
}

// checkName compares the name of a pin with the epoch in which the object was stored.
func (f *fsck) checkName(ctx context.Context, i ipfs.Item, e crypto.Epoch) error {
	if i.Name == "" || i.Name == vault.PinName(e) {
		return nil
	}
	x := Finding{Class: Misnamed, CID: i.Root.String(), Epoch: e, What: fmt.Sprintf("its pin is named %q, not %q", i.Name, vault.PinName(e)),
		Do: "run detach fsck --repair, which renames the pin"}
	if f.Repair {
		if err := f.k.store.Rename(ctx, i.Root, vault.PinName(e)); err != nil {
			return fmt.Errorf("rename the pin of %s: %w", i.Root, err)
		}
		x.Repaired = true
	}
	f.report(x)
	return nil
}
