// Package object decodes a stored object under one invariant:
//
//	Nothing is released before the key has proved right, and no byte is used before its block has
//	matched its CID.
//
// It is the decoder of docs/format.md for the gateway, the command line and restore. The caller
// brings the blocks and the share:
//
//	sealed, err := object.Read(ctx, blocks, root)           // or ReadCAR; verified, without a key
//	share, end, err := …                                    // of the keyring, or of the gateway
//	opened, err := sealed.Unlock(fragment, share, end, now) // proves the key: the metadata is open
//	file, err := opened.Open(ctx, blocks)                   // or OpenCAR, from an offset
//
// A CAR from a gateway has its blocks in the order in which these functions ask for them.
//
// Read proves the form of an object and not its maker: whether the origin is that of this
// installation is for package vault to ask.
package object

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// The entries of an object. All others are refused.
const (
	Data    = "data"
	Encoded = "encoded"    // rare: see Opened.OpenEncoded
	Escrow  = "escrow.age" // the key for the operator, if the configuration says so
	Meta    = "meta.jwe"
	Origin  = "origin"
)

// ErrExpired means that the object is past its end.
var ErrExpired = errors.New("attachment has expired")

// Sealed is an object without its key: the directory, meta.jwe and the origin, verified.
type Sealed struct {
	Root    cid.Cid
	Core    cid.Cid // of the directory without its origin
	KID     crypto.KID
	Origin  crypto.Origin
	Meta    []byte // meta.jwe, as it is stored
	Entries ipfs.Directory
}

// Read gets and verifies the directory, meta.jwe and the origin, in this order, and nothing else.
// Errors: those of blocks, and ipfs.ErrCorrupt if the object does not follow docs/format.md.
func Read(ctx context.Context, blocks ipfs.Blocks, root cid.Cid) (*Sealed, error) {
	s := &Sealed{Root: root}
	if err := s.readMeta(ctx, blocks); err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	if err := s.readOrigin(ctx, blocks); err != nil {
		return nil, fmt.Errorf("open origin: %w", err)
	}
	return s, nil
}

// Size returns the size of the attachment, whose ciphertext is as long. An origin that is ours proves
// that the Tsize is what we wrote, so a file of one block is not read for it.
func (s *Sealed) Size(ctx context.Context, blocks ipfs.Blocks) (int64, error) {
	data := s.Entries[Data]
	if data.CID.Type() == cid.Raw {
		return int64(data.Tsize), nil
	}
	f, err := ipfs.OpenFile(ctx, blocks, data.CID)
	if err != nil {
		return 0, fmt.Errorf("open data: %w", err)
	}
	defer f.Close()
	return f.Size(), nil
}

// ReadCAR is Read with a gateway's answers to /ipfs/CID/meta.jwe?format=car and
// /ipfs/CID/origin?format=car. It reads origin after it has verified meta. It ignores the roots
// that the CARs state.
func ReadCAR(ctx context.Context, meta, origin io.Reader, root cid.Cid) (*Sealed, error) {
	s := &Sealed{Root: root}
	blocks, err := openCAR(meta)
	if err != nil {
		return nil, err
	}
	if err := s.readMeta(ctx, blocks); err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	if blocks, err = openCAR(origin); err != nil {
		return nil, err
	}
	if _, err := ipfs.OpenDirectory(ctx, blocks, root); err != nil { // it comes once more
		return nil, fmt.Errorf("open origin: %w", err)
	}
	if err := s.readOrigin(ctx, blocks); err != nil {
		return nil, fmt.Errorf("open origin: %w", err)
	}
	return s, nil
}

func openCAR(r io.Reader) (ipfs.Blocks, error) {
	_, blocks, err := ipfs.ReadCAR(r)
	return blocks, err
}

func (s *Sealed) readMeta(ctx context.Context, blocks ipfs.Blocks) (err error) {
	if s.Entries, err = ipfs.OpenDirectory(ctx, blocks, s.Root); err != nil {
		return err
	}
	if s.Core, err = coreOf(s.Entries); err != nil {
		return err
	}
	if s.Meta, err = readSmall(ctx, blocks, s.Entries[Meta], crypto.MaxMeta); err != nil {
		return err
	}
	if s.KID, err = crypto.MetaKeyID(s.Meta); err != nil {
		return fmt.Errorf("%w: %w", ipfs.ErrCorrupt, err)
	}
	return nil
}

func (s *Sealed) readOrigin(ctx context.Context, blocks ipfs.Blocks) error {
	b, err := readSmall(ctx, blocks, s.Entries[Origin], len(s.Origin))
	if err != nil {
		return err
	}
	if s.Origin, err = crypto.ParseOrigin(b); err != nil {
		return fmt.Errorf("%w: %w", ipfs.ErrCorrupt, err)
	}
	return nil
}

// readSmall reads an entry that is one raw block. Its Tsize must be right: in the link to the
// origin nothing else proves it, and another Tsize would give the object a second CID.
func readSmall(ctx context.Context, blocks ipfs.Blocks, n ipfs.Node, limit int) ([]byte, error) {
	b, err := ipfs.ReadLeaf(ctx, blocks, n.CID, limit)
	if err == nil && n.Tsize != uint64(len(b)) {
		err = fmt.Errorf("%w: a Tsize of %d for a block of %d bytes", ipfs.ErrCorrupt, n.Tsize, len(b))
	}
	return b, err
}

// coreOf checks that the entries are those of an object, and returns its core.
func coreOf(entries ipfs.Directory) (cid.Cid, error) {
	known := 0
	for _, name := range []string{Data, Encoded, Escrow, Meta, Origin} {
		if _, ok := entries[name]; ok {
			known++
		} else if name == Data || name == Meta || name == Origin {
			return cid.Undef, fmt.Errorf("%w: the object has no entry %s", ipfs.ErrCorrupt, name)
		}
	}
	if known < len(entries) {
		return cid.Undef, fmt.Errorf("%w: the object has an unknown entry", ipfs.ErrCorrupt)
	}
	if e, ok := entries[Escrow]; ok && (e.CID.Type() != cid.Raw || e.Tsize > crypto.MaxEscrow) {
		return cid.Undef, fmt.Errorf("%w: the entry %s is too large", ipfs.ErrCorrupt, Escrow)
	}
	core := maps.Clone(entries)
	delete(core, Origin)
	return core.CID()
}

// Unlock joins the key, proves it right, and opens the metadata. end is when the object ends by the
// keyring or by its gateway, which know of an extension; zero for never. The metadata's own end
// counts if it is later. Errors: crypto.ErrWrongKey, ErrExpired, ipfs.ErrCorrupt.
func (s *Sealed) Unlock(f crypto.Fragment, share crypto.Share, end, now time.Time) (*Opened, error) {
	key := crypto.Join(f, share)
	if err := s.Origin.CheckKey(s.Core, f, key); err != nil {
		return nil, err
	}
	meta, err := key.OpenMeta(s.Meta)
	switch {
	case errors.Is(err, crypto.ErrWrongKey):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ipfs.ErrCorrupt, err)
	}
	if meta.Expires = later(meta.Expires, end); !meta.Expires.IsZero() && !now.Before(meta.Expires) {
		return nil, ErrExpired
	}
	return &Opened{Meta: meta, sealed: s, key: key}, nil
}

// later returns the later of two ends, of which zero stands for never.
func later(a, b time.Time) time.Time {
	if a.IsZero() || b.IsZero() {
		return time.Time{}
	}
	if b.After(a) {
		return b
	}
	return a
}

// Opened is an object whose key has proved right.
type Opened struct {
	Meta   crypto.Meta // Expires is the present end
	sealed *Sealed
	key    crypto.Key
}

// Open opens the attachment over the object's blocks. ctx governs the reads too. The file's Close
// closes blocks; if Open fails, they are closed.
func (o *Opened) Open(ctx context.Context, blocks ipfs.Blocks) (_ *File, err error) {
	data, err := ipfs.OpenFile(ctx, blocks, o.sealed.Entries[Data].CID)
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
	blocks, err := openCAR(car)
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
