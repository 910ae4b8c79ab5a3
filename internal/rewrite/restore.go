package rewrite

import (
	"bytes"
	"fmt"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
)

// restoreField stores the skeleton, which is what the rewritten mail has lost,
// and returns the edit that adds its link under the message's header.
func (w *walk) restoreField(h *header) (edit, error) {
	var s skeleton.Head
	var mail []io.Reader
	pos, shift := int64(0), int64(0)
	for _, c := range w.cuts {
		mail = append(mail, w.spool.Section(pos, c.off))
		pos = c.off
		if raw := c.layout.Raw; raw != nil {
			// Encoded as no rule can repeat: it stays in the mail.
			mail = append(mail, raw.Section(0, raw.Size()))
			shift += raw.Size()
			continue
		}
		s.Cuts = append(s.Cuts, skeleton.Cut{Offset: c.off + shift, Link: c.link.URL(), Layout: c.layout.Layout})
	}
	mail = append(mail, w.spool.Section(pos, w.spool.Size()))
	if err := w.sumUp(); err != nil {
		return edit{}, err
	}
	line, err := s.Line(w.scan.total, w.sum)
	if err != nil {
		return edit{}, err
	}
	object := io.MultiReader(bytes.NewReader(line), io.MultiReader(mail...))
	l, err := w.detacher.Detach(w.ctx, skeleton.Name, skeleton.Type, object)
	if err != nil {
		return edit{}, fmt.Errorf("store skeleton: %w", err)
	}
	at := int64(h.bodyless())
	return edit{span{at, at}, []byte(RestoreField + ": " + l.URL() + eolOf(h.raw))}, nil
}

// sumUp brings the sum of the message up to the end of the spool. There is none before the first attachment streams away,
// and so never one of a mail that keeps all it has.
func (w *walk) sumUp() error {
	_, err := w.spool.WriteSection(w.sum, w.summed, w.spool.Size())
	w.summed = w.spool.Size()
	return err
}

// sourceReader reads a message, and marks its errors as the source's.
type sourceReader struct{ io.Reader }

func (r sourceReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = &SourceError{err}
	}
	return n, err
}
