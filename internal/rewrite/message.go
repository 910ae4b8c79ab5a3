package rewrite

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite/notice"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// A Detacher stores the attachments of one mail and names them by links.
type Detacher interface {
	// Detach reads the attachment to its end and returns once it is stored. If r fails, nothing
	// stays stored and the error of r is returned, wrapped.
	Detach(ctx context.Context, name, mediaType string, r io.Reader) (link.Link, error)
	// Open reads a stored attachment.
	Open(ctx context.Context, l link.Link) (io.ReadCloser, error)
	// Drop deletes a stored attachment, which proved not to be reproducible byte for byte.
	Drop(ctx context.Context, l link.Link) error
	// Expires is when links made now stop working; zero: never.
	Expires() time.Time
}

// Position says where in a text the notice stands.
type Position = notice.Position

const (
	Bottom = notice.Bottom
	Top    = notice.Top
)

// Policy says what is detached and what is left in its place.
type Policy struct {
	MinSize  int64    // bytes, decoded: smaller attachments are kept
	Notice   Position // where in the text the notice stands
	Language string   // "auto", "en", "fr", "de", "es"
	Restore  bool     // store a skeleton, to restore the original
	TempDir  string   // for the spool; empty: the system's
}

// Stats counts what happened to one mail.
type Stats struct {
	In       int64 // bytes read
	Detached int   // attachments
	Bytes    int64 // of attachments, decoded
}

// A Message is one mail on its way through. It is not safe for concurrent use.
type Message struct {
	walk    *walk
	header  header
	passes  bool
	changes []HeaderChange
	edits   []edit // of the body
}

// A HeaderChange removes one field of the message's header as it was received, or adds one.
type HeaderChange struct {
	Name string
	// Occurrence says which of the fields of that name is removed, from 1 on, counted as received;
	// 0: the field is added, below all others.
	Occurrence int
	// Value of a removed field is all between its colon and its last line end, with the line ends
	// of folded lines. An added field is Name, ": ", Value, and a line end as the header has them.
	Value string
}

// SourceError wraps an error of the reader a message came from.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return "read message: " + e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// sourceReader marks the errors of the reader a message comes from.
type sourceReader struct{ io.Reader }

func (r sourceReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = &SourceError{err}
	}
	return n, err
}

// Read reads the header of the message in src, without the dots that SMTP doubles, and decides
// whether the message passes. A failing src is reported as a *SourceError.
func Read(src io.Reader, p Policy) (*Message, error) {
	w := &walk{policy: p, scan: newScanner(sourceReader{src}), spool: spool.New(p.TempDir), cuts: cuts{sum: skeleton.NewSum()}}
	raw, _, err := w.readHeader()
	if err != nil && err != io.EOF {
		return nil, errors.Join(err, w.close())
	}
	m := &Message{walk: w, header: parseHeader(raw)}
	m.passes = err == io.EOF || passes(&m.header)
	return m, nil
}

// Passes reports whether the header alone shows that nothing can be detached. Then WriteTo may be
// called immediately, and streams the message from its source.
func (m *Message) Passes() bool { return m.passes }

// Detach reads the message to its end and hands its attachments to d as they arrive. It is called
// once, and never for a message that passes. After an error the message must not be written.
func (m *Message) Detach(ctx context.Context, d Detacher) error {
	m.walk.detacher = d
	if err := m.walk.message(ctx, m.header); err != nil {
		return err
	}
	if len(m.walk.cuts.list) == 0 {
		return nil
	}
	return m.compose(ctx)
}

// WriteTo writes the message, rewritten if anything was detached. Errors of the source, from which
// a passing message streams, are *SourceError.
func (m *Message) WriteTo(w io.Writer) (int64, error) {
	n, err := writeEdited(w, m.walk.spool, 0, slices.Concat(m.header.edits(m.changes), m.edits))
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

// HeaderChanges returns how the message's header was changed by Detach. Only Content- fields,
// MIME-Version and skeleton.Field ever are: the header as received with these changes, the blank
// line that ends it, and what WriteBodyTo writes are what WriteTo writes.
func (m *Message) HeaderChanges() []HeaderChange { return m.changes }

// WriteBodyTo writes what follows the header and its blank line. It is called after Detach.
func (m *Message) WriteBodyTo(w io.Writer) (int64, error) {
	return writeEdited(w, m.walk.spool, int64(len(m.header.raw)), m.edits)
}

// Stats counts what has happened so far.
func (m *Message) Stats() Stats {
	s := Stats{In: m.walk.scan.total, Detached: len(m.walk.cuts.list)}
	for _, c := range m.walk.cuts.list {
		s.Bytes += c.size
	}
	return s
}

// Close gives back the memory and the files of the message. It cannot be written any more.
func (m *Message) Close() error { return m.walk.close() }
