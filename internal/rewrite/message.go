package rewrite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite/notice"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// A Detacher stores the attachments of one mail and returns links to them.
type Detacher interface {
	// Detach reads the attachment to its end and returns once it is stored. If r fails, Detach
	// keeps nothing stored and returns the error of r, wrapped.
	Detach(ctx context.Context, name, mediaType string, r io.Reader) (link.Link, error)
	// DetachEncoded is Detach for an attachment whose encoded form is stored with it, if no rule
	// writes that again. It calls encoded once, after it has read r to its end. If encoded returns
	// nil, nothing more is stored.
	DetachEncoded(ctx context.Context, name, mediaType string, r io.Reader, encoded func() io.Reader) (link.Link, error)
	// Open reads a stored attachment.
	Open(ctx context.Context, l link.Link) (io.ReadCloser, error)
	// Drop deletes a stored attachment that proved damaged and goes back into the mail.
	Drop(ctx context.Context, l link.Link) error
	// Expires returns when links made now stop working, or zero if they never do.
	Expires() time.Time
}

// Position says where in a text the notice goes.
type Position = notice.Position

const (
	Bottom = notice.Bottom
	Top    = notice.Top
)

// Policy says what is detached and what is left in its place.
type Policy struct {
	MinSize  int64    // bytes, decoded: smaller attachments are kept
	Notice   Position // where in a text the notice goes
	Language string   // "auto", or one of package texts
	Operator string   // who keeps the files, in the notice; empty: the host of the links
	Restore  bool     // store a skeleton, to restore the original
	// RestoreOmit names fields of the message's header, in any case, that the original does not
	// have: the mail servers behind remove them. Bcc, Resent-Bcc, Return-Path and Content-Length
	// are omitted even if RestoreOmit is empty.
	RestoreOmit []string
	Space       *spool.Space // for the spools; nil: without limits, in the system's directory
}

// Stats counts what happened to one mail.
type Stats struct {
	In       int64 // bytes read
	Detached int   // attachments
	Bytes    int64 // of attachments, decoded
}

// A Message is one mail being rewritten. It is not safe for concurrent use.
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
	// Occurrence counts, from 1 on, the received fields of that name; the one with this number is
	// removed. If it is 0, the field is added, below all others.
	Occurrence int
	// Value of a removed field is everything between its colon and its last line end, with the line
	// ends of folded lines. An added field is Name, ": ", Value, and the line end the header uses.
	Value string
}

// A SourceError wraps an error of the reader that a message comes from.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return "read message: " + e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// sourceReader wraps the errors of a reader in SourceError.
type sourceReader struct{ io.Reader }

func (r sourceReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = &SourceError{err}
	}
	return n, err
}

// Read reads the header of the message in src and decides whether the message passes. The caller
// must have removed the dots that SMTP doubles. If src fails, Read returns a *SourceError.
func Read(src io.Reader, p Policy) (*Message, error) {
	w := &walk{
		policy: p, scan: newScanner(sourceReader{src}), cuts: cuts{sum: skeleton.NewSum()},
		spool: spool.New(p.Space), memory: memory.NewAccount(p.Space.Memory(), freeState),
	}
	h, _, err := w.readHeader()
	if err != nil && err != io.EOF {
		return nil, errors.Join(err, w.close())
	}
	m := &Message{walk: w, header: h}
	m.passes = err == io.EOF || w.seen.passes(&m.header)
	return m, nil
}

// Passes reports whether the header alone shows that nothing can be detached. Then the caller may
// call WriteTo immediately, which streams the message from its source.
func (m *Message) Passes() bool { return m.passes }

// Detach reads the message to its end and passes its attachments to d while they arrive. It must be
// called at most once, and never for a message that passes. After an error the message must not be
// written.
func (m *Message) Detach(ctx context.Context, d Detacher) error {
	m.walk.detacher = d
	m.walk.cuts.header, m.walk.cuts.omit = &m.header, m.walk.policy.RestoreOmit
	err := m.walk.message(ctx, m.header)
	if err != nil {
		return err
	}
	if len(m.walk.cuts.list) == 0 {
		m.edits = m.walk.cuts.returned
		return nil
	}
	return m.composeInBudget(ctx)
}

const (
	// textMemory is how many times the length of a text the copies take while the notice is put in:
	// as received, decoded, compared, encoded anew.
	textMemory = 8
	// fileMemory is what the notice and the skeleton need for a file. The skeleton also needs a copy
	// of the header.
	fileMemory = 4 << 10
)

// composeInBudget waits for the memory that compose needs, and gives it back.
func (m *Message) composeInBudget(ctx context.Context) error {
	need := int64(len(m.walk.cuts.list))*fileMemory + int64(len(m.header.raw))
	spot := m.walk.spot()
	for _, b := range spot.texts {
		need += textMemory * min(b.text.text.size(), notice.MaxText)
	}
	budget := m.walk.policy.Space.Work()
	need = min(need, budget.Size())
	if err := budget.Acquire(ctx, need); err != nil {
		return fmt.Errorf("wait for memory: %w", err)
	}
	defer budget.Release(need)
	if err := m.compose(ctx, spot); err != nil {
		return err
	}
	return m.keepEdits()
}

// keepEdits keeps the texts of the edits until the message is written, which takes as long as the
// next hop wants. Texts that get no memory go to the spool, behind the message.
func (m *Message) keepEdits() error {
	size := int64(0)
	for _, e := range m.edits {
		size += int64(len(e.text))
	}
	if m.walk.memory.Take(size) {
		return nil
	}
	s := m.walk.spool
	for i, e := range m.edits {
		if len(e.text) == 0 {
			continue
		}
		off := s.Size()
		if _, err := s.Write(e.text); err != nil {
			return err
		}
		m.edits[i].text, m.edits[i].spooled = nil, span{off, s.Size()}
	}
	return nil
}

// WriteTo writes the message, rewritten if anything was detached. It streams a message that passes
// from its source, and returns an error of the source as a *SourceError.
func (m *Message) WriteTo(w io.Writer) (int64, error) {
	s := m.walk.spool
	if !m.passes {
		n, err := writeEdited(w, s, span{0, int64(len(m.header.raw))}, m.header.edits(m.changes))
		if err != nil {
			return n, err
		}
		k, err := m.WriteBodyTo(w)
		return n + k, err
	}
	n, err := s.WriteTo(w)
	if err != nil {
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

// HeaderChanges returns how Detach changed the message's header. It changes only Content- fields,
// MIME-Version and skeleton.Field. WriteTo writes the received header with these changes, the blank
// line that ends it, and the output of WriteBodyTo.
func (m *Message) HeaderChanges() []HeaderChange { return m.changes }

// WriteBodyTo writes everything after the header and its blank line. It must be called after
// Detach.
func (m *Message) WriteBodyTo(w io.Writer) (int64, error) {
	return writeEdited(w, m.walk.spool, span{int64(len(m.header.raw)), m.walk.end}, m.edits)
}

// Stats returns the counts so far.
func (m *Message) Stats() Stats {
	s := Stats{In: m.walk.scan.total, Detached: len(m.walk.cuts.list)}
	for _, c := range m.walk.cuts.list {
		s.Bytes += c.size
	}
	return s
}

// Close gives back the memory and the files of the message, which must not be used afterwards.
func (m *Message) Close() error { return m.walk.close() }
