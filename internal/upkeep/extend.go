package upkeep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
)

var (
	// ErrEndless means that a file has no end that could be moved.
	ErrEndless = errors.New("the file has no end")
	// ErrNotLater means that a file ends no earlier than it shall.
	ErrNotLater = errors.New("the file does not end earlier")
)

// Extended is a file whose end was moved.
type Extended struct {
	CID      cid.Cid
	From, To time.Time // the end before, and the present one
}

// Extend moves the end of a file that is served to that of a later period. The link stays the same.
// Errors: those of Object, ErrEndless, ErrNotLater.
func (k *Keeper) Extend(ctx context.Context, e ledger.Entry, p crypto.Period) (Extended, error) {
	o, err := k.vault.Object(ctx, e.CID)
	if err != nil {
		return Extended{}, err
	}
	defer o.Close()
	switch {
	case o.Expires.IsZero():
		return Extended{}, ErrEndless
	case !p.End().After(o.Expires):
		return Extended{CID: e.CID, From: o.Expires, To: o.Expires}, ErrNotLater
	}
	share, err := o.Share()
	if err != nil {
		return Extended{}, err
	}
	epoch, err := k.keys.Writer(p)
	if err != nil {
		return Extended{}, fmt.Errorf("extend: %w", err)
	}
	// The line comes first: with the record alone, nobody would delete the object at its end.
	e.Core, e.KID, e.Epoch = o.Core(), o.KID(), epoch
	if err := k.ledger.Append(e); err != nil {
		return Extended{}, err
	}
	if err := k.keys.Extend(e.CID, e.Core, e.KID.Epoch, epoch, e.KID.Link, share); err != nil {
		return Extended{}, fmt.Errorf("extend: %w", err)
	}
	return Extended{e.CID, o.Expires, epoch.End()}, nil
}

// ExtendEpoch extends all files that end with an epoch, and calls done for each, also for those that
// cannot be extended: the revoked ones, and those that the store has lost.
func (k *Keeper) ExtendEpoch(ctx context.Context, e crypto.Epoch, p crypto.Period, done func(cid.Cid, Extended, error)) error {
	return k.ledger.Each(e, func(entry ledger.Entry) error {
		x, err := k.Extend(ctx, entry, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		done(entry.CID, x, err)
		return nil
	})
}
