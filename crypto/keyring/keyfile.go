package keyring

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

// ErrDamaged says that a key file is not what this package wrote. The file is left as it is.
var ErrDamaged = errors.New("key file is damaged")

// errChanged says that a program without locks wrote into a key file. The file may be whole now.
var errChanged = fmt.Errorf("%w: it was changed while it was read", ErrDamaged)

const (
	magic      = "detach/v1 key\n"
	headerSize = len(magic) + crypto.SecretSize + 4
	pathSize   = 8
)

// content is what a key file says, without the nodes:
//
//	"detach/v1 key\n" ‖ service secret (32) ‖ number of paths (4, big-endian) ‖
//	paths (8 each) ‖ nodes (32 each) ‖ SHA-256 of all before
type content struct {
	service crypto.ServiceSecret
	origins crypto.OriginKey // of service
	cover   cover
	sum     [sha256.Size]byte // of the whole file, as it says at its end
}

func (c *content) offset(node int) int64 {
	return int64(headerSize) + int64(len(c.cover.paths))*pathSize + int64(node)*crypto.SecretSize
}

func (c *content) size() int64 { return c.offset(c.cover.size()) + sha256.Size }

// parse reads a key file of this many bytes to its end, and returns ErrDamaged if a byte of it is
// wrong. It allocates less than the file's size.
func parse(in io.Reader, size int64) (*content, error) {
	sum := sha256.New()
	r := bufio.NewReader(in)
	summed := io.TeeReader(r, sum)
	c, err := parseHead(summed, size)
	if err != nil {
		return nil, err
	}
	if c.size() != size {
		return nil, fmt.Errorf("%w: %d bytes, want %d", ErrDamaged, size, c.size())
	}
	if _, err := io.CopyN(io.Discard, summed, size-c.offset(0)-sha256.Size); err != nil {
		return nil, damaged(err)
	}
	if _, err := io.ReadFull(r, c.sum[:]); err != nil {
		return nil, damaged(err)
	}
	if !bytes.Equal(sum.Sum(nil), c.sum[:]) {
		return nil, fmt.Errorf("%w: its checksum is wrong", ErrDamaged)
	}
	return c, nil
}

// parseNamed is parse of the key file with the name of e. It refuses another epoch's.
func parseNamed(in io.Reader, size int64, e crypto.Epoch) (*content, error) {
	c, err := parse(in, size)
	if err == nil && crypto.NewEpoch(e.Period(), c.service) != e {
		return nil, fmt.Errorf("%w: its name is not that of its secret, *.%s", ErrDamaged, c.service.ID())
	}
	return c, err
}

func parseHead(r io.Reader, size int64) (*content, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, damaged(err)
	}
	if string(head[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrDamaged, magic)
	}
	service, err := crypto.ServiceSecretFromBytes(head[len(magic) : headerSize-4])
	if err != nil {
		return nil, err
	}
	count := int64(binary.BigEndian.Uint32(head[headerSize-4:]))
	if count > size/pathSize {
		return nil, fmt.Errorf("%w: it is cut short", ErrDamaged)
	}
	raw := make([]byte, count*pathSize)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, damaged(err)
	}
	paths := make([]path, count)
	for i := range paths {
		paths[i] = path(binary.BigEndian.Uint64(raw[i*pathSize:]))
		if i > 0 && paths[i] <= paths[i-1] {
			return nil, fmt.Errorf("%w: its paths are not in order", ErrDamaged)
		}
	}
	return &content{service: service, origins: service.OriginKey(), cover: newCover(paths)}, nil
}

// damaged tells a file that ends too early from one that cannot be read.
func damaged(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut short", ErrDamaged)
	}
	return err
}

// writeKey writes a key file. nodes writes its nodes.
func writeKey(w io.Writer, service crypto.ServiceSecret, paths []path, nodes func(io.Writer) error) error {
	buffered, sum := bufio.NewWriter(w), sha256.New()
	out := io.MultiWriter(buffered, sum)
	if _, err := out.Write(headOf(service, paths)); err != nil {
		return err
	}
	if err := nodes(out); err != nil {
		return err
	}
	if _, err := buffered.Write(sum.Sum(nil)); err != nil {
		return err
	}
	return buffered.Flush()
}

// headOf returns a key file up to its nodes.
func headOf(service crypto.ServiceSecret, paths []path) []byte {
	head := append([]byte(magic), service.Bytes()...)
	head = binary.BigEndian.AppendUint32(head, uint32(len(paths)))
	for _, p := range paths {
		head = binary.BigEndian.AppendUint64(head, uint64(p))
	}
	return head
}

// writeNew writes a key file with a new root, and returns its service secret.
func writeNew(w io.Writer) (crypto.ServiceSecret, error) {
	service, err := crypto.NewServiceSecret()
	if err != nil {
		return service, err
	}
	var root node
	if _, err := io.ReadFull(rand.Reader, root[:]); err != nil {
		return service, fmt.Errorf("draw random bytes: %w", err)
	}
	return service, writeKey(w, service, nil, func(w io.Writer) error {
		_, err := w.Write(root[:])
		return err
	})
}

// writePunctured writes the key file of c, whose bytes are old, with more punctured leaves. It
// returns ErrDamaged if the bytes are no longer those of c: what it wrote must not be used then.
func writePunctured(w io.Writer, c *content, old io.ReaderAt, added []path) error {
	sum := sha256.New()
	sum.Write(headOf(c.service, c.cover.paths))
	nodes := io.NewSectionReader(old, c.offset(0), int64(c.cover.size())*crypto.SecretSize)
	read := bufio.NewReader(io.TeeReader(nodes, sum))
	slices.Sort(added)
	all := slices.Concat(c.cover.paths, added)
	slices.Sort(all)
	err := writeKey(w, c.service, slices.Compact(all), func(w io.Writer) error {
		return puncture{read, w}.walk(nil, 0, c.cover.paths, added)
	})
	if err != nil {
		return damaged(err)
	}
	if !bytes.Equal(sum.Sum(nil), c.sum[:]) {
		return errChanged
	}
	return nil
}
