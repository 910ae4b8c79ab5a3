package transfer

import (
	"errors"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// ErrDamaged means that content cannot be decoded with certainty, or that encoding it again would
// give other bytes.
var ErrDamaged = errors.New("transfer encoding cannot be reversed")

// A Decoder decodes content as it arrives, and records how it was laid out. It is not safe for
// concurrent use.
type Decoder interface {
	// Decode decodes chunk and appends the result to dst. If it returns ErrDamaged, it took nothing
	// of the chunk: the layout ends before it.
	Decode(dst, chunk []byte) ([]byte, error)
	// Finish ends the content and appends the held line end to dst, unless the content ends at a
	// delimiter, to which that line end belongs (RFC 2046 section 5.1.1). It returns ErrDamaged if
	// the content must not end here.
	Finish(dst []byte, atDelimiter bool) ([]byte, error)
	// Layout returns the layout of all content taken so far.
	Layout() Layout
	// Encoded returns the encoded bytes of all content taken so far, without the layout's Tail, if
	// the layout's Encoding is Encoded. They can be read until Close.
	Encoded() io.Reader
	Close() error
}

// Known reports whether the package decodes a Content-Transfer-Encoding, given in lower case.
func Known(encoding string) bool {
	switch encoding {
	case "base64", "quoted-printable", "7bit", "8bit", "binary":
		return true
	}
	return false
}

// Memory returns how many bytes the decoder of a known encoding takes at most, with chunks of 32
// KiB and without its spool.
func Memory(encoding string) int64 {
	if encoding == "quoted-printable" {
		return 256 << 10 // the sample, its decoded bytes and how they were encoded, and what grew on the way
	}
	return 1 << 10
}

// NewExact returns the decoder of a known encoding. It keeps encoded bytes that no rule writes
// again in a spool of space, which may be nil.
func NewExact(encoding string, space *spool.Space) Decoder {
	switch encoding {
	case "base64":
		return &base64Decoder{}
	case "quoted-printable":
		return &quotedDecoder{most: maxSample, space: space}
	}
	return &identityDecoder{}
}

// identityDecoder is for 7bit, 8bit and binary: the bytes are themselves.
type identityDecoder struct {
	held []byte // a line end that may be the last
}

func (t *identityDecoder) Decode(dst, chunk []byte) ([]byte, error) {
	end := lines.End(chunk)
	if len(end) == len(chunk) && string(end) == "\n" && string(t.held) == "\r" {
		t.held = append(t.held, '\n')
		return dst, nil
	}
	dst = append(dst, t.held...)
	t.held = append(t.held[:0], end...)
	return append(dst, chunk[:len(chunk)-len(end)]...), nil
}

func (t *identityDecoder) Finish(dst []byte, atDelimiter bool) ([]byte, error) {
	if !atDelimiter || string(t.held) == "\r" {
		dst, t.held = append(dst, t.held...), nil
	}
	return dst, nil
}

func (t *identityDecoder) Layout() Layout     { return Layout{Encoding: Identity, Tail: string(t.held)} }
func (t *identityDecoder) Encoded() io.Reader { return nil }
func (t *identityDecoder) Close() error       { return nil }
