package main

import (
	"cmp"
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// A fetcher gets what links name: blocks from the store at hand, or else from the link's gateway; and the gateway's half of the
// key from the keyring at hand, or else from the gateway, if the object has one at all.
type fetcher struct {
	store ipfs.Store      // nil: the gateway
	keys  *crypto.Keyring // nil: the gateway
	pause time.Duration   // before a download that broke off is taken up again, doubled each time; 0: retryPause
}

// A remote is one object whose key has proved right.
type remote struct {
	fetcher
	gateway *gatewayClient
	link    link.Link
	key     crypto.Key
	meta    crypto.Meta
}

// open proves the key. The caller closes what it gets.
func (f fetcher) open(ctx context.Context, l link.Link) (*remote, error) {
	r := &remote{fetcher: f, gateway: newGatewayClient(l.Base), link: l}
	if err := r.unlock(ctx); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *remote) close() { r.gateway.close() }

// fetch gets a whole file.
func (f fetcher) fetch(ctx context.Context, l link.Link, w io.Writer) (crypto.Meta, error) {
	r, err := f.open(ctx, l)
	if err != nil {
		return crypto.Meta{}, err
	}
	defer r.close()
	return r.meta, r.copy(ctx, w, newSum())
}

// unlock joins the key and proves it.
func (r *remote) unlock(ctx context.Context) error {
	jwe, err := r.sealedMeta(ctx)
	if err != nil {
		return err
	}
	kid, err := crypto.MetaKeyID(jwe)
	if err != nil {
		return errors.New("the answer is not one of Detach: is the link's address right?")
	}
	share, err := r.share(ctx, kid)
	if err != nil {
		return err
	}
	r.key = crypto.Join(r.link.Fragment, share)
	r.meta, err = r.key.OpenMeta(jwe)
	switch {
	case errors.Is(err, crypto.ErrWrongKey):
		return errors.New("the link does not open this file: it was cut short or changed on its way; copy all of it, to the last letter after #")
	case err != nil:
		return err
	case !r.meta.Expires.IsZero() && !time.Now().Before(r.meta.Expires):
		return badStatus(http.StatusGone)
	}
	return nil
}

func (r *remote) sealedMeta(ctx context.Context) ([]byte, error) {
	if r.store == nil {
		return r.gateway.read(ctx, "/"+r.link.CID.String()+"/meta.jwe")
	}
	file, err := r.entry(ctx, "meta.jwe", 0)
	if err != nil {
		return nil, damaged(err)
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, crypto.MaxMeta+1))
}

// share is B. An object that anyone may open with the link alone needs nobody's.
func (r *remote) share(ctx context.Context, kid string) (crypto.Share, error) {
	if kid == crypto.LinkKID {
		return crypto.ZeroShare(), nil
	}
	if r.keys != nil {
		epoch, err := crypto.ParseEpoch(kid)
		if err != nil {
			return crypto.Share{}, err
		}
		return r.keys.Share(epoch, r.link.CID.Bytes())
	}
	text, err := r.gateway.read(ctx, "/"+r.link.CID.String()+"/share")
	if err != nil {
		return crypto.Share{}, err
	}
	share, err := crypto.ParseShare(string(text))
	if err != nil {
		return share, errors.New("the gateway's answer is not one of Detach: is the link's address right?")
	}
	return share, nil
}

// entry is one of the object's two files, with the blocks that it is read from.
type entry struct {
	*ipfs.File
	blocks ipfs.Blocks
}

func (e entry) Close() error { return errors.Join(e.File.Close(), e.blocks.Close()) }

// entry opens one of the object's two files at a byte. Nothing is believed: neither the root that a gateway says, nor a block.
func (r *remote) entry(ctx context.Context, name string, from int64) (entry, error) {
	blocks, err := r.blocks(ctx, name, from)
	if err != nil {
		return entry{}, err
	}
	file, err := openEntry(ctx, blocks, r.link, name)
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

// blocks are those that a File needs which was moved to from; a gateway sends them in that order.
func (r *remote) blocks(ctx context.Context, name string, from int64) (ipfs.Blocks, error) {
	if r.store != nil {
		blocks, err := r.store.Open(ctx, r.link.CID)
		if errors.Is(err, ipfs.ErrNotFound) {
			err = errAbsent
		}
		return blocks, err
	}
	path := fmt.Sprintf("/ipfs/%s/%s?format=car&dag-scope=entity&entity-bytes=%d:*", r.link.CID, name, from)
	body, err := r.gateway.open(ctx, path, "application/vnd.ipld.car")
	if err != nil {
		return nil, err
	}
	_, blocks, err := ipfs.ReadCAR(body)
	if err != nil {
		return nil, errors.Join(err, body.Close())
	}
	return arriving{blocks, body}, nil
}

var errAbsent = fmt.Errorf("the file is not in this store: it has expired or was withdrawn, or never was there: %w", ipfs.ErrNotFound)

// arriving are blocks that end with the answer they come in.
type arriving struct {
	ipfs.Blocks
	io.Closer
}

func (a arriving) Close() error { return a.Closer.Close() }

const (
	// retries is how often a download that broke off is taken up again without having got any further.
	retries    = 4
	retryPause = time.Second
)

// copy writes the file from where sum has come to, in clear. Only verified bytes are written, and what was written is the whole
// file only if the error is nil. A connection that breaks is made again.
func (r *remote) copy(ctx context.Context, w io.Writer, sum *progressSum) error {
	first := cmp.Or(r.pause, retryPause)
	for left, pause := retries, first; ; {
		before := sum.n
		err := r.copyOnce(ctx, io.MultiWriter(w, sum), sum.n)
		if err == nil {
			break
		}
		if sum.n > before {
			left, pause = retries, first
		}
		if left--; left < 0 || ctx.Err() != nil || !passing(err) {
			return damaged(err)
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if [sha256.Size]byte(sum.Sum(nil)) != r.meta.SHA256 {
		return errOtherSum
	}
	return nil
}

var errOtherSum = fmt.Errorf("%w: its SHA-256 is another", ipfs.ErrCorrupt)

// passing tells whether an error is of the way and not of the file: asking again may help.
func passing(err error) bool {
	if r, ok := errors.AsType[badStatus](err); ok {
		return r.passing()
	}
	cutOff := errors.Is(err, io.ErrUnexpectedEOF)
	return cutOff || !errors.Is(err, ipfs.ErrCorrupt) && !errors.Is(err, ipfs.ErrNotFound) && !errors.Is(err, errLocal)
}

var errLocal = errors.New("cannot write")

func (r *remote) copyOnce(ctx context.Context, w io.Writer, from int64) error {
	file, err := r.entry(ctx, "data", from)
	if err != nil {
		return err
	}
	defer file.Close()
	if file.Size() != r.meta.Size {
		return fmt.Errorf("%w: %d bytes are stored of %d", ipfs.ErrCorrupt, file.Size(), r.meta.Size)
	}
	_, err = io.Copy(localWriter{w}, cipher.StreamReader{S: r.key.Stream(from), R: file})
	return err
}

// localWriter marks its errors as this machine's: the download is not to blame.
type localWriter struct{ io.Writer }

func (w localWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", errLocal, err)
	}
	return n, err
}

// progressSum is the SHA-256 of what there is of a file.
type progressSum struct {
	hash.Hash
	n int64
}

func newSum() *progressSum { return &progressSum{Hash: sha256.New()} }

func (s *progressSum) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	return s.Hash.Write(p)
}

// damaged puts before an error what it means to whoever waits for a file.
func damaged(err error) error {
	switch {
	case errors.Is(err, errAbsent):
		return err
	case errors.Is(err, ipfs.ErrCorrupt), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, ipfs.ErrNotFound):
		return fmt.Errorf("the file did not arrive whole; try again: %w", err)
	}
	return err
}
