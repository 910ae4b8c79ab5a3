package rewrite

import (
	"bytes"
	"fmt"
	"hash"
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
	line, err := s.Line(w.source.size, w.source.sum)
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

// sourceReader reads a message, marks its errors as the source's, and sums up
// what the skeleton says of the whole.
type sourceReader struct {
	src  io.Reader
	size int64
	sum  hash.Hash32
}

func newSourceReader(src io.Reader) *sourceReader {
	return &sourceReader{src: src, sum: skeleton.NewSum()}
}

func (r *sourceReader) Read(p []byte) (int, error) {
	n, err := r.src.Read(p)
	r.size += int64(n)
	r.sum.Write(p[:n])
	if err != nil && err != io.EOF {
		err = &SourceError{err}
	}
	return n, err
}
