package rewrite

import (
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
)

// attachment detaches one part, if it is large enough and can be decoded surely.
// Until it has shown itself large enough, its bytes go to the spool like any
// other part's, and are taken back out when it has.
func (w *walk) attachment(v verdict, p place) (d *delimiter, removed bool, err error) {
	if w.runs > skeleton.MaxRuns-maxRuns-1 || len(w.cuts) == skeleton.MaxCuts {
		return w.keepAll() // no skeleton has room for more
	}
	a := &attachmentReader{
		scan:      w.scan,
		transfer:  newTransfer(v.encoding, w.policy.TempDir),
		isMessage: p.depth == 0,
	}
	defer func() {
		if !removed {
			err = errors.Join(err, a.transfer.Close())
		}
	}()
	mark := w.spool.Size()
	enough := max(w.policy.MinSize, 1)
	for !a.done && a.size < enough {
		if _, err := w.spool.Write(a.step()); err != nil {
			return nil, false, err
		}
	}
	if a.err != nil {
		return nil, false, a.err
	}
	if a.done && (!a.whole || a.size < enough) {
		return w.keepRest(a)
	}
	if err := errors.Join(w.sumUp(), w.spool.Truncate(mark)); err != nil {
		return nil, false, err
	}
	w.summed, a.encoded = mark, w.sum
	c, err := w.store(v, a, mark)
	if err != nil {
		return nil, false, err
	}
	if !a.whole {
		if err := w.putBack(c, a); err != nil {
			return nil, false, fmt.Errorf("put attachment back: %w", err)
		}
		w.summed = w.spool.Size()
		return w.keepRest(a)
	}
	w.cuts = append(w.cuts, c)
	w.runs += len(c.layout.Lines)
	return a.delimiter, true, nil
}

// store hands the attachment over as it arrives.
func (w *walk) store(v verdict, a *attachmentReader, off int64) (cut, error) {
	mediaType := v.mimeType
	if mediaType == skeleton.Type || mediaType == filelist.Type {
		mediaType = "application/octet-stream" // what a sender wrote is not one of ours
	}
	l, err := w.detacher.Detach(w.ctx, v.name, mediaType, a)
	switch {
	case a.err != nil:
		return cut{}, a.err
	case err != nil:
		return cut{}, fmt.Errorf("store attachment: %w", err)
	case !a.done:
		return cut{}, errors.New("store attachment: not read to its end")
	}
	return cut{off: off, name: v.name, mediaType: mediaType, size: a.size, crc32: a.sum, link: l, layout: a.transfer.layout()}, nil
}

// putBack undoes store: the part went wrong after it had begun to stream away.
// What was stored is read back, encoded as it was, and stands in the spool again.
func (w *walk) putBack(c cut, a *attachmentReader) error {
	r, err := w.detacher.Open(w.ctx, c.link)
	if err != nil {
		return err
	}
	if err := errors.Join(c.layout.encode(w.spool, r), r.Close()); err != nil {
		return err
	}
	if err := w.detacher.Drop(w.ctx, c.link); err != nil {
		return err
	}
	_, err = w.spool.Write(a.rest)
	return err
}

func (w *walk) keepAll() (*delimiter, bool, error) {
	d, err := w.keep()
	return d, false, err
}

// keepRest copies what of the part is still to come.
func (w *walk) keepRest(a *attachmentReader) (*delimiter, bool, error) {
	if a.ended {
		return a.delimiter, false, nil
	}
	d, err := w.keep()
	return d, false, err
}

// attachmentReader reads the decoded body of one part from the scanner. If the
// body cannot be decoded to its end, the reader ends early and whole is false.
type attachmentReader struct {
	scan      *scanner
	transfer  transfer
	isMessage bool      // the part is the message itself: it ends where the message ends
	encoded   hash.Hash // sums up the body as it was received; nil while the spool has it

	decoded   []byte // and not read yet
	space     []byte // decoded's memory
	size      int64  // decoded so far
	sum       uint32 // CRC-32 of what was read
	done      bool   // nothing more will be decoded
	whole     bool   // the body ended as it should
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

// step decodes the next chunk, and returns it as it was received.
func (a *attachmentReader) step() []byte {
	chunk, d, err := a.scan.next()
	before := len(a.decoded)
	switch {
	case d != nil, err == io.EOF:
		a.done, a.ended, a.delimiter = true, true, d
		if d == nil && !a.isMessage {
			return nil // cut off by the message's end: who knows how much is missing
		}
		a.decoded, err = a.transfer.finish(a.decoded, d != nil)
		a.whole = err == nil
	case err != nil:
		a.done, a.err = true, err
	default:
		if a.encoded != nil {
			a.encoded.Write(chunk)
		}
		a.decoded, err = a.transfer.decode(a.decoded, chunk)
		if errors.Is(err, errDamaged) {
			a.done, a.rest = true, chunk
		} else if err != nil {
			a.done, a.err = true, err
		}
	}
	a.size += int64(len(a.decoded) - before)
	return chunk
}
