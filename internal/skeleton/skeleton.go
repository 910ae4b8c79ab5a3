package skeleton

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"strconv"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

const (
	// Type is the media type of a stored skeleton. No attachment may have it.
	Type = "application/vnd.detach.skeleton"
	// Name is the file name of the restored message.
	Name = "original.eml"

	version = 1
	// MaxRuns bounds the runs in the layouts of one message and, together with transfer.MaxLineEnd,
	// the size of its head. Real encoders need two for an attachment.
	MaxRuns = 1 << 16
	// maxHead bounds the JSON. MaxRuns runs with the longest line ends, all escaped, fit.
	maxHead = 64 << 20
	// MaxCuts is more than the number of parts that rewriting looks at.
	MaxCuts = 1 << 14
	// maxValues bounds the values in the JSON, and therefore their memory once unpacked.
	maxValues = 4*MaxRuns + 8*MaxCuts
	// maxSize is larger than any mail, and small enough for sums not to overflow.
	maxSize = 1 << 40
)

// ErrInvalid means that the input is not a skeleton, or does not fit its attachments.
var ErrInvalid = errors.New("not a valid skeleton")

// A Head is the first line of a skeleton.
type Head struct {
	Version int   `json:"version"`
	Size    int64 `json:"size"` // bytes of the message
	// CRC32C of the message, in hexadecimal. CIDs and metadata authenticate every byte that goes
	// into the message; the checksum finds mistakes in assembling them. SHA-256 would cost a third
	// of the throughput.
	CRC32C string `json:"crc32c"`
	Cuts   []Cut  `json:"cuts"`
}

// A Cut says which attachment belongs at an offset of the bytes after the head, and its layout.
type Cut struct {
	Offset int64           `json:"offset"`
	Link   string          `json:"link"`
	Layout transfer.Layout `json:"layout"`

	link link.Link
}

// NewSum returns the checksum of a Head.
func NewSum() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

// Line returns the head in its stored form, for a message of size bytes with this checksum.
func (h Head) Line(size int64, sum hash.Hash32) ([]byte, error) {
	h.Version, h.Size, h.CRC32C = version, size, fmt.Sprintf("%08x", sum.Sum32())
	if h.Cuts == nil {
		h.Cuts = []Cut{}
	}
	line, err := json.Marshal(h)
	return append(line, '\n'), err
}

// A Message is a skeleton whose head was read. Its message can be restored.
type Message struct {
	head Head
	rest *bufio.Reader // the message without its attachments
}

// Opener opens an attachment. Restore returns its errors, wrapped.
type Opener func(context.Context, link.Link) (io.ReadCloser, error)

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

// Open reads the head of a skeleton.
func Open(r io.Reader) (*Message, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	line, err := readLine(br)
	if err != nil {
		return nil, fmt.Errorf("read skeleton: %w", err)
	}
	if _, err := parseSize(line); err != nil {
		return nil, err
	}
	m := &Message{rest: br}
	if err := m.head.parse(line); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return m, nil
}

// Size returns the number of bytes of the message.
func (m *Message) Size() int64 { return m.head.Size }

// Restore writes the message to w. It must be called at most once. If it returns an error, the
// caller must discard the bytes written so far.
func (m *Message) Restore(ctx context.Context, w io.Writer, open Opener) error {
	out := &checkedWriter{w: w, left: m.head.Size, sum: NewSum()}
	pos := int64(0)
	for i := range m.head.Cuts {
		c := &m.head.Cuts[i]
		if err := copyN(out, m.rest, c.Offset-pos); err != nil {
			return fmt.Errorf("read skeleton: %w", err)
		}
		pos = c.Offset
		if err := c.restore(ctx, out, open); err != nil {
			return fmt.Errorf("restore attachment: %w", err)
		}
	}
	if _, err := io.Copy(out, m.rest); err != nil {
		return fmt.Errorf("read skeleton: %w", err)
	}
	if out.left != 0 || fmt.Sprintf("%08x", out.sum.Sum32()) != m.head.CRC32C {
		return fmt.Errorf("%w: the restored message is not the one that was received", ErrInvalid)
	}
	return nil
}

func (c *Cut) restore(ctx context.Context, w io.Writer, open Opener) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := open(ctx, c.link)
	if err != nil {
		return err
	}
	err = errors.Join(c.Layout.Encode(w, r), r.Close())
	if errors.Is(err, transfer.ErrLayout) {
		err = fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return err
}

func copyN(w io.Writer, r io.Reader, n int64) error {
	_, err := io.CopyN(w, r, n)
	if err == io.EOF {
		return fmt.Errorf("%w: shorter than its offsets", ErrInvalid)
	}
	return err
}

// parse reads and checks the JSON. It counts the values before it unpacks them, because two bytes
// of JSON can become forty.
func (h *Head) parse(line []byte) error {
	if bytes.Count(line, []byte(",")) > maxValues {
		return errors.New("its head has too many values")
	}
	if err := json.Unmarshal(line, h); err != nil {
		return errors.New("its head is not valid JSON") // without err, which may quote a link
	}
	switch {
	case h.Version != version:
		return fmt.Errorf("it has version %d, and only version %d is known", h.Version, version)
	case h.Size < 0 || h.Size > maxSize:
		return errors.New("its size is out of range")
	case len(h.Cuts) > MaxCuts:
		return errors.New("it has too many attachments")
	}
	return h.checkCuts()
}

func (h *Head) checkCuts() error {
	pos, runs := int64(0), 0
	seen := make(map[cid.Cid]bool, len(h.Cuts))
	for i := range h.Cuts {
		c := &h.Cuts[i]
		var err error
		if c.link, err = link.Parse(c.Link); err != nil {
			return fmt.Errorf("link of an attachment: %w", err)
		}
		if c.link.All {
			return errors.New("the link of an attachment is a link to all files")
		}
		if err := c.Layout.Check(); err != nil {
			return err
		}
		runs += len(c.Layout.Lines)
		// Each attachment is a separate object. A small skeleton that repeats a large object would
		// make a huge message.
		if seen[c.link.CID] || c.Offset < pos || c.Offset > h.Size || runs > MaxRuns {
			return errors.New("an attachment is repeated, out of order or out of range")
		}
		pos, seen[c.link.CID] = c.Offset, true
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

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for len(line) <= maxHead {
		piece, err := r.ReadSlice('\n')
		line = append(line, piece...)
		if err == io.EOF {
			return nil, fmt.Errorf("%w: no head", ErrInvalid)
		}
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
	return nil, fmt.Errorf("%w: its head is too long", ErrInvalid)
}
