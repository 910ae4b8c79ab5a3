package rewrite

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// A Detacher stores the attachments of one mail and names them by links.
type Detacher interface {
	// Detach reads the attachment to its end and returns once it is stored. If r
	// fails, nothing stays stored and its error comes back, wrapped.
	Detach(ctx context.Context, name, mediaType string, r io.Reader) (link.Link, error)
	// Open reads back what Detach stored.
	Open(ctx context.Context, l link.Link) (io.ReadCloser, error)
	// Drop deletes what Detach stored: it turned out not to be an attachment
	// that can be given back byte for byte.
	Drop(ctx context.Context, l link.Link) error
	// Expires is until when links made now work; zero: for ever.
	Expires() time.Time
}

// Position says where in a text the notice stands.
type Position int

const (
	Bottom Position = iota
	Top
)

// Policy says what is detached and what is left in its place.
type Policy struct {
	MinSize  int64    // bytes, decoded: smaller attachments are kept
	Notice   Position // where in the text the notice stands
	Language string   // "auto", "en", "fr", "de", "es"
	Restore  bool     // store what restoring the original needs
	TempDir  string   // for the spool; empty: the system's
}

// Stats counts what happened to one mail.
type Stats struct {
	In       int64 // bytes read
	Detached int   // attachments
	Bytes    int64 // of attachments, decoded
}

// A Message is one mail on its way through.
type Message struct {
	walk   *walk
	header header
	passes bool
	edits  []edit
}

// SourceError wraps an error of the reader a message came from.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return "read message: " + e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// Read reads the header of the message in src, which is the mail's bytes
// without the dots that SMTP doubles, and decides whether it passes. A failing
// src is reported as a *SourceError.
func Read(src io.Reader, p Policy) (*Message, error) {
	w := &walk{policy: p, scan: newScanner(sourceReader{src}), spool: spool.New(p.TempDir), sum: skeleton.NewSum()}
	raw, _, err := w.readHeader()
	if err != nil && err != io.EOF {
		return nil, errors.Join(err, w.close())
	}
	m := &Message{walk: w, header: parseHeader(raw)}
	m.passes = err == io.EOF || passes(&m.header, w)
	return m, nil
}

// Passes reports whether the header alone shows that nothing can be detached.
// Then WriteTo may be called at once, and streams the message from its source.
func (m *Message) Passes() bool { return m.passes }

// Detach reads the message to its end and hands its attachments to d as they
// arrive. After an error the message must not be written. It is called once,
// and not at all for a message that passes.
func (m *Message) Detach(ctx context.Context, d Detacher) error {
	m.walk.ctx, m.walk.detacher = ctx, d
	if err := m.walk.message(m.header); err != nil {
		return err
	}
	edits, err := m.walk.compose(&m.header)
	m.edits = edits
	return err
}

// WriteTo writes the message, rewritten if anything was detached. Errors of the
// source, from which a passing message streams, are *SourceError.
func (m *Message) WriteTo(w io.Writer) (int64, error) {
	n, err := writeEdited(w, m.walk.spool, m.edits)
	if err != nil || !m.passes {
		return n, err
	}
	for {
		chunk, _, err := m.walk.scan.next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		k, err := w.Write(chunk)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
}

// Stats counts what has happened so far.
func (m *Message) Stats() Stats {
	s := Stats{In: m.walk.scan.total, Detached: len(m.walk.cuts)}
	for _, c := range m.walk.cuts {
		s.Bytes += c.size
	}
	return s
}

// Close gives back the spool. The message cannot be written any more.
func (m *Message) Close() error { return m.walk.close() }
