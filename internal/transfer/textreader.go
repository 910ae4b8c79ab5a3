package transfer

import (
	"bytes"
	"encoding/base64"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
)

// textWindow is how much encoded text a text reader has in memory.
const textWindow = 16 << 10

// NewTextReader returns a reader of the content that DecodeText returns for all of src at once. It
// returns ErrDamaged in place of io.EOF if the text cannot be decoded. Content in an unknown
// encoding is read as it is. Blanks and equals signs that fill a window of quoted-printable are
// left out.
func NewTextReader(encoding string, src io.Reader) io.Reader {
	switch encoding {
	case "base64":
		return &textReader{src: src, decode: new(base64Text).decode}
	case "quoted-printable":
		return &textReader{src: src, decode: decodeQuotedPiece}
	}
	return src
}

// textReader decodes src window by window.
type textReader struct {
	src io.Reader
	// decode decodes the beginning of a window, appends it to dst, and returns how much it took: at
	// least a byte of a full window, and everything if the window ends with the text.
	decode  func(dst, window []byte, last bool) (content []byte, taken int, err error)
	window  []byte
	space   []byte // the memory of content
	content []byte // decoded, and not read yet
	err     error
}

func (r *textReader) Read(p []byte) (int, error) {
	for len(r.content) == 0 && r.err == nil {
		r.fill()
	}
	if len(r.content) == 0 {
		return 0, r.err
	}
	n := copy(p, r.content)
	r.content = r.content[n:]
	return n, nil
}

func (r *textReader) fill() {
	if r.window == nil {
		r.window = make([]byte, 0, textWindow)
	}
	n, err := io.ReadFull(r.src, r.window[len(r.window):cap(r.window)])
	r.window = r.window[:len(r.window)+n]
	last := err == io.EOF || err == io.ErrUnexpectedEOF
	if err != nil && !last {
		r.err = err
		return
	}
	taken := 0
	r.space, taken, err = r.decode(r.space[:0], r.window, last)
	r.content = r.space
	r.window = r.window[:copy(r.window, r.window[taken:])]
	if err != nil {
		r.err = err
	} else if last {
		r.err = io.EOF
	}
}

// base64Text decodes base64. Only one group of four characters may be padded: the last.
type base64Text struct{ padded bool }

func (t *base64Text) decode(dst, window []byte, last bool) ([]byte, int, error) {
	stripped := make([]byte, 0, len(window))
	taken := 0
	for i, c := range window {
		if c == '\r' || c == '\n' || lines.IsBlank(c) {
			continue
		}
		if stripped = append(stripped, c); len(stripped)%4 == 0 {
			taken = i + 1
		}
	}
	whole := stripped[:len(stripped)/4*4]
	if last {
		whole, taken = stripped, len(window)
	}
	if len(whole) == 0 && len(stripped) == 0 {
		taken = len(window) // nothing but blanks
	}
	if t.padded && len(whole) > 0 {
		return dst, taken, ErrDamaged
	}
	t.padded = bytes.HasSuffix(whole, []byte("="))
	dst, err := base64.StdEncoding.AppendDecode(dst, whole)
	if err != nil {
		err = ErrDamaged
	}
	return dst, taken, err
}

// decodeQuotedPiece decodes the window's whole lines. In a window without a line end it stops
// before what the following bytes decide about: an escape, or blanks that may end a line.
func decodeQuotedPiece(dst, window []byte, last bool) ([]byte, int, error) {
	piece := window
	if !last {
		if piece = window[:bytes.LastIndexByte(window, '\n')+1]; len(piece) == 0 {
			piece = bytes.TrimRight(window, " \t\r")
			for i := bytes.LastIndexByte(piece, '='); i >= 0 && i >= len(piece)-2; i = bytes.LastIndexByte(piece, '=') {
				piece = piece[:i]
			}
			if len(piece) == 0 { // a window of blanks and of =
				return dst, len(window), nil
			}
		}
	}
	content, _, _ := decodeQuotedText(piece, -1)
	return append(dst, content...), len(piece), nil
}
