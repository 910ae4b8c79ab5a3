package rewrite

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// A skeleton is what a rewritten mail has lost: one line of JSON, then the
// original mail without the attachments that are stored elsewhere.
type skeleton struct {
	Version int           `json:"version"`
	Cuts    []skeletonCut `json:"cuts"`
}

// A skeletonCut says which attachment stood at an offset of the mail that
// follows the JSON, and how it was encoded.
type skeletonCut struct {
	Offset int64  `json:"offset"`
	Link   string `json:"link"`
	Layout Layout `json:"layout"`
}

const (
	skeletonVersion = 1
	skeletonType    = "application/vnd.detach.skeleton"
	// maxSkeletonHead bounds the JSON; maxRuns lines for each of many cuts fit.
	maxSkeletonHead = 256 << 20
)

// restoreField stores the skeleton and returns the edit that adds its link to
// the message's header.
func (w *walk) restoreField(h *header) (edit, error) {
	s := skeleton{Version: skeletonVersion, Cuts: []skeletonCut{}}
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
		s.Cuts = append(s.Cuts, skeletonCut{Offset: c.off + shift, Link: c.link.URL(), Layout: c.layout})
	}
	mail = append(mail, w.spool.Section(pos, w.spool.Size()))
	head, err := json.Marshal(s)
	if err != nil {
		return edit{}, err
	}
	l, err := w.detacher.Detach(w.ctx, "mail", skeletonType, io.MultiReader(bytes.NewReader(append(head, '\n')), io.MultiReader(mail...)))
	if err != nil {
		return edit{}, err
	}
	at := int64(h.bodyless())
	return edit{span{at, at}, []byte(RestoreField + ": " + l.URL() + eolOf(h.raw))}, nil
}

// Restore writes the original of a rewritten mail to w: skeleton is what its
// RestoreField links to, and open opens an attachment.
func Restore(ctx context.Context, w io.Writer, r io.Reader, open func(context.Context, link.Link) (io.ReadCloser, error)) error {
	br := bufio.NewReader(r)
	head, err := readLine(br, maxSkeletonHead)
	if err != nil {
		return fmt.Errorf("read skeleton: %w", err)
	}
	var s skeleton
	if err := json.Unmarshal(head, &s); err != nil {
		return fmt.Errorf("read skeleton: %w", err)
	}
	if s.Version != skeletonVersion {
		return fmt.Errorf("skeleton of version %d: only %d is known", s.Version, skeletonVersion)
	}
	pos := int64(0)
	for _, c := range s.Cuts {
		if c.Offset < pos {
			return errors.New("skeleton: offsets out of order")
		}
		if _, err := io.CopyN(w, br, c.Offset-pos); err != nil {
			return fmt.Errorf("read skeleton: %w", err)
		}
		pos = c.Offset
		if err := c.restore(ctx, w, open); err != nil {
			return fmt.Errorf("restore attachment: %w", err)
		}
	}
	_, err = io.Copy(w, br)
	return err
}

func (c *skeletonCut) restore(ctx context.Context, w io.Writer, open func(context.Context, link.Link) (io.ReadCloser, error)) error {
	l, err := link.Parse(c.Link)
	if err != nil {
		return err
	}
	r, err := open(ctx, l)
	if err != nil {
		return err
	}
	return errors.Join(c.Layout.encode(w, r), r.Close())
}

func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for len(line) <= limit {
		piece, err := r.ReadSlice('\n')
		line = append(line, piece...)
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
	return nil, errors.New("line too long")
}
