package keyring

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

// depth is the number of bits that lead from the root of a tree to a leaf. At 64 it is unlikely,
// 1 in 10^5, that two of 10^9 objects and 10^5 destroyed ones have the same leaf.
const depth = 64

// path leads to a leaf: its bits, the most significant first, say which child to take.
type path uint64

// pathOf returns the first 64 bits of the digest of a CIDv1 with sha2-256.
func pathOf(core cid.Cid) (path, error) {
	if !core.Defined() || core.Version() != 1 {
		return 0, errors.New("the core is not a CIDv1")
	}
	hash, err := multihash.Decode(core.Hash())
	if err != nil || hash.Code != multihash.SHA2_256 || hash.Length != sha256.Size {
		return 0, errors.New("the core is not a CID with sha2-256")
	}
	return path(binary.BigEndian.Uint64(hash.Digest)), nil
}

// bit returns the bit at a depth from 0 to 63.
func (p path) bit(at int) byte { return byte(p >> (depth - 1 - at) & 1) }

// ones and zeros count the bits of p from a depth on.
func (p path) ones(from int) int  { return bits.OnesCount64(uint64(p) << from) }
func (p path) zeros(from int) int { return bits.OnesCount64(^uint64(p) << from) }

// common returns how many bits p and q have in common at their beginning.
func (p path) common(q path) int { return bits.LeadingZeros64(uint64(p ^ q)) }

// cover describes the nodes of a punctured tree. They are the siblings along the punctured paths,
// so every leaf is below one of them, except the punctured leaves. Their order is that of the
// leaves below them. A tree without punctures has one node, its root.
type cover struct {
	paths  []path   // the punctured leaves, ascending
	before []uint32 // how many nodes are left of each path
}

func newCover(paths []path) cover {
	c := cover{paths, make([]uint32, len(paths))}
	for i, p := range paths {
		if i == 0 {
			c.before[i] = uint32(p.ones(0))
			continue
		}
		// Between two neighbours are the right siblings of one and the left siblings of the other,
		// below the node where the two part.
		last := paths[i-1]
		from := p.common(last) + 1
		c.before[i] = c.before[i-1] + uint32(last.zeros(from)+p.ones(from))
	}
	return c
}

// size returns the number of nodes.
func (c cover) size() int {
	n := len(c.paths)
	if n == 0 {
		return 1
	}
	return int(c.before[n-1]) + c.paths[n-1].zeros(0)
}

// find returns the index and the depth of the node above a leaf. It reports false if the leaf is
// punctured.
func (c cover) find(p path) (index, at int, ok bool) {
	i, punctured := slices.BinarySearch(c.paths, p)
	if punctured {
		return 0, 0, false
	}
	if len(c.paths) == 0 {
		return 0, 0, true
	}
	left, right := -1, -1
	if i > 0 {
		left = p.common(c.paths[i-1])
	}
	if i < len(c.paths) {
		right = p.common(c.paths[i])
	}
	// The node is a sibling of the neighbour that stays longer with p. Right siblings of a path
	// follow it from the deepest to the highest, and left siblings come before it from the highest
	// to the deepest.
	if left > right {
		return int(c.before[i-1]) + c.paths[i-1].zeros(left+1), left + 1, true
	}
	return int(c.before[i]) - c.paths[i].ones(right), right + 1, true
}

// node is the secret of a node. It is passed by address, because a crash prints the arguments of
// every function on the stack.
type node [crypto.SecretSize]byte

// child returns HMAC-SHA256(node, bit), where bit is one byte.
func (n *node) child(bit byte) *node {
	c := *n
	c.step(bit)
	return &c
}

// descend returns the leaf at the end of p below a node that lies on p.
func (n *node) descend(p path, from int) *node {
	leaf := *n
	for at := from; at < depth; at++ {
		leaf.step(p.bit(at))
	}
	return &leaf
}

// step replaces a node by its child: HMAC-SHA256 (RFC 2104), whose key is shorter than a block. It
// is written out because hmac.New allocates eight times, and there are 64 steps to a leaf.
func (n *node) step(bit byte) {
	var inner [sha256.BlockSize + 1]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	copy(inner[:], n[:])
	copy(outer[:], n[:])
	for i := range sha256.BlockSize {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	inner[sha256.BlockSize] = bit
	sum := sha256.Sum256(inner[:])
	copy(outer[sha256.BlockSize:], sum[:])
	*n = sha256.Sum256(outer[:])
}

// puncture copies the nodes of a tree from old to out, and replaces each node above a newly
// punctured leaf by the siblings along the path. The same set of punctures gives the same bytes,
// whatever the order in which they were made.
type puncture struct {
	old io.Reader
	out io.Writer
}

// walk writes the nodes below the node at a depth, which is nil if it is not known: then some of
// the leaves below it are punctured in old.
func (w puncture) walk(n *node, at int, old, added []path) error {
	if n == nil && len(old) == 0 {
		n = new(node)
		if _, err := io.ReadFull(w.old, n[:]); err != nil {
			return fmt.Errorf("read a node: %w", err)
		}
	}
	if n != nil && len(added) == 0 {
		_, err := w.out.Write(n[:])
		return err
	}
	if at == depth {
		return nil // the punctured leaf itself
	}
	var children [2]*node
	if n != nil {
		children = [2]*node{n.child(0), n.child(1)}
	}
	oldLeft, oldRight := split(old, at)
	addedLeft, addedRight := split(added, at)
	if err := w.walk(children[0], at+1, oldLeft, addedLeft); err != nil {
		return err
	}
	return w.walk(children[1], at+1, oldRight, addedRight)
}

// split parts ascending paths that have the same first bits by the next bit.
func split(paths []path, at int) (left, right []path) {
	i, _ := slices.BinarySearchFunc(paths, 1, func(p path, bit byte) int { return int(p.bit(at)) - int(bit) })
	return paths[:i], paths[i:]
}
