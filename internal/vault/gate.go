package vault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/object"
)

// errDestroyed says that the key of this one object was destroyed.
var errDestroyed = fmt.Errorf("%w: its key was destroyed", ErrExpired)

// grant is what an object that is ours is served with.
type grant struct {
	epoch crypto.Epoch // the present one: after an extension, another than the kid's
	share func() (crypto.Share, error)
}

// Object admits an object and opens it in the store. The caller closes it. The object's origin
// decides whether it is ours; the ledger only tells which errors may be told apart. A CID that is
// not in the ledger waits in the lane, and gets ErrNotFound, whether the store does not have the
// object or has it from others. Errors: ErrNotFound, ErrRevoked, ErrExpired, ErrKeyMissing,
// ErrBusy, ErrUnavailable, ErrCorrupt.
func (v *Vault) Object(ctx context.Context, c cid.Cid) (*Object, error) {
	rec, known, err := v.admit(c)
	foreign := errors.Is(err, errNotOurs)
	if err != nil && !foreign && !(known && errors.Is(err, ErrExpired)) { // an extension may not be in this ledger
		return nil, err
	}
	if !known {
		leave, err := v.lane.enter(ctx)
		if err != nil {
			return nil, err
		}
		defer leave()
	}
	if foreign { // only now: without the lane, its answer would tell it from a missing one
		return nil, err
	}
	o, err := v.verified(ctx, c)
	if err != nil {
		return nil, v.refusal(c, rec, known, err)
	}
	err = v.describe(ctx, o, rec, known)
	if err == nil {
		err = v.refuseDenied(c) // again: the store may have taken long
	}
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// Admit returns nil if Object would open the object, as far as that is known without the store.
// Errors: ErrNotFound, ErrRevoked, ErrExpired.
func (v *Vault) Admit(c cid.Cid) error {
	rec, known, err := v.admit(c)
	if err != nil || !known {
		return err
	}
	if err := v.keys.Check(rec.Epoch); errors.Is(err, keyring.ErrDestroyed) {
		return ErrExpired
	}
	return nil // also if the key file is missing: the operator will put it back
}

// admit returns an error if the object is revoked, is known to be foreign, or has ended. known: it
// is in the ledger, or this process has verified it before.
func (v *Vault) admit(c cid.Cid) (rec ledger.Record, known bool, err error) {
	if _, ok := ledger.DigestOf(c); !ok {
		return ledger.Record{}, false, ErrNotFound
	}
	if err := v.refuseDenied(c); err != nil {
		return ledger.Record{}, false, err
	}
	rec, known = v.lookUp(c)
	switch {
	case known && v.expired(rec.Epoch.End()):
		return rec, true, ErrExpired
	case !known && v.foreign.Has(c):
		return ledger.Record{}, false, errNotOurs
	}
	return rec, known, nil
}

// lookUp finds an object in the ledger. While the ledger cannot be read, an object that is not in
// memory is not known: its origin decides, as without a ledger.
func (v *Vault) lookUp(c cid.Cid) (rec ledger.Record, known bool) {
	rec, known, err := v.ledger.Known(c)
	if err != nil && !v.told.Has(err.Error()) {
		v.told.Add(err.Error())
		v.cfg.Log.Error("the ledger cannot be read; files are served by their origins", "error", err)
	}
	return rec, err == nil && known
}

var errNotOurs = fmt.Errorf("%w: an object of this name is not ours", ErrNotFound)

func (v *Vault) refuseDenied(c cid.Cid) error {
	revoked, err := v.denied.Has(c)
	if err == nil && revoked {
		err = ErrRevoked
	}
	return err
}

// refuseDestroyed returns an error unless the keyring can still open the object.
func (v *Vault) refuseDestroyed(e crypto.Epoch, core cid.Cid) error {
	switch err := v.keys.Check(e); {
	case errors.Is(err, keyring.ErrNoEpoch):
		return ErrExpired
	case errors.Is(err, keyring.ErrDamaged):
		return keyDamaged(err)
	case err != nil:
		return err
	}
	destroyed, err := v.keys.Destroyed(e, core)
	if err == nil && destroyed {
		err = errDestroyed
	}
	return err
}

// verified opens an object in the store and proves that it is ours and has not ended. Errors
// besides those of the store and of [object.Read]: ErrExpired for an object that is ours;
// keyring.ErrForeign; keyring.ErrNoEpoch or ErrDamaged if the proof needs a secret that is not here.
func (v *Vault) verified(ctx context.Context, c cid.Cid) (*Object, error) {
	blocks, err := v.store.Open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	sealed, err := object.Read(ctx, blocks, c)
	if err != nil {
		return nil, errors.Join(err, blocks.Close())
	}
	g, err := v.grant(sealed)
	if err == nil && v.expired(g.epoch.End()) {
		err = ErrExpired
	}
	if err != nil {
		return nil, errors.Join(err, blocks.Close())
	}
	w := v.watch(sealed, g)
	return &Object{Expires: g.epoch.End(), sealed: sealed, grant: g, blocks: watchedBlocks{blocks, w}, watch: w, now: v.clock.Now}, nil
}

// grant proves that an object is ours, by its origin or by the record of its extension.
func (v *Vault) grant(s *object.Sealed) (grant, error) {
	e := s.KID.Epoch
	proof := v.keys.CheckOrigin(e, s.Core, s.Origin)
	switch {
	case errors.Is(proof, keyring.ErrDestroyed): // and the origin is right
		return grant{}, errDestroyed
	case proof != nil && !errors.Is(proof, keyring.ErrNoEpoch) && !errors.Is(proof, keyring.ErrDamaged):
		return grant{}, proof
	}
	g, err := v.keys.Grant(s.Root, s.Core, e, s.KID.Link)
	if err != nil {
		// A damaged record must not close an object that opens without it.
		v.cfg.Log.Error("an extension cannot be used", "cid", s.Root, "error", err)
	}
	if proof != nil && !g.Extended {
		return grant{}, proof
	}
	return grant{g.Epoch, func() (crypto.Share, error) { return provenShare(g) }}, nil
}

// provenShare returns the share of an object that was proven to be ours.
func provenShare(g keyring.Grant) (crypto.Share, error) {
	share, err := g.Share()
	if errors.Is(err, keyring.ErrNoEpoch) { // since the proof
		err = errDestroyed
	}
	return share, err
}

// refusal returns the error that an unverified object has for the caller. An object that is not
// known gets one answer, whether it is missing, foreign, or of a secret that is not here.
func (v *Vault) refusal(c cid.Cid, rec ledger.Record, known bool, err error) error {
	switch {
	case errors.Is(err, ErrExpired), errors.Is(err, ErrUnavailable):
		return err
	case known && v.expired(rec.Epoch.End()):
		return ErrExpired
	case known && errors.Is(err, keyring.ErrNoEpoch):
		return v.whyNoEpoch(rec.Epoch)
	case errors.Is(err, keyring.ErrForeign), !known && errors.Is(err, ErrCorrupt):
		v.foreign.Add(c)
		return errNotOurs
	case known && errors.Is(err, keyring.ErrDamaged):
		return keyDamaged(err)
	case errors.Is(err, keyring.ErrNoEpoch), errors.Is(err, keyring.ErrDamaged):
		return errNotOurs
	}
	return err
}

// whyNoEpoch returns the error for an object of this epoch, by the ledger, that no key file proves.
func (v *Vault) whyNoEpoch(e crypto.Epoch) error {
	err := v.keys.Check(e)
	switch {
	case err == nil:
		return errNotOurs // its kid names another epoch than the ledger
	case errors.Is(err, keyring.ErrDestroyed):
		return ErrExpired
	case errors.Is(err, keyring.ErrNoEpoch):
		return keyMissing(e)
	case errors.Is(err, keyring.ErrDamaged):
		return keyDamaged(err)
	}
	return err
}

// describe completes an object by the ledger, or by the object itself. It remembers an object that
// is not in the ledger, or has another end there: the next request needs no lane.
func (v *Vault) describe(ctx context.Context, o *Object, rec ledger.Record, known bool) (err error) {
	if known {
		o.Size, o.Created = rec.Size, rec.Created()
	} else if o.Size, err = o.sealed.Size(ctx, o.blocks); err != nil {
		return err
	}
	if !known || rec.Epoch != o.grant.epoch {
		v.ledger.Remember(o.sealed.Root, ledger.NewRecord(o.Size, o.Created, o.grant.epoch))
	}
	return nil
}

// Prove returns the epoch whose end is that of an object in the store, if the object is ours: that
// of its kid, or a later one into which it was extended. Errors: ErrExpired if its key was
// destroyed; keyring.ErrForeign; keyring.ErrNoEpoch or ErrDamaged if the proof needs a secret that
// is not here.
func (v *Vault) Prove(s *object.Sealed) (crypto.Epoch, error) {
	g, err := v.grant(s)
	return g.epoch, err
}

// Identify returns what an object in the store says of itself, if it is ours, also if it is revoked
// or has ended. Created, Mail and Kind are unknown. Errors: ErrNotFound for a foreign and for a
// missing object, ErrUnavailable, ErrCorrupt.
func (v *Vault) Identify(ctx context.Context, c cid.Cid) (ledger.Entry, error) {
	blocks, err := v.store.Open(ctx, c)
	if err != nil {
		return ledger.Entry{}, fmt.Errorf("open object: %w", err)
	}
	defer blocks.Close()
	sealed, err := object.Read(ctx, blocks, c)
	if err != nil {
		return ledger.Entry{}, err
	}
	g, err := v.grant(sealed)
	switch {
	case errors.Is(err, keyring.ErrForeign), errors.Is(err, keyring.ErrNoEpoch), errors.Is(err, keyring.ErrDamaged):
		return ledger.Entry{}, errNotOurs
	case err != nil && !errors.Is(err, errDestroyed):
		return ledger.Entry{}, err
	}
	size, err := sealed.Size(ctx, blocks)
	return ledger.Entry{CID: c, Core: sealed.Core, KID: sealed.KID, Epoch: g.epoch, Size: size}, err
}

const (
	// foreignTime is how long a CID is refused that the store has as an object of others. A CID
	// that the store does not have is never remembered: its object may be stored the moment after.
	foreignTime = time.Minute
	// maxForeign is more than what the lane lets through in foreignTime.
	maxForeign = 4096
)

// ErrBusy means that too many CIDs that are not in the ledger are being asked for. It wraps
// ErrUnavailable.
var ErrBusy = fmt.Errorf("%w: too many requests for unknown objects", ErrUnavailable)

const (
	laneSlots = 8                     // objects that are looked up together
	lanePace  = 20 * time.Millisecond // between two objects: 50 a second
	laneWait  = time.Second           // how long a request waits for its turn, and how long a pause is made up for
)

// lane is the one way to the store for CIDs that are not in the ledger, which anyone can make up.
// They share it, so that they cannot make a gateway or its node work.
type lane struct {
	slots chan struct{}
	mu    sync.Mutex
	next  time.Time // when the next request may look
}

func newLane() *lane { return &lane{slots: make(chan struct{}, laneSlots)} }

// enter waits for a turn. The caller calls leave once it has looked. Errors: ErrBusy, and ctx's.
func (l *lane) enter(ctx context.Context) (leave func(), err error) {
	wait, ok := l.reserve(time.Now())
	if !ok {
		return nil, ErrBusy
	}
	if wait > 0 {
		turn := time.NewTimer(wait)
		defer turn.Stop()
		select {
		case <-turn.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	select {
	case l.slots <- struct{}{}:
		return func() { <-l.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// reserve returns how long to wait for a turn, or false if too many wait.
func (l *lane) reserve(now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if earliest := now.Add(-laneWait); l.next.Before(earliest) {
		l.next = earliest
	}
	if wait = l.next.Sub(now); wait > laneWait {
		return 0, false
	}
	l.next = l.next.Add(lanePace)
	return wait, true
}
