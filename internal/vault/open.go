package vault

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// The entries of an object.
const (
	dataName = "data"
	metaName = "meta.jwe"
)

// object is a stored object whose blocks are open and whose share is at hand.
type object struct {
	ipfs.Blocks
	data  cid.Cid
	jwe   []byte
	share crypto.Share
}

// object opens what the ledger has in that epoch. It does not admit: the caller did.
func (v *Vault) object(ctx context.Context, c cid.Cid, epoch crypto.Epoch) (_ *object, err error) {
	blocks, err := v.store.Open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	defer func() {
		if err != nil {
			_ = blocks.Close()
		}
	}()
	entries, err := directory(ctx, blocks, c)
	if err != nil {
		return nil, err
	}
	jwe, err := readMeta(ctx, blocks, entries[metaName])
	if err != nil {
		return nil, err
	}
	share, err := v.share(c, jwe, epoch)
	if err != nil {
		return nil, err
	}
	return &object{blocks, entries[dataName], jwe, share}, nil
}

// share derives B as the kid asks. The kid has its form by now, but it is believed only where
// it says what the ledger says.
func (v *Vault) share(c cid.Cid, jwe []byte, epoch crypto.Epoch) (crypto.Share, error) {
	kid, err := crypto.MetaKeyID(jwe)
	switch {
	case err != nil:
		return crypto.Share{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	case kid == crypto.LinkKID:
		return crypto.ZeroShare(), nil
	case kid != string(epoch):
		return crypto.Share{}, fmt.Errorf("%w: meta.jwe is of another epoch than the ledger", ErrCorrupt)
	}
	share, err := v.keys.Share(epoch, c.Bytes())
	if errors.Is(err, crypto.ErrNoEpoch) {
		return crypto.Share{}, ErrExpired
	}
	return share, err
}

// directory returns the entries of an object, which are these two and no others.
func directory(ctx context.Context, blocks ipfs.Blocks, root cid.Cid) (map[string]cid.Cid, error) {
	entries, err := ipfs.OpenDirectory(ctx, blocks, root)
	if err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	if len(entries) != 2 || !entries[dataName].Defined() || !entries[metaName].Defined() {
		return nil, fmt.Errorf("open object: %w: not a directory of data and meta.jwe", ErrCorrupt)
	}
	return entries, nil
}

func readMeta(ctx context.Context, blocks ipfs.Blocks, c cid.Cid) ([]byte, error) {
	f, err := ipfs.OpenFile(ctx, blocks, c)
	if err != nil {
		return nil, fmt.Errorf("open metadata: %w", err)
	}
	defer f.Close()
	if f.Size() > crypto.MaxMeta {
		return nil, fmt.Errorf("open metadata: %w: %d bytes", ErrCorrupt, f.Size())
	}
	jwe, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("open metadata: %w", err)
	}
	return jwe, nil
}

// File is an opened attachment: its plaintext, from any offset. A read returns only bytes of
// verified blocks, and a read that fails has not reached the end.
type File struct {
	Meta crypto.Meta
	io.ReadSeekCloser
}

// Open opens an object with the link's fragment; ctx governs the reads too.
func (v *Vault) Open(ctx context.Context, c cid.Cid, f crypto.Fragment) (*File, error) {
	rec, err := v.admit(c)
	if err != nil {
		return nil, err
	}
	return v.open(ctx, c, f, rec.epoch)
}

func (v *Vault) open(ctx context.Context, c cid.Cid, f crypto.Fragment, epoch crypto.Epoch) (_ *File, err error) {
	o, err := v.object(ctx, c, epoch)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = o.Close()
		}
	}()
	key := crypto.Join(f, o.share)
	meta, err := key.OpenMeta(o.jwe)
	if errors.Is(err, ErrWrongKey) {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if v.expired(meta.Expires) {
		return nil, ErrExpired
	}
	data, err := ipfs.OpenFile(ctx, o, o.data)
	if err != nil {
		return nil, fmt.Errorf("open data: %w", err)
	}
	if data.Size() != meta.Size {
		_ = data.Close()
		return nil, fmt.Errorf("open data: %w: %d bytes, and the metadata says %d", ErrCorrupt, data.Size(), meta.Size)
	}
	return &File{meta, &plaintext{data: data, key: key, object: o}}, nil
}

// plaintext decrypts a verified file where it stands.
type plaintext struct {
	object *object
	data   *ipfs.File
	key    crypto.Key
	offset int64         // where data stood when stream was last dropped
	stream cipher.Stream // nil: to be made at offset
}

func (p *plaintext) Read(b []byte) (int, error) {
	if p.stream == nil {
		p.stream = p.key.Stream(p.offset)
	}
	n, err := p.data.Read(b)
	p.stream.XORKeyStream(b[:n], b[:n])
	return n, err
}

func (p *plaintext) Seek(offset int64, whence int) (int64, error) {
	at, err := p.data.Seek(offset, whence)
	if err == nil {
		p.offset, p.stream = at, nil
	}
	return at, err
}

func (p *plaintext) Close() error { return errors.Join(p.data.Close(), p.object.Close()) }

// Sealed is one entry of an object as it is stored: ciphertext, verified.
type Sealed struct {
	*ipfs.File
	blocks ipfs.Blocks
}

// Close closes the object.
func (s *Sealed) Close() error { return errors.Join(s.File.Close(), s.blocks.Close()) }

// Sealed opens the entry "data" or "meta.jwe"; ErrNotFound for any other name.
func (v *Vault) Sealed(ctx context.Context, c cid.Cid, name string) (_ *Sealed, err error) {
	if name != dataName && name != metaName {
		return nil, ErrNotFound
	}
	blocks, err := v.Blocks(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = blocks.Close()
		}
	}()
	entries, err := directory(ctx, blocks, c)
	if err != nil {
		return nil, err
	}
	f, err := ipfs.OpenFile(ctx, blocks, entries[name])
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return &Sealed{f, blocks}, nil
}
