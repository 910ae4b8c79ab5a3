// Package fetch brings the file behind a link from a gateway or a store to verified bytes.
//
// The invariant: nothing that a gateway or a store sends is believed. Each block has matched its
// CID before a byte of it is decrypted, sealed metadata included; the key has proved right before
// anything is written; and success means that the bytes have the SHA-256 in the metadata.
//
//	o, err := client.Open(ctx, link) // the metadata is verified and opened: o.Meta
//	defer o.Close()
//	err = o.Copy(ctx, w, nil)        // the file, in clear; a broken connection is taken up again
//
// A link to a whole message or to a list of files leads to several objects: [Object.Original] and
// [Object.ZIP] put them together.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// Client opens what links name. The zero Client asks the gateway of each link for everything.
type Client struct {
	Store ipfs.Store      // has the blocks; nil: the link's gateway has them
	Keys  *crypto.Keyring // has the gateway's half of the key; nil: the link's gateway has it
	pause time.Duration   // before the first retry; 0: retryPause
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
	key     crypto.Key
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

// Close gives the connections to the gateway back.
func (o *Object) Close() { o.gateway.close() }

// Fetch writes a whole file in clear to w. Only if it returns no error, all of it was written.
func (c Client) Fetch(ctx context.Context, l link.Link, w io.Writer) (crypto.Meta, error) {
	o, err := c.Open(ctx, l)
	if err != nil {
		return crypto.Meta{}, err
	}
	defer o.Close()
	return o.Meta, o.Copy(ctx, w, nil)
}

// unlock joins the key from its two halves and proves it on the metadata.
func (o *Object) unlock(ctx context.Context) error {
	jwe, err := o.sealedMeta(ctx)
	if err != nil {
		return err
	}
	kid, err := crypto.MetaKeyID(jwe)
	if err != nil {
		return errNotDetach
	}
	share, err := o.share(ctx, kid)
	if err != nil {
		return err
	}
	o.key = crypto.Join(o.Link.Fragment, share)
	o.Meta, err = o.key.OpenMeta(jwe)
	switch {
	case errors.Is(err, crypto.ErrWrongKey):
		return errors.New("the link does not open this file: it was cut short or changed on its way; " +
			"copy all of it, to the last letter after #")
	case err != nil:
		return err
	case !o.Meta.Expires.IsZero() && !time.Now().Before(o.Meta.Expires):
		return errGone
	}
	return nil
}

var errNotDetach = errors.New("the answer does not come from Detach: is the link's address right?")

func (o *Object) sealedMeta(ctx context.Context) ([]byte, error) {
	file, err := o.entry(ctx, "meta.jwe", 0)
	if err != nil {
		return nil, explain(err)
	}
	defer file.Close()
	if file.Size() > crypto.MaxMeta {
		return nil, explain(fmt.Errorf("%w: metadata of %d bytes", ipfs.ErrCorrupt, file.Size()))
	}
	jwe, err := io.ReadAll(file)
	return jwe, explain(err)
}

// share returns the gateway's half of the key. An object that the link alone opens has none.
func (o *Object) share(ctx context.Context, kid string) (crypto.Share, error) {
	if kid == crypto.LinkKID {
		return crypto.ZeroShare(), nil
	}
	if o.client.Keys != nil {
		epoch, err := crypto.ParseEpoch(kid)
		if err != nil {
			return crypto.Share{}, err
		}
		return o.client.Keys.Share(epoch, o.Link.CID.Bytes())
	}
	text, err := o.gateway.read(ctx, "/"+o.Link.CID.String()+"/share")
	if err != nil {
		return crypto.Share{}, err
	}
	share, err := crypto.ParseShare(string(text))
	if err != nil {
		return share, errNotDetach
	}
	return share, nil
}

// entry is one of the object's two files, with the blocks that it is read from.
type entry struct {
	*ipfs.File
	blocks ipfs.Blocks
}

func (e entry) Close() error { return errors.Join(e.File.Close(), e.blocks.Close()) }

// entry opens one of the object's two files at a byte.
func (o *Object) entry(ctx context.Context, name string, from int64) (entry, error) {
	blocks, err := o.blocks(ctx, name, from)
	if err != nil {
		return entry{}, err
	}
	file, err := openEntry(ctx, blocks, o.Link, name)
	if err != nil {
		return entry{}, errors.Join(err, blocks.Close())
	}
	e := entry{file, blocks}
	if _, err := e.Seek(from, io.SeekStart); err != nil {
		return entry{}, errors.Join(err, e.Close())
	}
	return e, nil
}

func openEntry(ctx context.Context, blocks ipfs.Blocks, l link.Link, name string) (*ipfs.File, error) {
	entries, err := ipfs.OpenDirectory(ctx, blocks, l.CID)
	if err != nil {
		return nil, err
	}
	c, ok := entries[name]
	if !ok {
		return nil, fmt.Errorf("%w: the object has no %s", ipfs.ErrCorrupt, name)
	}
	return ipfs.OpenFile(ctx, blocks, c)
}

// blocks returns what a File reads that was moved to from; a gateway sends the blocks in that
// order.
func (o *Object) blocks(ctx context.Context, name string, from int64) (ipfs.Blocks, error) {
	if o.client.Store != nil {
		blocks, err := o.client.Store.Open(ctx, o.Link.CID)
		if errors.Is(err, ipfs.ErrNotFound) {
			err = errAbsent
		}
		return blocks, err
	}
	path := fmt.Sprintf("/ipfs/%s/%s?format=car&dag-scope=entity&entity-bytes=%d:*", o.Link.CID, name, from)
	body, err := o.gateway.open(ctx, path, "application/vnd.ipld.car")
	if err != nil {
		return nil, err
	}
	_, blocks, err := ipfs.ReadCAR(body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w (%w)", errNotDetach, err)
	}
	if err != nil {
		return nil, errors.Join(err, body.Close())
	}
	return arriving{blocks, body}, nil
}

// arriving are blocks that are read from an answer, and closed with it.
type arriving struct {
	ipfs.Blocks
	io.Closer
}

func (a arriving) Close() error { return a.Closer.Close() }
