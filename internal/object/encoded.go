package object

import (
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// OpenEncoded opens the attachment as it was encoded in its mail, which an object has if no rule
// encodes it again. The reader decodes what it returns, and its last read fails with
// ipfs.ErrCorrupt if that is not the attachment. Its Close closes blocks; if OpenEncoded fails,
// they are closed.
func (o *Opened) OpenEncoded(ctx context.Context, blocks ipfs.Blocks) (io.ReadCloser, error) {
	node, ok := o.sealed.Entries[Encoded]
	if !ok {
		return nil, errors.Join(fmt.Errorf("%w: the object has no encoded form", ipfs.ErrCorrupt), blocks.Close())
	}
	data, err := ipfs.OpenFile(ctx, blocks, node.CID)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open encoded form: %w", err), blocks.Close())
	}
	if data.Size() > transfer.MaxEncoded {
		err := fmt.Errorf("%w: an encoded form of %d bytes, at most %d are allowed", ipfs.ErrCorrupt, data.Size(), transfer.MaxEncoded)
		return nil, errors.Join(err, data.Close(), blocks.Close())
	}
	stream, err := o.key.EncodedStream()
	if err != nil {
		return nil, errors.Join(err, data.Close(), blocks.Close())
	}
	f := &encodedFile{meta: o.Meta, data: data, blocks: blocks, stream: stream}
	f.sum = sum{hash: sha256.New()}
	f.decoder = transfer.NewUnquoter(&f.sum)
	return f, nil
}

// OpenEncodedCAR is OpenEncoded while a gateway's answer to /ipfs/CID/encoded?format=car arrives.
// The reader's Close closes car; if OpenEncodedCAR fails, car is closed.
func (o *Opened) OpenEncodedCAR(ctx context.Context, car io.ReadCloser) (io.ReadCloser, error) {
	blocks, err := o.arrive(ctx, car)
	if err != nil {
		return nil, err
	}
	return o.OpenEncoded(ctx, blocks)
}

// encodedFile is the plaintext of the entry Encoded. It compares what this decodes to with the
// metadata.
type encodedFile struct {
	meta    crypto.Meta
	data    *ipfs.File
	blocks  ipfs.Blocks
	stream  cipher.Stream
	decoder io.WriteCloser // to sum
	sum     sum
}

// sum counts and hashes what is written to it.
type sum struct {
	hash hash.Hash
	n    int64
}

func (s *sum) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	return s.hash.Write(p)
}

func (f *encodedFile) Read(b []byte) (int, error) {
	n, err := f.data.Read(b)
	f.stream.XORKeyStream(b[:n], b[:n])
	if _, bad := f.decoder.Write(b[:n]); bad != nil || f.sum.n > f.meta.Size {
		return 0, f.other()
	}
	if err == io.EOF && (f.decoder.Close() != nil || f.sum.n != f.meta.Size || [32]byte(f.sum.hash.Sum(nil)) != f.meta.SHA256) {
		return 0, f.other()
	}
	return n, err
}

func (f *encodedFile) other() error {
	return fmt.Errorf("%w: the encoded form is that of another file", ipfs.ErrCorrupt)
}

func (f *encodedFile) Close() error { return errors.Join(f.data.Close(), f.blocks.Close()) }
