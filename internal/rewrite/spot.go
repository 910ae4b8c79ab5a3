package rewrite

import (
	"slices"

	"github.com/nkirchhoffer/detach-mta/internal/rewrite/notice"
)

const (
	// maxTexts bounds the texts of one mail that take the notice.
	maxTexts = 16
	// maxTextBytes bounds the bytes of those texts in the mail, and so the memory for changing
	// them.
	maxTextBytes = 2 * notice.MaxText
)

// A spot is where the notice goes: into texts, so that every recipient sees it, whichever of the
// renderings of the mail the mail program shows; or into a part of its own.
type spot struct {
	texts  []*entity
	apart  bool    // the notice is a part of its own
	beside *entity // the text that cannot take it; nil if the mail has no text
}

// spot returns the spot for the notice, as far as the structure shows it: a text may prove unable
// to take it. If the notice is a part of its own, the texts are those by which the mail's language
// is detected.
func (w *walk) spot() spot {
	s := w.root.spot()
	if size := int64(0); !s.apart {
		for i, e := range s.texts {
			if size += e.text.text.size(); i >= maxTexts || size > maxTextBytes {
				s = spot{apart: true, beside: e}
				break
			}
		}
	}
	if s.empty() {
		s.apart = true
	}
	if !s.apart {
		return s
	}
	s.texts = nil
	w.root.each(func(e *entity) {
		if e.kind == kindText && len(s.texts) < 2 {
			s.texts = append(s.texts, e)
		}
		if s.beside == nil && (e.opaque || e.sealed) {
			s.beside = e // its text is the mail's, and must not change
		}
	})
	return s
}

func (s spot) empty() bool { return !s.apart && len(s.texts) == 0 }

// html reports whether one of the spot's texts is HTML.
func (s spot) html() bool {
	texts := s.texts
	if s.beside != nil {
		texts = []*entity{s.beside}
	}
	for _, e := range texts {
		if e.text != nil && e.text.html {
			return true
		}
	}
	return false
}

// spot returns the spot in an entity. It is empty if the entity has no text that is shown.
func (e *entity) spot() spot {
	switch {
	case e.kind == kindText:
		return spot{texts: []*entity{e}}
	case e.kind == kindKept && e.shown:
		return spot{apart: true, beside: e}
	case e.kind != kindMultipart || e.sealed || e.aside:
		return spot{}
	case e.order == alternativeOrder:
		return e.everyRendering()
	}
	return e.firstText()
}

// everyRendering returns the spot in an alternative: one in each part that may be shown.
func (e *entity) everyRendering() (all spot) {
	for _, p := range e.parts {
		if p.kind == kindGone || p.aside {
			continue
		}
		s := p.spot()
		if s.empty() || p.isEmpty() && e.hasAnother(p) {
			return spot{apart: true, beside: p}
		}
		if s.apart {
			return s
		}
		all.texts = append(all.texts, s.texts...)
	}
	return all
}

// isEmpty reports whether e is a text of at most two line ends. Some mail programs show another
// rendering instead of it, unless a notice makes it longer.
func (e *entity) isEmpty() bool { return e.text != nil && e.text.text.size() <= 4 }

// hasAnother reports whether e has a text that is shown instead of an empty p: one of the same
// type, or, instead of HTML, any.
func (e *entity) hasAnother(p *entity) bool {
	return slices.ContainsFunc(e.parts, func(o *entity) bool {
		return o.text != nil && !o.isEmpty() && (p.text.html || !o.text.html)
	})
}

// firstText returns the spot in the first part that has a text. Mail programs show later texts,
// like a mailing list's footer, below it, so a notice there would be a repetition. But some
// programs show only HTML: if the first text is not HTML, the first HTML takes the notice too.
func (e *entity) firstText() (all spot) {
	for _, p := range e.parts {
		s := p.spot()
		switch {
		case s.empty() && e.order == relatedOrder && all.empty() && p.holdsText():
			return spot{apart: true, beside: p} // the root, which alone is shown
		case s.empty():
			continue
		case all.empty():
			all = s
		case s.html():
			if s.apart {
				return s
			}
			all.texts = append(all.texts, s.texts...)
		}
		if all.apart || all.html() {
			break
		}
	}
	return all
}

// holdsText reports whether e may have a text that is shown, even if it must not change.
func (e *entity) holdsText() bool { return e.kind == kindMultipart || e.opaque || e.shown }

// removed returns the edits that remove the detached parts, and multiparts of which nothing is
// left.
func (e *entity) removed() (edits []edit) {
	for _, p := range e.parts {
		if p.kind == kindGone {
			edits = append(edits, edit{span: span{p.from, p.end}})
		} else {
			edits = append(edits, p.removed()...)
		}
	}
	return edits
}
