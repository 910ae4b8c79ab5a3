package rewrite

import (
	"context"
	"fmt"
	"iter"

	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// entityMemory bounds what is known of an entity, besides the header of a text.
const entityMemory = 512

// An entity is the message, or one of its parts. All offsets are in the spool.
type entity struct {
	parent *entity
	parts  []*entity // of a multipart, in order
	kind   kind
	order  order // of a multipart

	from  int64 // of the delimiter line above it
	start int64 // of its header
	body  int64
	end   int64 // of its body, where the next delimiter line begins
	ended bool  // a delimiter follows

	text  *body // of a text
	shown bool  // a text that is not a file, so mail programs show it
	aside bool  // a part of an alternative that mail programs show beside the others

	opaque bool // a multipart that is not walked
	closed bool // a multipart ended by its closing delimiter
	more   bool // a multipart has parts that are not in parts
	sealed bool // the parts of a multipart belong together, and must not change

	marks
	referable bool // a text may refer to it
	read      int  // how many texts were searched for references before it
	back      bool // was detached, and went back into the mail
}

type kind uint8

const (
	kindKept      kind = iota // stays unchanged, with everything in it
	kindText                  // may take the notice
	kindMultipart             // was walked
	kindGone                  // was detached, or is a multipart of which nothing is left
)

// An order says which parts of a multipart mail programs show.
type order uint8

const (
	otherOrder       order = iota // unknown: as in mixed (RFC 2046 section 5.1.7)
	mixedOrder                    // all, one below the other
	alternativeOrder              // one
	relatedOrder                  // one, which refers to the others
)

var orders = map[string]order{"mixed": mixedOrder, "alternative": alternativeOrder, "related": relatedOrder}

// all reports whether mail programs show all parts.
func (o order) all() bool { return o == mixedOrder || o == otherOrder }

// marks say what an entity means for the entities beside it.
type marks struct {
	name      string // of a file
	signs     string // the name of the file whose signature this is
	signature bool   // signs the parts beside it
	encrypted bool   // says that the part beside it is encrypted
	invite    bool   // a file that repeats the mail's text/calendar
}

// A body is one of the message's texts, in the spool.
type body struct {
	header header
	text   span // without the line end before the next delimiter
	html   bool
}

// whole reports whether mail programs show all parts of e, and of the multiparts around it.
func (e *entity) whole() bool {
	for ; e != nil; e = e.parent {
		if e.kind != kindMultipart || !e.order.all() || e.sealed {
			return false
		}
	}
	return true
}

// locked reports whether e is in a multipart that must not change.
func (e *entity) locked() bool {
	for m := e.parent; m != nil; m = m.parent {
		if m.sealed {
			return true
		}
	}
	return false
}

// leads reports whether a part that follows e cannot be the mail's own text.
func (e *entity) leads() bool { return e.kind != kindGone && !e.aside }

// each calls f for e and everything in it, the parts of a multipart before the multipart.
func (e *entity) each(f func(*entity)) {
	for _, p := range e.parts {
		p.each(f)
	}
	f(e)
}

// left returns the parts of a multipart that are left.
func (e *entity) left() []*entity {
	var left []*entity
	for _, p := range e.parts {
		if p.kind != kindGone {
			left = append(left, p)
		}
	}
	return left
}

// maxBeside bounds how many parts before a part are searched for its signature, or for the file
// that it signs.
const maxBeside = 64

// beside returns the last part of e for which f is true, or nil. It looks at the last maxBeside
// parts only. e may be nil.
func (e *entity) beside(f func(*entity) bool) *entity {
	if e == nil {
		return nil
	}
	for i := len(e.parts) - 1; i >= max(0, len(e.parts)-maxBeside); i-- {
		if f(e.parts[i]) {
			return e.parts[i]
		}
	}
	return nil
}

// signed yields each file among the parts of e that has a detached signature beside it, and that
// signature.
func (e *entity) signed() iter.Seq2[*entity, *entity] {
	return func(yield func(file, signature *entity) bool) {
		var files map[string]*entity
		for _, s := range e.parts {
			if s.signs == "" {
				continue
			}
			if files == nil {
				files = map[string]*entity{}
				for _, p := range e.parts {
					files[p.name] = p
				}
			}
			if f := files[s.signs]; f != nil && !yield(f, s) {
				return
			}
		}
	}
}

// seal notes whether the parts of e belong together: a gateway or a mailing list has made
// multipart/mixed of multipart/signed or multipart/encrypted.
func (e *entity) seal() {
	apart := map[*entity]bool{}
	for _, s := range e.signed() {
		apart[s] = true
	}
	for _, p := range e.parts {
		e.sealed = e.sealed || p.encrypted || p.signature && !apart[p]
	}
}

// settle makes the decisions that had to wait for the end of the mail. Parts that were detached and
// must stay go back into the mail, and a multipart of which nothing is left goes.
func (w *walk) settle(ctx context.Context) error {
	w.root.each((*entity).seal)
	back, err := w.wanted()
	if err != nil {
		return err
	}
	if err := w.giveBack(ctx, back); err != nil {
		return fmt.Errorf("put attachment back: %w", err)
	}
	w.root.each(func(e *entity) {
		if e.kind == kindMultipart && len(e.parts) > 0 && !e.more && len(e.left()) == 0 {
			e.kind = kindGone
		}
	})
	return nil
}

// wanted returns the detached parts that must stay in the mail: parts that are signed or encrypted,
// parts that a later text refers to, invitations beside a calendar, and a file or a signature whose
// other half stays.
func (w *walk) wanted() (map[*entity]bool, error) {
	back := map[*entity]bool{}
	for _, c := range w.cuts.list {
		referred, err := w.refersTo(c.entity)
		if err != nil {
			return nil, err
		}
		if referred || c.entity.locked() || c.entity.invite && w.seen.calendar {
			back[c.entity] = true
		}
	}
	stays := func(e *entity) bool { return e.kind != kindGone || back[e] }
	w.root.each(func(e *entity) {
		for file, signature := range e.signed() {
			if stays(file) || stays(signature) {
				back[file], back[signature] = true, true
			}
		}
	})
	return back, nil
}

// refersTo reports whether a text that came after a detached part refers, or may refer, to it.
func (w *walk) refersTo(e *entity) (bool, error) {
	if w.seen.blind && e.referable {
		return true, nil
	}
	if e.read == w.seen.refs.read {
		return false, nil
	}
	h, err := readHeaderAt(w.spool, span{e.start, e.end})
	_, disposition, _ := h.disposition()
	return w.seen.refs.refersTo(&h, fileName(disposition, h.contentType().value, w.seen.charsets)), err
}

// giveBack puts detached parts back into the mail. Their bodies go to the end of the spool, from
// where edits insert them.
func (w *walk) giveBack(ctx context.Context, back map[*entity]bool) error {
	left := w.cuts.list[:0]
	for _, c := range w.cuts.list {
		// The encoded form of odd quoted-printable is stored, and cannot be read from here.
		if !back[c.entity] || c.layout.Encoding == transfer.Encoded {
			left = append(left, c)
			continue
		}
		from := w.spool.Size()
		if err := w.encodeStored(ctx, c); err != nil {
			return err
		}
		if err := w.detacher.Drop(ctx, c.link); err != nil {
			return err
		}
		c.entity.kind, c.entity.back = kindKept, true
		w.cuts.returned = append(w.cuts.returned, edit{span: span{c.off, c.off}, spooled: span{from, w.spool.Size()}})
	}
	clear(w.cuts.list[len(left):])
	w.cuts.list = left
	return nil
}
