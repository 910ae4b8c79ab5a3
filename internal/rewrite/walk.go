package rewrite

import (
	"context"
	"errors"
	"io"
	"slices"

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
// the Detacher; cuts has the places and layouts of the attachments. The entities are the tree of
// the mail. Everything that depends on the whole mail is decided from the tree, at the end of the
// mail.
type walk struct {
	policy   Policy
	detacher Detacher
	scan     *scanner
	spool    *spool.Spool
	memory   *memory.Account // for what is known of the mail, and grows with it

	root  *entity // the message
	parts int
	cuts  cuts
	seen  seen
	end   int64 // of the message in the spool, once it was read
}

// A span is a piece of the spool.
type span struct{ off, end int64 }

func (s span) size() int64 { return s.end - s.off }

// message walks the body of the message after its header was read, and makes all decisions.
func (w *walk) message(ctx context.Context, h header) error {
	w.root = &entity{}
	w.seen.noteLocale(&h)
	d, err := w.entity(ctx, h, w.root, place{leading: true})
	w.end = w.spool.Size()
	switch {
	case err != nil:
		return err
	case d != nil:
		return errors.New("the walk ended before the message") // no boundary is open at depth 0
	case len(w.cuts.list) == 0:
		return nil
	}
	if err := w.cuts.sumUp(w.spool); err != nil {
		return err
	}
	return w.settle(ctx)
}

// part walks a part, beginning with its header, and returns the delimiter that ended it, or nil at
// the end of the message.
func (w *walk) part(ctx context.Context, e *entity, p place) (*delimiter, error) {
	if w.parts++; w.parts > maxParts || !w.memory.Take(entityMemory) {
		p.parent.more = true
		w.scan.closeAll()
		w.seen.blind = true
		return w.keep()
	}
	p.parent.parts = append(p.parent.parts, e)
	h, d, err := w.readHeader()
	if err == io.EOF || d != nil {
		w.memory.Give(h.memory)
		e.body, e.end, e.ended = w.spool.Size(), w.spool.Size(), d != nil
		return d, nil // no blank line, so no body
	}
	if err != nil {
		return nil, err
	}
	return w.entity(ctx, h, e, p)
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

// entity walks the body of an entity with header h.
func (w *walk) entity(ctx context.Context, h header, e *entity, p place) (d *delimiter, err error) {
	v := w.seen.decide(&h, p)
	e.order, e.shown, e.aside, e.opaque, e.marks = v.order, v.shown, v.aside, v.opaque, v.marks
	e.referable, e.read = referable(&h), w.seen.refs.read
	w.seen.note(v)
	if p.parent != nil && e.encrypted {
		p.parent.sealed = true
	}
	e.body = w.spool.Size()
	if v.action != actionText && !v.refers && p.depth > 0 {
		w.memory.Give(h.memory)
		h = header{}
	}
	switch v.action {
	case actionDescend:
		d, err = w.multipart(ctx, v, e, p)
	case actionDetach:
		d, err = w.attachment(ctx, v, e, p)
	default:
		d, err = w.keep()
	}
	e.end, e.ended = w.spool.Size(), d != nil
	if err == nil && (v.action == actionText || v.refers) {
		err = w.collect(h, v, e)
	}
	return d, err
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

// collect notes a text in the spool, and what it refers to.
func (w *walk) collect(h header, v verdict, e *entity) (err error) {
	b := &body{header: h, text: span{e.body, e.end}, html: h.contentType().sub == "html"}
	if e.ended {
		if b.text.end, err = beforeLineEnd(w.spool, b.text); err != nil {
			return err
		}
	}
	if v.refers {
		err = w.seen.refs.collect(w.spool, *b, w.memory)
	}
	if v.action == actionText {
		e.kind, e.text = kindText, b
		w.seen.noteCharset(h.contentType().params["charset"])
	} else {
		w.memory.Give(h.memory)
	}
	return err
}

// beforeLineEnd returns the end of a span of s without the line end before a delimiter.
func beforeLineEnd(s *spool.Spool, text span) (int64, error) {
	tail := make([]byte, min(2, text.end-text.off))
	if _, err := s.ReadAt(tail, text.end-int64(len(tail))); err != nil && err != io.EOF {
		return 0, err
	}
	return text.end - int64(len(lines.End(tail))), nil
}

// multipart walks the parts of a multipart.
func (w *walk) multipart(ctx context.Context, v verdict, e *entity, p place) (*delimiter, error) {
	if p.depth >= maxDepth || !w.scan.push(v.boundary) {
		w.seen.blind = true
		return w.keep()
	}
	e.kind = kindMultipart
	d, err := w.keep() // the preamble
	for err == nil && d != nil && d.level == p.depth && !d.closing {
		part := &entity{parent: e, from: w.spool.Size()}
		if _, err = w.spool.Write(d.line); err != nil {
			break
		}
		part.start = w.spool.Size()
		leading := p.leading && (e.order == alternativeOrder || !slices.ContainsFunc(e.parts, (*entity).leads))
		d, err = w.part(ctx, part, place{depth: p.depth + 1, parent: e, leading: leading})
	}
	w.scan.pop(v.boundary)
	if e.closed = err == nil && d != nil && d.level == p.depth; e.closed {
		if _, err = w.spool.Write(d.line); err == nil {
			d, err = w.keep() // the epilogue
		}
	}
	return d, err
}

// close gives back everything that the walk holds.
func (w *walk) close() error {
	w.scan.close()
	w.memory.Close()
	return w.spool.Close()
}
