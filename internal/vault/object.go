package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// Object is a stored object that may be served: it is in the ledger, neither revoked nor expired,
// and its directory and meta.jwe are verified. It is not safe for concurrent use.
type Object struct {
	Size    int64 // of the attachment
	Created time.Time
	Expires time.Time // zero: never

	sealed *object.Sealed
	share  crypto.Share
	blocks ipfs.Blocks // nil after Close, and after Open, when the File closes them
	now    func() time.Time
}

// File is an opened attachment: its plaintext, from any offset.
type File = object.File

// Object admits an object and opens it in the store. The caller closes it. Errors: ErrNotFound,
// ErrRevoked, ErrExpired, ErrUnavailable, ErrCorrupt.
func (v *Vault) Object(ctx context.Context, c cid.Cid) (*Object, error) {
	rec, err := v.admit(c)
	if err != nil {
		return nil, err
	}
	return v.object(ctx, c, rec)
}

// Open calls Object and then [Object.Open]. The caller closes the file.
func (v *Vault) Open(ctx context.Context, c cid.Cid, f crypto.Fragment) (*File, error) {
	o, err := v.Object(ctx, c)
	if err != nil {
		return nil, err
	}
	return o.Open(ctx, f)
}

// Admit returns nil if Object would open the object, as far as that is known without the store: it
// is in the ledger, neither revoked nor expired. Errors: ErrNotFound, ErrRevoked, ErrExpired.
func (v *Vault) Admit(c cid.Cid) error {
	_, err := v.admit(c)
	return err
}

// admit returns an error if the object is not in the ledger, is revoked, or has expired.
func (v *Vault) admit(c cid.Cid) (record, error) {
	rec, ok, err := v.ledger.lookup(c)
	if err != nil {
		return record{}, err
	} else if !ok {
		return record{}, ErrNotFound
	}
	if revoked, err := v.denied.has(c); err != nil {
		return record{}, err
	} else if revoked {
		return record{}, ErrRevoked
	}
	if v.expired(rec.expires()) {
		return record{}, ErrExpired
	}
	return rec, nil
}

// object opens an object in the store, without admitting it.
func (v *Vault) object(ctx context.Context, c cid.Cid, rec record) (*Object, error) {
	blocks, err := v.store.Open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	sealed, err := object.Read(ctx, blocks, c)
	if err != nil {
		return nil, errors.Join(err, blocks.Close())
	}
	share, err := sealed.Share(func(kid crypto.Epoch) (crypto.Share, error) { return v.share(c, kid, rec.epoch) })
	if err != nil {
		return nil, errors.Join(err, blocks.Close())
	}
	return &Object{rec.size, rec.created(), rec.expires(), sealed, share, blocks, v.cfg.Now}, nil
}

// share derives B. The epochs of meta.jwe (kid) and of the ledger must be equal.
func (v *Vault) share(c cid.Cid, kid, epoch crypto.Epoch) (crypto.Share, error) {
	if kid != epoch {
		return crypto.Share{}, fmt.Errorf("%w: meta.jwe is of another epoch than the ledger", ErrCorrupt)
	}
	share, err := v.keys.Share(epoch, c.Bytes())
	switch {
	case errors.Is(err, crypto.ErrDestroyed):
		return crypto.Share{}, ErrExpired
	case errors.Is(err, crypto.ErrNoEpoch):
		return crypto.Share{}, keyMissing(epoch)
	}
	return share, err
}

// Share returns B, the gateway's half of the key.
func (o *Object) Share() crypto.Share { return o.share }

// Meta returns meta.jwe as it is stored.
func (o *Object) Meta() []byte { return o.sealed.Meta }

// CID returns the CID of an entry, or for "" that of the object.
func (o *Object) CID(entry string) cid.Cid {
	if entry == "" {
		return o.sealed.Root
	}
	return o.sealed.Entries[entry]
}

// Blocks returns the object's blocks: ciphertext, not verified.
func (o *Object) Blocks() ipfs.Blocks { return o.blocks }

// Entry opens the verified ciphertext of an entry; ErrNotFound if the object has none of that name.
func (o *Object) Entry(ctx context.Context, name string) (*ipfs.File, error) {
	c, ok := o.sealed.Entries[name]
	if !ok {
		return nil, ErrNotFound
	}
	f, err := ipfs.OpenFile(ctx, o.blocks, c)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return f, nil
}

// Open opens the attachment with the link's fragment. The file's Close closes the object too; if
// Open fails, the object is closed. ctx governs the reads too. Errors: ErrWrongKey, ErrExpired,
// ErrCorrupt, and the store's.
func (o *Object) Open(ctx context.Context, f crypto.Fragment) (*File, error) {
	opened, blocks, err := o.unlock(f)
	if err != nil {
		return nil, err
	}
	return opened.Open(ctx, blocks)
}

// OpenEncoded opens the attachment as it was encoded in its mail: see [object.Opened.OpenEncoded].
// Otherwise it is like Open.
func (o *Object) OpenEncoded(ctx context.Context, f crypto.Fragment) (io.ReadCloser, error) {
	opened, blocks, err := o.unlock(f)
	if err != nil {
		return nil, err
	}
	return opened.OpenEncoded(ctx, blocks)
}

// unlock proves the key right. The caller closes blocks, which the object no longer has; if unlock
// fails, the object is closed.
func (o *Object) unlock(f crypto.Fragment) (opened *object.Opened, blocks ipfs.Blocks, err error) {
	opened, err = o.sealed.Unlock(f, o.share, o.now())
	if err != nil {
		return nil, nil, errors.Join(err, o.Close())
	}
	blocks, o.blocks = o.blocks, nil
	return opened, blocks, nil
}

// OpenPart opens an attachment of a message or, if encoded is true, its encoded form. The caller
// closes the reader. Errors are those of Object, Open and OpenEncoded.
func (v *Vault) OpenPart(ctx context.Context, c cid.Cid, f crypto.Fragment, encoded bool) (io.ReadCloser, error) {
	o, err := v.Object(ctx, c)
	if err != nil {
		return nil, err
	}
	if encoded {
		return o.OpenEncoded(ctx, f)
	}
	return o.Open(ctx, f)
}

// Close closes the object's blocks. It may be called again, and after Open.
func (o *Object) Close() error {
	if o.blocks == nil {
		return nil
	}
	blocks := o.blocks
	o.blocks = nil
	return blocks.Close()
}
