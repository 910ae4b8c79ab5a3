package rewrite

import (
	"context"
	"errors"
	"hash"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

const (
	// maxDepth and maxParts are Dovecot's: what is beyond them is not walked, so
	// it stays as it is.
	maxDepth = 100
	maxParts = 10_000
)

// A walk is one pass over a message. What is kept goes to the spool as it was
// received, what is detached goes to the Detacher; where and how the detached
// bodies stood is in cuts. So the spool and the cuts together are the message:
//
//	message = spool with each cut's body put back at its offset
//	rewritten message = spool with the edits applied
type walk struct {
	ctx      context.Context
	policy   Policy
	detacher Detacher
	scan     *scanner
	spool    *spool.Spool

	sum    hash.Hash32 // of the message as far as it is summed up: the cuts, and the spool up to summed
	summed int64

	parts   int
	runs    int // of lines, in the cuts' layouts
	cuts    []cut
	removed []span // what goes from the spool with the cuts, in order
	bodies  []body
	cids    references
}

// A cut is a detached attachment.
type cut struct {
	off       int64 // in the spool, where its encoded body stood
	name      string
	mediaType string
	size      int64  // bytes, decoded
	crc32     uint32 // of them
	link      link.Link
	layout    Layout
}

// A span is a piece of the spool.
type span struct{ off, end int64 }

// A body is one of the message's texts, in the spool.
type body struct {
	header  header
	start   int64 // of the header
	text    span
	html    bool
	leading bool // as in place
}

// A place is where in the structure an entity stands.
type place struct {
	depth   int
	parent  string // subtype of the multipart it is in; "" for the message
	leading bool   // on the path of first parts: where the text is
}

// message walks the whole message, whose header was read already.
func (w *walk) message(h header) error {
	d, removed, err := w.entity(h, 0, place{leading: true})
	switch {
	case err != nil:
		return err
	case d != nil:
		return errors.New("walk ended before the message") // no boundary is open at depth 0
	case removed:
		w.removed = nil // the message is its one attachment: nothing around it goes
	}
	return nil
}

// part walks a part from its header on. It returns the delimiter it ended with,
// nil at the end of the message, and whether the part was detached.
func (w *walk) part(p place) (*delimiter, bool, error) {
	if w.parts++; w.parts > maxParts {
		w.scan.closeAll()
		d, err := w.keep()
		return d, false, err
	}
	start := w.spool.Size()
	raw, d, err := w.readHeader()
	if err == io.EOF || d != nil {
		return d, false, nil // no blank line, so no body
	}
	if err != nil {
		return nil, false, err
	}
	return w.entity(parseHeader(raw), start, p)
}

// readHeader copies a header block to the spool and returns it. If it grows over
// its limit, it ends there, and cannot be parsed. If it ends without a blank
// line, the delimiter that ended it is returned, or io.EOF.
func (w *walk) readHeader() ([]byte, *delimiter, error) {
	var raw []byte
	for {
		chunk, d, err := w.scan.next()
		if d != nil || err != nil {
			return nil, d, err
		}
		n, whole := 0, false
		for n < len(chunk) && !whole {
			line, _ := firstLine(chunk[n:])
			raw = append(raw, line...)
			n, whole = n+len(line), endsHeader(raw)
		}
		if _, err := w.spool.Write(chunk[:n]); err != nil {
			return nil, nil, err
		}
		if whole {
			w.scan.unread(len(chunk) - n)
		}
		if whole || len(raw) > maxHeaderBytes {
			return raw, nil, nil
		}
	}
}

// entity walks the body that belongs to h, the header at offset start.
func (w *walk) entity(h header, start int64, p place) (*delimiter, bool, error) {
	switch v := decide(&h, p, w); v.action {
	case descend:
		return w.multipart(v.boundary, v.subtype, p)
	case detach:
		return w.attachment(v, p)
	case text:
		d, err := w.text(h, start, v.html, p.leading)
		return d, false, err
	default:
		d, err := w.keep()
		return d, false, err
	}
}

// keep copies content to the spool as it is, up to the next delimiter.
func (w *walk) keep() (*delimiter, error) {
	for {
		chunk, d, err := w.scan.next()
		if d != nil || err == io.EOF {
			return d, nil
		}
		if err != nil {
			return nil, err
		}
		if _, err := w.spool.Write(chunk); err != nil {
			return nil, err
		}
	}
}

// text keeps one of the message's texts and notes where it is.
func (w *walk) text(h header, start int64, html, leading bool) (*delimiter, error) {
	b := body{header: h, start: start, html: html, leading: leading}
	b.text.off = w.spool.Size()
	d, err := w.keep()
	if err != nil {
		return nil, err
	}
	b.text.end = w.spool.Size()
	if d != nil && b.text.end == b.text.off {
		return d, nil // not even a line end before the delimiter: nothing can be put in
	}
	if d != nil {
		if b.text.end, err = w.beforeLineEnd(b.text); err != nil {
			return nil, err
		}
	}
	w.bodies = append(w.bodies, b)
	if html {
		err = w.cids.collect(w.spool, b)
	}
	return d, err
}

// beforeLineEnd is the end of s without the line end before a delimiter.
func (w *walk) beforeLineEnd(s span) (int64, error) {
	tail := make([]byte, min(2, s.end-s.off))
	if _, err := w.spool.ReadAt(tail, s.end-int64(len(tail))); err != nil && err != io.EOF {
		return 0, err
	}
	return s.end - int64(len(lineEnd(tail))), nil
}

// multipart walks the parts between the delimiters of boundary.
func (w *walk) multipart(boundary, subtype string, p place) (*delimiter, bool, error) {
	if p.depth >= maxDepth || !w.scan.push(boundary) {
		d, err := w.keep()
		return d, false, err
	}
	level := p.depth
	firstRemoved, kept := len(w.removed), 0
	d, err := w.keep() // the preamble
	for first := true; err == nil && d != nil && d.level == level && !d.closing; first = false {
		start := w.spool.Size()
		if _, err = w.spool.Write(d.line); err != nil {
			break
		}
		var gone bool
		d, gone, err = w.part(place{
			depth:   p.depth + 1,
			parent:  subtype,
			leading: p.leading && (first || subtype == "alternative"),
		})
		if gone {
			w.removed = append(w.removed, span{start, w.spool.Size()})
		} else {
			kept++
		}
	}
	w.scan.pop(boundary)
	if err == nil && d != nil && d.level == level {
		if _, err = w.spool.Write(d.line); err == nil {
			d, err = w.keep() // the epilogue
		}
	}
	gone := kept == 0 && len(w.removed) > firstRemoved && p.depth > 0
	if gone { // a multipart must have a part (RFC 2046 section 5.1): this one goes with its last
		w.removed = w.removed[:firstRemoved]
	}
	return d, gone, err
}

// close gives back the spool, the layouts and the scanner's buffer.
func (w *walk) close() error {
	w.scan.close()
	err := w.spool.Close()
	for _, c := range w.cuts {
		if c.layout.Raw != nil {
			err = errors.Join(err, c.layout.Raw.Close())
		}
	}
	return err
}
