package vault

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// watchEvery is how often a running download asks whether the object may still be served.
const watchEvery = time.Second

// watch breaks off the reading of an object that was revoked, or whose key was destroyed, since it
// was opened. Nil watches nothing. It is not safe for concurrent use, like the object.
type watch struct {
	allowed func() error
	next    time.Time // of the next question
	err     error     // the answer that was not yes
}

func (v *Vault) watch(s *object.Sealed, g grant) *watch {
	allowed := func() error {
		if err := v.refuseDenied(s.Root); err != nil {
			return err
		}
		if err := v.refuseDestroyed(g.epoch, s.Core); err != nil || g.epoch == s.KID.Epoch {
			return err
		}
		// A mark of the file's own epoch may have come from a machine that does not know the later one.
		if _, _, _, err := v.keys.Extension(s.Root, s.Core, s.KID.Epoch); errors.Is(err, keyring.ErrNoExtension) {
			return errDestroyed
		}
		return nil
	}
	return &watch{allowed: allowed, next: time.Now().Add(watchEvery)}
}

// check returns an error if the object may no longer be served. It asks at most once a second.
func (w *watch) check() error {
	if w == nil {
		return nil
	}
	now := time.Now()
	if w.err != nil || now.Before(w.next) {
		return w.err
	}
	w.next = now.Add(watchEvery)
	w.err = w.allowed()
	return w.err
}

func (w *watch) read(r io.Reader, p []byte) (int, error) {
	if err := w.check(); err != nil {
		return 0, err
	}
	return r.Read(p)
}

// watched is a reader of an object's content.
type watched struct {
	io.ReadCloser
	watch *watch
}

func (w watched) Read(p []byte) (int, error) { return w.watch.read(w.ReadCloser, p) }

// watchedBlocks are the blocks of an object. A CAR is made of them, so they are watched too.
type watchedBlocks struct {
	ipfs.Blocks
	watch *watch
}

func (b watchedBlocks) Get(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	if err := b.watch.check(); err != nil {
		return nil, err
	}
	return b.Blocks.Get(ctx, c, buf)
}

func (b watchedBlocks) GetPart(ctx context.Context, c cid.Cid, off int64, p []byte) error {
	if err := b.watch.check(); err != nil {
		return err
	}
	return b.Blocks.GetPart(ctx, c, off, p)
}
