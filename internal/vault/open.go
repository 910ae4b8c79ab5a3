package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// File is an opened attachment.
type File = object.File

// opening is a stored object whose blocks are open and whose share is at hand.
type opening struct {
	*object.Sealed
	blocks ipfs.Blocks
	share  crypto.Share
}

func (o *opening) Close() error { return o.blocks.Close() }

// object opens what the ledger has in that epoch. It does not admit: the caller did.
func (v *Vault) object(ctx context.Context, c cid.Cid, epoch crypto.Epoch) (_ *opening, err error) {
	blocks, err := v.store.Open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	defer func() {
		if err != nil {
			_ = blocks.Close()
		}
	}()
	sealed, err := object.Read(ctx, blocks, c)
	if err != nil {
		return nil, err
	}
	share, err := sealed.Share(func(kid crypto.Epoch) (crypto.Share, error) { return v.share(c, kid, epoch) })
	if err != nil {
		return nil, err
	}
	return &opening{sealed, blocks, share}, nil
}

// share derives B. The kid is believed only where it says what the ledger says.
func (v *Vault) share(c cid.Cid, kid, epoch crypto.Epoch) (crypto.Share, error) {
	if kid != epoch {
		return crypto.Share{}, fmt.Errorf("%w: meta.jwe is of another epoch than the ledger", ErrCorrupt)
	}
	share, err := v.keys.Share(epoch, c.Bytes())
	if errors.Is(err, crypto.ErrNoEpoch) {
		return crypto.Share{}, ErrExpired
	}
	return share, err
}

// Open opens an object with the link's fragment; ctx governs the reads too.
func (v *Vault) Open(ctx context.Context, c cid.Cid, f crypto.Fragment) (*File, error) {
	rec, err := v.admit(c)
	if err != nil {
		return nil, err
	}
	return v.open(ctx, c, f, rec.epoch)
}

func (v *Vault) open(ctx context.Context, c cid.Cid, f crypto.Fragment, epoch crypto.Epoch) (*File, error) {
	o, err := v.object(ctx, c, epoch)
	if err != nil {
		return nil, err
	}
	opened, err := o.Unlock(f, o.share, v.cfg.Now())
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return opened.Open(ctx, o.blocks)
}

// Sealed is one entry of an object as it is stored: ciphertext, verified.
type Sealed struct {
	*ipfs.File
	blocks ipfs.Blocks
}

// Close closes the object.
func (s *Sealed) Close() error { return errors.Join(s.File.Close(), s.blocks.Close()) }

// Sealed opens the entry "data" or "meta.jwe"; ErrNotFound for any other name.
func (v *Vault) Sealed(ctx context.Context, c cid.Cid, name string) (*Sealed, error) {
	if name != object.Data && name != object.Meta {
		return nil, ErrNotFound
	}
	rec, err := v.admit(c)
	if err != nil {
		return nil, err
	}
	o, err := v.object(ctx, c, rec.epoch)
	if err != nil {
		return nil, err
	}
	f, err := ipfs.OpenFile(ctx, o.blocks, o.Entries[name])
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), o.Close())
	}
	return &Sealed{f, o.blocks}, nil
}
