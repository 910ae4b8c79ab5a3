package skeleton

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

const (
	// Type is the media type of a stored skeleton. No attachment may have it.
	Type = "application/vnd.detach.skeleton"
	// Name is the file name of the restored message.
	Name = "original.eml"

	// MaxRuns bounds the runs and the exceptions in the layouts of one message. Real encoders need
	// two for an attachment.
	MaxRuns = 1 << 12
	// MaxCuts is more than the number of parts that rewriting looks at.
	MaxCuts = 1 << 14

	// Memory is how many bytes restoring a message takes at most: its line buffer, one cut, and the
	// hashes of the objects so far.
	Memory = 512 << 10

	// maxLine bounds one line of JSON. The longest layout fits twice.
	maxLine = 64 << 10
	// maxValues bounds the values in one line, and therefore their memory once unpacked.
	maxValues = 4*(transfer.MaxRuns+transfer.MaxExceptions) + 64
	// maxSize is larger than any mail, and small enough for sums not to overflow.
	maxSize = 1 << 40
)

// ErrInvalid means that the input is not a skeleton, or does not fit its attachments.
var ErrInvalid = errors.New("not a valid skeleton")

// A Piece is some text of the message, and the attachment that follows it.
type Piece struct {
	Length int64 `json:"length"`        // bytes of the text
	Cut    *Cut  `json:"cut,omitempty"` // nil: the message ends

	Text io.Reader `json:"-"`
}

// A Cut says which attachment belongs at a place of the message, and its layout.
type Cut struct {
	Link   string          `json:"link"`
	Layout transfer.Layout `json:"layout"`

	link link.Link
}

// NewSum returns the checksum of a message. CIDs and metadata authenticate every byte that goes
// into the message; the checksum finds mistakes in assembling them. SHA-256 would cost a third of
// the throughput.
func NewSum() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

// NewReader returns the skeleton of a message of size bytes with this checksum. next returns the
// pieces of the message in order, each when the one before has been read. The last has no cut.
func NewReader(size int64, sum hash.Hash32, next func() Piece) io.Reader {
	head := fmt.Sprintf("%s%d,\"crc32c\":\"%08x\"}\n", beginning, size, sum.Sum32())
	return &encoder{piece: strings.NewReader(head), next: next}
}

type encoder struct {
	piece io.Reader
	next  func() Piece // nil: piece is the last
}

func (e *encoder) Read(b []byte) (int, error) {
	for {
		n, err := e.piece.Read(b)
		if err != io.EOF || e.next == nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
		p := e.next()
		line, err := json.Marshal(p)
		if err != nil {
			return 0, err
		}
		e.piece = io.MultiReader(bytes.NewReader(append(line, '\n')), p.Text)
		if p.Cut == nil {
			e.next = nil
		}
	}
}

// A Message is a skeleton whose first line was read. Its message can be restored.
type Message struct {
	size int64
	sum  string // CRC-32C of the message, in hexadecimal
	rest *bufio.Reader
}

// Opener opens an attachment, or its encoded bytes. Restore returns its errors, wrapped.
type Opener func(ctx context.Context, l link.Link, encoded bool) (io.ReadCloser, error)

// beginning is how every skeleton begins. After it come the digits of the size and a comma.
const beginning = `{"version":1,"size":`

// ReadSize returns the number of bytes of the message, from the first bytes of its skeleton: it
// reads at most 64 bytes of r. It returns ErrInvalid, or an error of r.
func ReadSize(r io.Reader) (int64, error) {
	b := make([]byte, 64)
	n, err := io.ReadFull(r, b)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return 0, fmt.Errorf("read skeleton: %w", err)
	}
	return parseSize(b[:n])
}

func parseSize(head []byte) (int64, error) {
	digits, ok := bytes.CutPrefix(head, []byte(beginning))
	n := bytes.IndexByte(digits, ',')
	if !ok || n < 0 {
		return 0, fmt.Errorf("%w: it does not begin with its version and its size", ErrInvalid)
	}
	size, err := strconv.ParseInt(string(digits[:n]), 10, 64)
	if err != nil || size < 0 || size > maxSize {
		return 0, fmt.Errorf("%w: its size is out of range", ErrInvalid)
	}
	return size, nil
}

// Open reads the first line of a skeleton.
func Open(r io.Reader) (*Message, error) {
	m := &Message{rest: bufio.NewReaderSize(r, maxLine)}
	line, err := readLine(m.rest)
	if err != nil {
		return nil, fmt.Errorf("read skeleton: %w", err)
	}
	if m.size, err = parseSize(line); err != nil {
		return nil, err
	}
	var head struct {
		Size   int64  `json:"size"`
		CRC32C string `json:"crc32c"`
	}
	if err := unmarshal(line, &head); err != nil || head.Size != m.size {
		return nil, fmt.Errorf("%w: malformed first line", ErrInvalid)
	}
	m.sum = head.CRC32C
	return m, nil
}

// Size returns the number of bytes of the message.
func (m *Message) Size() int64 { return m.size }

// Restore writes the message to w, and holds one cut at a time. It must be called at most once. If
// it returns an error, the caller must discard the bytes written so far.
func (m *Message) Restore(ctx context.Context, w io.Writer, open Opener) error {
	out := &checkedWriter{w: w, left: m.size, sum: NewSum()}
	limits := limits{cuts: map[uint64]bool{}}
	for {
		p, err := m.piece(&limits)
		if err != nil {
			return err
		}
		if _, err := io.CopyN(out, m.rest, p.Length); err == io.EOF {
			return fmt.Errorf("%w: shorter than its pieces", ErrInvalid)
		} else if err != nil {
			return fmt.Errorf("read skeleton: %w", err)
		}
		if p.Cut == nil {
			break
		}
		if err := p.Cut.restore(ctx, out, open); err != nil {
			return fmt.Errorf("restore attachment: %w", err)
		}
	}
	if _, err := m.rest.ReadByte(); err == nil {
		return fmt.Errorf("%w: longer than its pieces", ErrInvalid)
	} else if err != io.EOF {
		return fmt.Errorf("read skeleton: %w", err)
	}
	if out.left != 0 || fmt.Sprintf("%08x", out.sum.Sum32()) != m.sum {
		return fmt.Errorf("%w: the restored message is not the one that was received", ErrInvalid)
	}
	return nil
}

// piece reads the line of the next piece.
func (m *Message) piece(limits *limits) (p Piece, err error) {
	line, err := readLine(m.rest)
	if err != nil {
		return p, fmt.Errorf("read skeleton: %w", err)
	}
	if err := unmarshal(line, &p); err != nil {
		return p, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if p.Length < 0 || p.Length > m.size {
		return p, fmt.Errorf("%w: a length is out of range", ErrInvalid)
	}
	if p.Cut == nil {
		return p, nil
	}
	if err = p.Cut.check(); err == nil {
		err = limits.take(p.Cut)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return p, err
}

func (c *Cut) check() (err error) {
	if c.link, err = link.Parse(c.Link); err != nil {
		return fmt.Errorf("link of an attachment: %w", err)
	}
	if c.link.All {
		return errors.New("the link of an attachment is a link to all files")
	}
	return c.Layout.Check()
}

// limits counts what the cuts of a message have together.
type limits struct {
	cuts map[uint64]bool // the last bytes of their hashes: a CID is five times as long
	runs int
}

// take counts a cut. Each attachment is a separate object: a small skeleton that repeats a large
// object would make a huge message.
func (l *limits) take(c *Cut) error {
	hash := c.link.CID.Bytes()
	object := binary.BigEndian.Uint64(hash[len(hash)-8:])
	if l.runs += c.Layout.Size(); l.runs > MaxRuns || len(l.cuts) == MaxCuts || l.cuts[object] {
		return errors.New("too many attachments or lines, or an attachment twice")
	}
	l.cuts[object] = true
	return nil
}

func (c *Cut) restore(ctx context.Context, w io.Writer, open Opener) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := open(ctx, c.link, c.Layout.Encoding == transfer.Encoded)
	if err != nil {
		return err
	}
	err = errors.Join(c.Layout.Encode(w, r), r.Close())
	if errors.Is(err, transfer.ErrLayout) {
		err = fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return err
}

// unmarshal unpacks one line. It counts the values first, because two bytes of JSON can become
// forty.
func unmarshal(line []byte, v any) error {
	if bytes.Count(line, []byte(",")) > maxValues {
		return errors.New("a line has too many values")
	}
	if err := json.Unmarshal(line, v); err != nil {
		return errors.New("a line is not valid JSON") // without err, which may quote a link
	}
	return nil
}

// checkedWriter adds the bytes written to the checksum, and refuses more than were announced.
type checkedWriter struct {
	w    io.Writer
	left int64
	sum  hash.Hash32
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		return 0, fmt.Errorf("%w: the restored message is longer than the one that was received", ErrInvalid)
	}
	n, err := c.w.Write(p)
	c.left -= int64(n)
	c.sum.Write(p[:n])
	return n, err
}

// readLine returns the next line, which is valid until the next read.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch err {
	case io.EOF:
		return nil, fmt.Errorf("%w: it ends within a line", ErrInvalid)
	case bufio.ErrBufferFull:
		return nil, fmt.Errorf("%w: a line is too long", ErrInvalid)
	}
	return line, err
}
