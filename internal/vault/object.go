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

// Object is a stored object that may be served: its origin is ours, it is neither revoked nor
// ended, and its directory, meta.jwe and origin are verified. While it is read, it is asked again
// whether it may be served: see watch. It is not safe for concurrent use.
type Object struct {
	Size    int64     // of the attachment
	Created time.Time // zero: unknown, as the object is not in the ledger
	Expires time.Time // the present end; zero: never

	sealed *object.Sealed
	grant  grant
	blocks ipfs.Blocks // nil after Close, and after Open, when the File closes them
	watch  *watch
	now    func() time.Time
}

// Core returns the CID of the object's directory without its origin.
func (o *Object) Core() cid.Cid { return o.sealed.Core }

// KID returns the id of the key, as it stands in the object's metadata.
func (o *Object) KID() crypto.KID { return o.sealed.KID }

// Origin returns the object's entry "origin".
func (o *Object) Origin() crypto.Origin { return o.sealed.Origin }

// Share returns B, the gateway's half of the key; ErrExpired if it was destroyed since the object
// was opened.
func (o *Object) Share() (crypto.Share, error) { return o.grant.share() }

// Meta returns meta.jwe as it is stored.
func (o *Object) Meta() []byte { return o.sealed.Meta }

// CID returns the CID of an entry, or for "" that of the object.
func (o *Object) CID(entry string) cid.Cid {
	if entry == "" {
		return o.sealed.Root
	}
	return o.sealed.Entries[entry].CID
}

// Blocks returns the object's blocks: ciphertext, not verified.
func (o *Object) Blocks() ipfs.Blocks { return o.blocks }

// Ciphertext is the verified content of an object's entry.
type Ciphertext struct {
	*ipfs.File
	watch *watch
}

// Read implements io.Reader. It fails within a second after the object was revoked.
func (c *Ciphertext) Read(p []byte) (int, error) { return c.watch.read(c.File, p) }

// Entry opens the verified ciphertext of an entry; ErrNotFound if the object has none of that name.
func (o *Object) Entry(ctx context.Context, name string) (*Ciphertext, error) {
	node, ok := o.sealed.Entries[name]
	if !ok {
		return nil, ErrNotFound
	}
	f, err := ipfs.OpenFile(ctx, o.blocks, node.CID)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return &Ciphertext{f, o.watch}, nil
}

// File is an opened attachment: its plaintext, from any offset.
type File struct {
	*object.File
	watch *watch
}

// Read implements io.Reader. It fails within a second after the object was revoked.
func (f *File) Read(p []byte) (int, error) { return f.watch.read(f.File, p) }

// Allowed returns an error if the file may no longer be served, within a second after it was revoked.
// It is for answers that are made of other files, such as those that this one lists.
func (f *File) Allowed() error { return f.watch.check() }

// Open opens the attachment with the link's fragment. The file's Close closes the object too; if
// Open fails, the object is closed. ctx governs the reads too. Errors: ErrWrongKey, ErrExpired,
// ErrCorrupt, and the store's.
func (o *Object) Open(ctx context.Context, f crypto.Fragment) (*File, error) {
	opened, blocks, err := o.unlock(f)
	if err != nil {
		return nil, err
	}
	file, err := opened.Open(ctx, blocks)
	if err != nil {
		return nil, err
	}
	return &File{file, o.watch}, nil
}

// OpenEncoded opens the attachment as it was encoded in its mail: see [object.Opened.OpenEncoded].
// Otherwise it is like Open.
func (o *Object) OpenEncoded(ctx context.Context, f crypto.Fragment) (io.ReadCloser, error) {
	opened, blocks, err := o.unlock(f)
	if err != nil {
		return nil, err
	}
	r, err := opened.OpenEncoded(ctx, blocks)
	if err != nil {
		return nil, err
	}
	return watched{r, o.watch}, nil
}

// unlock proves the key right. The caller closes blocks, which the object no longer has; if unlock
// fails, the object is closed.
func (o *Object) unlock(f crypto.Fragment) (opened *object.Opened, blocks ipfs.Blocks, err error) {
	share, err := o.Share()
	if err == nil {
		opened, err = o.sealed.Unlock(f, share, o.Expires, o.now())
	}
	if err != nil {
		return nil, nil, errors.Join(err, o.Close())
	}
	blocks, o.blocks = o.blocks, nil
	return opened, blocks, nil
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

// Open calls Object and then [Object.Open]. The caller closes the file.
func (v *Vault) Open(ctx context.Context, c cid.Cid, f crypto.Fragment) (*File, error) {
	o, err := v.Object(ctx, c)
	if err != nil {
		return nil, err
	}
	return o.Open(ctx, f)
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
