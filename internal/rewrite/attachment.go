package rewrite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

const (
	// cutMemory bounds what is known of a removed attachment: its name, type, link and layout.
	cutMemory = 4 << 10
	// freeDecoded is how much of an attachment may be decoded, to learn whether it is large enough,
	// without memory of the budget. It is the default of min_size.
	freeDecoded = 64 << 10
	// pgpMessage begins a message encrypted by PGP (RFC 9580 section 6.2.1).
	pgpMessage = "-----BEGIN PGP MESSAGE-----"
)

// attachment detaches one part, if it is large enough and can be decoded exactly. Its bytes go to
// the spool, like those of every other part, until enough of them are decoded; then they are
// removed from the spool.
func (w *walk) attachment(ctx context.Context, v verdict, e *entity, p place) (d *delimiter, err error) {
	if w.cuts.full() || !w.memory.Take(cutMemory) {
		return w.keep()
	}
	if n := transfer.Memory(v.encoding); w.memory.Take(n) {
		defer w.memory.Give(n)
	} else {
		return w.keep()
	}
	a := &attachmentReader{
		scan: w.scan, decoder: transfer.NewExact(v.encoding, w.policy.Space), restore: w.policy.Restore,
		open: p.depth == 0 || v.encoding == "base64",
	}
	defer func() { err = errors.Join(err, a.decoder.Close()) }()
	mark := w.spool.Size()
	if large, err := w.largeEnough(a, v); err != nil {
		return nil, err
	} else if !large {
		return w.keepRest(a)
	}
	if err := errors.Join(w.cuts.sumUp(w.spool), w.spool.Truncate(mark)); err != nil {
		return nil, err
	}
	w.cuts.summed, a.encoded = mark, w.cuts.sum
	c, err := w.store(ctx, v, a, mark)
	if err != nil {
		return nil, err
	}
	// The encoded form of odd quoted-printable cannot be read back at the end of the mail.
	if mayGoBack := e.referable && c.layout.Encoding == transfer.Encoded; !a.whole || mayGoBack {
		if err := w.putBack(ctx, c, a); err != nil {
			return nil, fmt.Errorf("put attachment back: %w", err)
		}
		w.cuts.summed = w.spool.Size()
		return w.keepRest(a)
	}
	e.kind, c.entity = kindGone, e
	w.cuts.add(c)
	return a.delimiter, nil
}

// largeEnough decodes the beginning of an attachment, which the spool keeps, and reports whether it
// shows that the attachment is to be detached.
func (w *walk) largeEnough(a *attachmentReader, v verdict) (bool, error) {
	enough := max(w.policy.MinSize, 1)
	if v.small {
		enough = 1
	}
	for !a.done && a.size < max(enough, int64(len(pgpMessage))) {
		if a.size > freeDecoded && !w.memory.Take(scanBuffer) {
			return false, nil
		}
		if _, err := w.spool.Write(a.step()); err != nil {
			return false, err
		}
	}
	armor := v.nameless && bytes.HasPrefix(a.decoded, []byte(pgpMessage))
	return !armor && (!a.done || a.whole && a.size >= enough), a.err
}

// store passes the attachment to the Detacher while it arrives.
func (w *walk) store(ctx context.Context, v verdict, a *attachmentReader, off int64) (cut, error) {
	mediaType := v.mimeType
	if mediaType == skeleton.Type || mediaType == filelist.Type {
		mediaType = "application/octet-stream" // attachments must not have the types of Detach's own objects
	}
	l, err := w.detacher.DetachEncoded(ctx, v.name, mediaType, a, a.encodedForm)
	switch {
	case a.err != nil:
		return cut{}, a.err
	case err != nil:
		return cut{}, fmt.Errorf("store attachment: %w", err)
	case !a.done:
		return cut{}, errors.New("store attachment: the store did not read it to its end")
	}
	return cut{off: off, name: v.name, mediaType: mediaType, size: a.size, crc32: a.sum, link: l, layout: a.decoder.Layout()}, nil
}

// putBack undoes store for a part that proved damaged while it was being stored: it reads the
// stored bytes back, encodes them in their layout, and writes them to the spool.
func (w *walk) putBack(ctx context.Context, c cut, a *attachmentReader) error {
	if c.layout.Encoding == transfer.Encoded {
		if err := c.layout.Encode(w.spool, a.decoder.Encoded()); err != nil {
			return err
		}
	} else if err := w.encodeStored(ctx, c); err != nil {
		return err
	}
	if err := w.detacher.Drop(ctx, c.link); err != nil {
		return err
	}
	_, err := w.spool.Write(a.rest)
	return err
}

// encodeStored reads an attachment back, and writes it to the spool in its layout.
func (w *walk) encodeStored(ctx context.Context, c cut) error {
	r, err := w.detacher.Open(ctx, c.link)
	if err != nil {
		return err
	}
	return errors.Join(c.layout.Encode(w.spool, r), r.Close())
}

// keepRest keeps the bytes of the part that are not read yet.
func (w *walk) keepRest(a *attachmentReader) (*delimiter, error) {
	if a.ended {
		return a.delimiter, nil
	}
	return w.keep()
}

// attachmentReader reads the decoded body of one part from the scanner. If the body cannot be
// decoded to its end, the reader ends early and whole is false.
type attachmentReader struct {
	scan    *scanner
	decoder transfer.Decoder
	open    bool      // the part may end where the message ends
	restore bool      // the message may be restored from its attachments
	encoded hash.Hash // checksum of the body as received; nil while the spool has the body

	decoded   []byte // decoded, but not returned by Read yet
	space     []byte // the memory of decoded
	size      int64  // decoded so far
	sum       uint32 // CRC-32 of the bytes that Read returned
	done      bool   // no more will be decoded
	whole     bool   // the body is complete and undamaged
	ended     bool   // the scanner is past the body
	delimiter *delimiter
	rest      []byte // the chunk that could not be decoded
	err       error  // of the source
}

func (a *attachmentReader) Read(p []byte) (int, error) {
	for len(a.decoded) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.done {
			return 0, io.EOF
		}
		a.decoded = a.space[:0]
		a.step()
		a.space = a.decoded
	}
	n := copy(p, a.decoded)
	a.sum = crc32.Update(a.sum, crc32.IEEETable, p[:n])
	a.decoded = a.decoded[n:]
	return n, nil
}

// encodedForm returns the encoded bytes of the attachment that was read, if they must be stored to
// restore the message, and nil if a rule writes them again.
func (a *attachmentReader) encodedForm() io.Reader {
	if !a.whole || !a.restore || a.decoder.Layout().Encoding != transfer.Encoded {
		return nil
	}
	return a.decoder.Encoded()
}

// step decodes the next chunk and returns it as received.
func (a *attachmentReader) step() []byte {
	chunk, d, err := a.scan.next()
	before := len(a.decoded)
	switch {
	case d != nil, err == io.EOF:
		a.done, a.ended, a.delimiter = true, true, d
		if d == nil && !a.open {
			return nil // programs differ about the last line end: it may belong to a missing delimiter
		}
		a.decoded, err = a.decoder.Finish(a.decoded, d != nil)
		a.whole = err == nil && !d.cut()
	case err != nil:
		a.done, a.err = true, err
	default:
		if a.encoded != nil {
			a.encoded.Write(chunk)
		}
		a.decoded, err = a.decoder.Decode(a.decoded, chunk)
		if errors.Is(err, transfer.ErrDamaged) {
			a.done, a.rest = true, chunk
		} else if err != nil {
			a.done, a.err = true, err
		}
	}
	a.size += int64(len(a.decoded) - before)
	return chunk
}
