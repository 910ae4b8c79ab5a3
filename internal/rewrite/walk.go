package rewrite

import (
	"context"
	"errors"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

const (
	// maxDepth and maxParts are Dovecot's. Parts beyond these limits stay unchanged.
	maxDepth = 100
	maxParts = 10_000
	// freeState is how much memory the state of a mail, with its headers, takes without the budget.
	// A few mails in a hundred need more, and take the rest from the budget.
	freeState = 32 << 10
)

// A walk is one pass over a message. Kept bytes go to the spool, as received, and attachments go to
// the Detacher; cuts has the places and layouts of the attachments.
type walk struct {
	policy   Policy
	detacher Detacher
	scan     *scanner
	spool    *spool.Spool
	memory   *memory.Account // for what is known of the mail, and grows with it

	parts   int
	cuts    cuts
	removed []span // of the spool, in order: the parts to remove
	lone    []lonePart
	insert  *noticePlace
	bodies  []body
	refs    references
}

// A span is a piece of the spool.
type span struct{ off, end int64 }

// A noticePlace is the place for a notice that is a part of its own: in the innermost
// multipart/mixed around the first attachment. In other multiparts, mail programs may not show it.
type noticePlace struct {
	span            // that the notice replaces: the attachment's part, or nothing
	delimiter int64 // of a delimiter line of the multipart
}

// A body is one of the message's texts, in the spool.
type body struct {
	header  header
	start   int64 // of the header
	text    span
	html    bool
	leading bool // see place
}

// A place is the place of an entity in the structure.
type place struct {
	depth   int
	parent  string // subtype of the multipart it is in; "" for the message
	leading bool   // on the path of first parts and alternatives, like the message's text
}

// message walks the body of the message after its header was read.
func (w *walk) message(ctx context.Context, h header) error {
	d, removed, err := w.entity(ctx, h, 0, place{leading: true})
	switch {
	case err != nil:
		return err
	case d != nil:
		return errors.New("the walk ended before the message") // no boundary is open at depth 0
	case removed:
		w.removed = nil // nothing of the body is left, so no single part is removed
	}
	return nil
}

// part walks a part, beginning with its header. It returns the delimiter that ended the part, or
// nil at the end of the message, and whether the part was detached.
func (w *walk) part(ctx context.Context, p place) (*delimiter, bool, error) {
	if w.parts++; w.parts > maxParts {
		w.scan.closeAll()
		return w.keepPart()
	}
	start := w.spool.Size()
	h, d, err := w.readHeader()
	if err == io.EOF || d != nil {
		w.memory.Give(h.memory)
		return d, false, nil // no blank line, so no body
	}
	if err != nil {
		return nil, false, err
	}
	return w.entity(ctx, h, start, p)
}

// readHeader copies a header block to the spool and returns it. A header over a limit, or for which
// there is no memory, is bad, and readHeader stops within it. If the header has no blank line,
// readHeader returns the delimiter that ended it, or io.EOF.
func (w *walk) readHeader() (header, *delimiter, error) {
	h := header{bad: true}
	for {
		chunk, d, err := w.scan.next()
		if d != nil || err != nil {
			return h, d, err
		}
		n, whole, fits := 0, false, true
		for n < len(chunk) && !whole && fits {
			line, _ := lines.First(chunk[n:])
			if fits = h.add(line, w.memory); fits {
				n, whole = n+len(line), endsHeader(h.raw)
			}
		}
		if !fits {
			n = len(chunk)
		}
		if _, err := w.spool.Write(chunk[:n]); err != nil {
			return h, nil, err
		}
		if whole {
			w.scan.unread(len(chunk) - n)
			h.parse(w.memory)
		}
		if whole || !fits {
			return h, nil, nil
		}
	}
}

// entity walks the body of the entity with header h, which is at offset start.
func (w *walk) entity(ctx context.Context, h header, start int64, p place) (*delimiter, bool, error) {
	v := decide(&h, p, w.bodies, &w.refs)
	if v.action != actionText && p.depth > 0 {
		w.memory.Give(h.memory)
		h = header{}
	}
	switch v.action {
	case actionDescend:
		return w.multipart(ctx, v, start, p)
	case actionDetach:
		return w.attachment(ctx, v, p)
	case actionText:
		d, err := w.text(h, start, v.html, p.leading)
		return d, false, err
	default:
		return w.keepPart()
	}
}

// keep copies content to the spool, up to the next delimiter.
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

// keepPart keeps the rest of a part.
func (w *walk) keepPart() (*delimiter, bool, error) {
	d, err := w.keep()
	return d, false, err
}

// text keeps one of the message's texts and notes its place.
func (w *walk) text(h header, start int64, html, leading bool) (*delimiter, error) {
	b := body{header: h, start: start, html: html, leading: leading}
	b.text.off = w.spool.Size()
	d, err := w.keep()
	if err != nil {
		return nil, err
	}
	b.text.end = w.spool.Size()
	if d != nil {
		if b.text.end, err = beforeLineEnd(w.spool, b.text); err != nil {
			return nil, err
		}
	}
	w.bodies = append(w.bodies, b)
	if html {
		err = w.refs.collect(w.spool, b, w.memory)
	}
	return d, err
}

// beforeLineEnd returns the end of a span of s without the line end before a delimiter.
func beforeLineEnd(s *spool.Spool, text span) (int64, error) {
	tail := make([]byte, min(2, text.end-text.off))
	if _, err := s.ReadAt(tail, text.end-int64(len(tail))); err != nil && err != io.EOF {
		return 0, err
	}
	return text.end - int64(len(lines.End(tail))), nil
}

// multipart walks the parts of the multipart whose header is at offset start.
func (w *walk) multipart(ctx context.Context, v verdict, start int64, p place) (*delimiter, bool, error) {
	if p.depth >= maxDepth || !w.scan.push(v.boundary) {
		return w.keepPart()
	}
	level := p.depth
	whole := lonePart{start: start, body: w.spool.Size()}
	firstRemoved, kept, removed, insert := len(w.removed), 0, 0, w.insert
	d, err := w.keep() // the preamble
	for first := true; err == nil && d != nil && d.level == level && !d.closing; first = false {
		from := w.spool.Size()
		if _, err = w.spool.Write(d.line); err != nil {
			break
		}
		var gone bool
		part := span{off: w.spool.Size()}
		leading := p.leading && (first || v.subtype == "alternative")
		d, gone, err = w.part(ctx, place{depth: p.depth + 1, parent: v.subtype, leading: leading})
		part.end = w.spool.Size()
		if gone {
			w.removed = append(w.removed, span{from, part.end})
			removed++
		}
		if v.subtype == "mixed" && w.insert == nil && len(w.removed) > firstRemoved {
			w.insert = &noticePlace{span{part.end, part.end}, from}
			if gone {
				w.insert.off = from
			}
		}
		if !gone {
			if kept++; kept == 1 {
				whole.part = part
			}
			whole.last = part
		}
	}
	w.scan.pop(v.boundary)
	closed := err == nil && d != nil && d.level == level
	if closed {
		if _, err = w.spool.Write(d.line); err == nil {
			d, err = w.keep() // the epilogue
		}
	}
	switch whole.end = w.spool.Size(); {
	case removed == 0:
	case kept == 0: // a multipart must have a part (RFC 2046 section 5.1), so an empty one is removed
		w.removed, w.insert = w.removed[:firstRemoved], insert
		return d, true, err
	case kept <= 2 && closed && v.subtype == "mixed" && w.memory.Take(maxRaisedHeader):
		w.lone = append(w.lone, whole)
	}
	return d, false, err
}

// close gives back everything that the walk holds.
func (w *walk) close() error {
	w.scan.close()
	w.memory.Close()
	return w.spool.Close()
}
