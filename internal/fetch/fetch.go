// Package fetch downloads the file behind a link from a gateway or a store, and verifies it.
//
// The invariant: no gateway and no store is trusted. Each block has matched its
// CID before a byte of it is decrypted, sealed metadata included; the key has proved right before
// anything is written; and success means that the bytes have the SHA-256 in the metadata.
//
//	o, err := client.Open(ctx, link) // the metadata is verified and opened: o.Meta
//	defer o.Close()
//	err = o.Copy(ctx, w, nil)        // the file, in clear; a broken download is resumed
//
// A link to a whole message or to a file list leads to several objects: [Object.Original] and
// [Object.ZIP] put them together.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// Client opens what links name. The zero Client asks the gateway of each link for everything.
type Client struct {
	Store ipfs.Store       // has the blocks; nil: the link's gateway has them
	Keys  *keyring.Keyring // has the gateway's half of the key; nil: the link's gateway has it
	// Escrow opens objects by the keys that are escrowed in them, so that links need only a CID.
	// Store must not be nil then. Nil: no escrow.
	Escrow []age.Identity
	pause  time.Duration // before the first retry; 0: retryPause
}

// Close closes the store.
func (c Client) Close() error {
	if c.Store == nil {
		return nil
	}
	return c.Store.Close()
}

// Object is a stored object whose key has proved right. It is not safe for concurrent use.
type Object struct {
	Link    link.Link
	Meta    crypto.Meta
	client  Client
	gateway *gateway
	opened  *object.Opened
}

// Open verifies and opens the metadata of an object. The caller closes the Object.
func (c Client) Open(ctx context.Context, l link.Link) (*Object, error) {
	o := &Object{Link: l, client: c, gateway: newGateway(l.Base)}
	if err := o.unlock(ctx); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

// Close closes the connections to the gateway.
func (o *Object) Close() { o.gateway.close() }

// Fetch writes a whole file in clear to w. The file is complete only if the error is nil.
func (c Client) Fetch(ctx context.Context, l link.Link, w io.Writer) (crypto.Meta, error) {
	o, err := c.Open(ctx, l)
	if err != nil {
		return crypto.Meta{}, err
	}
	defer o.Close()
	return o.Meta, o.Copy(ctx, w, nil)
}

// unlock joins the two halves of the key, and proves the key right.
func (o *Object) unlock(ctx context.Context) error {
	sealed, err := o.sealed(ctx)
	if err != nil {
		return explain(err)
	}
	if o.client.Escrow != nil {
		return o.unlockEscrowed(ctx, sealed)
	}
	share, end, err := o.share(ctx, sealed)
	if err != nil {
		return err
	}
	o.opened, err = sealed.Unlock(o.Link.Fragment, share, end, time.Now())
	switch {
	case errors.Is(err, crypto.ErrWrongKey):
		return errOtherShare // the link has passed
	case errors.Is(err, object.ErrExpired):
		return errGone
	case err != nil:
		return explain(err)
	}
	o.Meta = o.opened.Meta
	return nil
}

// unlockEscrowed opens the object for the holder of the escrow, whatever its end is.
func (o *Object) unlockEscrowed(ctx context.Context, s *object.Sealed) error {
	blocks, err := o.stored(ctx)
	if err != nil {
		return err
	}
	defer blocks.Close()
	o.opened, err = s.UnlockEscrowed(ctx, blocks, o.client.Escrow...)
	if errors.Is(err, object.ErrNotEscrowed) {
		return fmt.Errorf("%w: keys.escrow was empty when it was stored", err)
	} else if err != nil {
		return err
	}
	o.Meta = o.opened.Meta
	return nil
}

var errOtherShare = errors.New("the link fits this file, but the other half of its key does not: ask the operator of the gateway")

// sealed reads the directory, the metadata and the origin. A gateway sends them as blocks too, with
// the proof of their path, so that they are checked against the CID.
func (o *Object) sealed(ctx context.Context) (*object.Sealed, error) {
	if o.client.Store == nil {
		meta, err := o.gateway.smallCAR(ctx, o.Link.CID, object.Meta)
		if err != nil {
			return nil, err
		}
		origin, err := o.gateway.smallCAR(ctx, o.Link.CID, object.Origin)
		if err != nil {
			return nil, err
		}
		return object.ReadCAR(ctx, meta, origin, o.Link.CID)
	}
	blocks, err := o.stored(ctx)
	if err != nil {
		return nil, err
	}
	defer blocks.Close()
	return object.Read(ctx, blocks, o.Link.CID)
}

// share returns the gateway's half of the key, and the present end of the object by the gateway or
// the keyring. A link that does not fit is refused before the gateway is asked.
func (o *Object) share(ctx context.Context, s *object.Sealed) (crypto.Share, time.Time, error) {
	proof := o.Link.Fragment.Proof(s.Core)
	switch {
	case !s.Origin.Asked(proof):
		return crypto.Share{}, time.Time{}, errWrongLink
	case o.client.Keys != nil:
		return o.client.derive(s)
	case s.KID.Link && !ended(s.KID.Epoch.End()): // needs no gateway, unless that has a later end
		return crypto.ZeroShare(), s.KID.Epoch.End(), nil
	}
	return o.gateway.share(ctx, s.Root, proof)
}

func ended(end time.Time) bool { return !end.IsZero() && !time.Now().Before(end) }

// derive returns the share and the end from the keyring: those of the extension, if there is one.
func (c Client) derive(s *object.Sealed) (crypto.Share, time.Time, error) {
	g, err := c.Keys.Grant(s.Root, s.Core, s.KID.Epoch, s.KID.Link)
	if err != nil {
		return crypto.Share{}, time.Time{}, err
	}
	share, err := g.Share()
	switch {
	case errors.Is(err, keyring.ErrDestroyed):
		err = errGone
	case errors.Is(err, keyring.ErrNoEpoch):
		err = fmt.Errorf("no %s.key in the keyring: is it that of the Detach that stored the file? (%w)", s.KID.Epoch, err)
	}
	return share, g.Epoch.End(), err
}

// file opens the attachment at a byte.
func (o *Object) file(ctx context.Context, from int64) (*object.File, error) {
	if o.client.Store == nil {
		car, err := o.gateway.car(ctx, o.Link.CID, object.Data, from)
		if err != nil {
			return nil, err
		}
		return o.opened.OpenCAR(ctx, car, from)
	}
	blocks, err := o.stored(ctx)
	if err != nil {
		return nil, err
	}
	f, err := o.opened.Open(ctx, blocks)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// encoded opens the attachment as it was encoded in its mail.
func (o *Object) encoded(ctx context.Context) (io.ReadCloser, error) {
	if o.client.Store == nil {
		car, err := o.gateway.car(ctx, o.Link.CID, object.Encoded, 0)
		if err != nil {
			return nil, err
		}
		return o.opened.OpenEncodedCAR(ctx, car)
	}
	blocks, err := o.stored(ctx)
	if err != nil {
		return nil, err
	}
	return o.opened.OpenEncoded(ctx, blocks)
}

func (o *Object) stored(ctx context.Context) (ipfs.Blocks, error) {
	blocks, err := o.client.Store.Open(ctx, o.Link.CID)
	if errors.Is(err, ipfs.ErrNotFound) {
		err = errAbsent
	}
	return blocks, err
}
