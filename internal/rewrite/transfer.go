package rewrite

import (
	"bytes"
	"errors"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// errDamaged says that a part cannot be decoded surely, or not so that encoding
// it again would give the same bytes. Such a part is kept as it is.
var errDamaged = errors.New("transfer encoding cannot be reversed")

// A transfer decodes the body of one part as it arrives and remembers how it
// was laid out, so that the same bytes can be made from the decoded ones again.
type transfer interface {
	// decode appends to dst what chunk decodes to. With errDamaged nothing of
	// the chunk was taken: the layout ends before it.
	decode(dst, chunk []byte) ([]byte, error)
	// finish says whether the body may end here, and appends what was held back
	// for it: the line end before a delimiter belongs to the delimiter (RFC 2046
	// section 5.1.1), the last one of a message to the body.
	finish(dst []byte, atDelimiter bool) ([]byte, error)
	// layout is what encode needs beside the decoded bytes.
	layout() Layout
	// Close gives back what the layout is kept in.
	Close() error
}

// newTransfer returns the decoder of a Content-Transfer-Encoding (RFC 2045
// section 6), or nil for one that is not known.
func newTransfer(encoding, tempDir string) transfer {
	switch encoding {
	case "base64":
		return &base64Transfer{}
	case "quoted-printable":
		return &quotedTransfer{raw: spool.New(tempDir)}
	case "7bit", "8bit", "binary":
		return &identityTransfer{}
	}
	return nil
}

// A Layout says how the decoded bytes of a part stood in the mail.
type Layout struct {
	skeleton.Layout
	Raw *spool.Spool // the encoded bytes themselves, where no rule can repeat them
}

type run = skeleton.Run

// encode writes the bytes that decoded to r.
func (l Layout) encode(w io.Writer, r io.Reader) error {
	if l.Raw != nil {
		_, err := l.Raw.WriteTo(w)
		return err
	}
	return l.Layout.Encode(w, r)
}

// identityTransfer is 7bit, 8bit and binary: the bytes are themselves.
type identityTransfer struct {
	held []byte // a line end that may be the last
}

func (t *identityTransfer) decode(dst, chunk []byte) ([]byte, error) {
	end := lineEnd(chunk)
	if len(end) == len(chunk) && string(end) == "\n" && string(t.held) == "\r" {
		t.held = append(t.held, '\n')
		return dst, nil
	}
	dst = append(dst, t.held...)
	t.held = append(t.held[:0], end...)
	return append(dst, chunk[:len(chunk)-len(end)]...), nil
}

// lineEnd is the line end b ends with, or what may be the first half of one.
func lineEnd(b []byte) []byte {
	rest := bytes.TrimSuffix(b, []byte("\n"))
	return b[len(bytes.TrimSuffix(rest, []byte("\r"))):]
}

func (t *identityTransfer) finish(dst []byte, atDelimiter bool) ([]byte, error) {
	if !atDelimiter || string(t.held) == "\r" {
		dst, t.held = append(dst, t.held...), nil
	}
	return dst, nil
}

func (t *identityTransfer) layout() Layout {
	return Layout{Layout: skeleton.Layout{Encoding: skeleton.Identity, Tail: string(t.held)}}
}

func (t *identityTransfer) Close() error { return nil }
