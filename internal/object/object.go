// Package object decodes a stored object under one invariant:
//
//	Nothing is released before the key has proved right, and no byte is used before its block has
//	matched its CID.
//
// It is the decoder of docs/format.md for the gateway, the command line and restore. The caller
// brings the blocks and the share:
//
//	sealed, err := object.Read(ctx, blocks, root)         // or ReadCAR: the directory, meta.jwe, its kid
//	share, err := sealed.Share(keyring.Share…)            // or the gateway's
//	opened, err := sealed.Unlock(fragment, share, now)    // proves the key: the metadata is open
//	file, err := opened.Open(ctx, blocks)                 // or OpenCAR, from an offset
//
// A CAR from a gateway has its blocks in the order in which these functions ask for them.
package object

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// The entries of an object.
const (
	Data    = "data"
	Encoded = "encoded" // rare: see Opened.OpenEncoded
	Meta    = "meta.jwe"
)

// ErrExpired means that the object is past the end that its metadata or its epoch gives it.
var ErrExpired = errors.New("attachment has expired")

// Sealed is an object without its key: the directory and meta.jwe, verified.
type Sealed struct {
	Root    cid.Cid
	Meta    []byte             // meta.jwe, as it is stored
	Entries map[string]cid.Cid // Data, Meta and perhaps Encoded
	kid     string
}

// Read gets and verifies the directory and meta.jwe, in this order. Errors: those of blocks, and
// ipfs.ErrCorrupt if the object does not follow docs/format.md.
func Read(ctx context.Context, blocks ipfs.Blocks, root cid.Cid) (*Sealed, error) {
	entries, err := ipfs.OpenDirectory(ctx, blocks, root)
	if err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	known := 2
	if entries[Encoded].Defined() {
		known++
	}
	if !entries[Data].Defined() || !entries[Meta].Defined() || len(entries) != known {
		return nil, fmt.Errorf("%w: the object is not a directory of data, meta.jwe and perhaps encoded", ipfs.ErrCorrupt)
	}
	jwe, err := readMeta(ctx, blocks, entries[Meta])
	if err != nil {
		return nil, fmt.Errorf("open metadata: %w", err)
	}
	kid, err := crypto.MetaKeyID(jwe)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ipfs.ErrCorrupt, err)
	}
	return &Sealed{root, jwe, entries, kid}, nil
}

// ReadCAR reads a gateway's answer to /ipfs/CID/meta.jwe?format=car. It ignores the CAR's own root.
func ReadCAR(ctx context.Context, car io.Reader, root cid.Cid) (*Sealed, error) {
	_, blocks, err := ipfs.ReadCAR(car)
	if err != nil {
		return nil, err
	}
	return Read(ctx, blocks, root)
}

func readMeta(ctx context.Context, blocks ipfs.Blocks, c cid.Cid) ([]byte, error) {
	f, err := ipfs.OpenFile(ctx, blocks, c)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Size() > crypto.MaxMeta {
		return nil, fmt.Errorf("%w: %d bytes", ipfs.ErrCorrupt, f.Size())
	}
	return io.ReadAll(f)
}

// Share returns the object's share: zero in mode "link", and otherwise what derive returns for the
// epoch that the kid names. The epoch is well formed, but derive must not trust it.
func (s *Sealed) Share(derive func(crypto.Epoch) (crypto.Share, error)) (crypto.Share, error) {
	if s.kid == crypto.LinkKID {
		return crypto.ZeroShare(), nil
	}
	return derive(crypto.Epoch(s.kid))
}

// Unlock joins the key and proves it right by opening the metadata. Errors: crypto.ErrWrongKey,
// ErrExpired if the metadata's end has come, ipfs.ErrCorrupt.
func (s *Sealed) Unlock(f crypto.Fragment, share crypto.Share, now time.Time) (*Opened, error) {
	key := crypto.Join(f, share)
	meta, err := key.OpenMeta(s.Meta)
	switch {
	case errors.Is(err, crypto.ErrWrongKey):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ipfs.ErrCorrupt, err)
	case !meta.Expires.IsZero() && !now.Before(meta.Expires):
		return nil, ErrExpired
	}
	return &Opened{Meta: meta, sealed: s, key: key}, nil
}

// Opened is an object whose key has proved right.
type Opened struct {
	Meta   crypto.Meta
	sealed *Sealed
	key    crypto.Key
}

// Open opens the attachment over the object's blocks. ctx governs the reads too. The file's Close
// closes blocks; if Open fails, they are closed.
func (o *Opened) Open(ctx context.Context, blocks ipfs.Blocks) (_ *File, err error) {
	data, err := ipfs.OpenFile(ctx, blocks, o.sealed.Entries[Data])
	if err == nil && data.Size() != o.Meta.Size {
		err = errors.Join(fmt.Errorf("%w: %d bytes, and the metadata says %d", ipfs.ErrCorrupt, data.Size(), o.Meta.Size), data.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open data: %w", err), blocks.Close())
	}
	return &File{Meta: o.Meta, data: data, key: o.key, blocks: blocks}, nil
}

// OpenCAR opens the attachment at an offset, while a gateway's answer to
// /ipfs/CID/data?format=car&entity-bytes=OFFSET:* arrives. The file can only be read forward. Its
// Close closes car; if OpenCAR fails, car is closed.
func (o *Opened) OpenCAR(ctx context.Context, car io.ReadCloser, offset int64) (*File, error) {
	arriving, err := o.arrive(ctx, car)
	if err != nil {
		return nil, err
	}
	f, err := o.Open(ctx, arriving)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// arrive reads the beginning of a CAR: the directory, although it is known already. If it fails,
// car is closed.
func (o *Opened) arrive(ctx context.Context, car io.ReadCloser) (ipfs.Blocks, error) {
	_, blocks, err := ipfs.ReadCAR(car)
	if err != nil {
		return nil, errors.Join(err, car.Close())
	}
	if _, err := ipfs.OpenDirectory(ctx, blocks, o.sealed.Root); err != nil {
		return nil, errors.Join(err, car.Close())
	}
	return arriving{blocks, car}, nil
}

// arriving is a CAR's blocks, which are closed with the answer that they arrive in.
type arriving struct {
	ipfs.Blocks
	io.Closer
}

func (a arriving) Close() error { return a.Closer.Close() }

// File is an opened attachment: its plaintext, from any offset. A read returns only bytes of
// verified blocks, and a read that fails has not reached the end.
type File struct {
	Meta   crypto.Meta
	blocks ipfs.Blocks
	data   *ipfs.File
	key    crypto.Key
	offset int64         // of the first byte of stream, if that is nil
	stream cipher.Stream // nil: to be made at offset
}

// Read implements io.Reader.
func (f *File) Read(b []byte) (int, error) {
	if f.stream == nil {
		f.stream = f.key.Stream(f.offset)
	}
	n, err := f.data.Read(b)
	f.stream.XORKeyStream(b[:n], b[:n])
	return n, err
}

// Seek implements io.Seeker. It reads nothing.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	at, err := f.data.Seek(offset, whence)
	if err == nil {
		f.offset, f.stream = at, nil
	}
	return at, err
}

// Close closes the file and its blocks.
func (f *File) Close() error { return errors.Join(f.data.Close(), f.blocks.Close()) }
