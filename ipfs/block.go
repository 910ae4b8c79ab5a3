package ipfs

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// A CID of our form is always 36 bytes: version, codec, hash function, hash length, hash. A check
// compares the first four. It refuses identity hashes, which carry unhashed bytes in the CID.
const (
	cidLen    = 4 + sha256.Size
	rawPrefix = "\x01\x55\x12\x20"
	pbPrefix  = "\x01\x70\x12\x20"
)

func isRaw(c cid.Cid) bool {
	return c.ByteLen() == cidLen && strings.HasPrefix(c.KeyString(), rawPrefix)
}

func isNode(c cid.Cid) bool {
	return c.ByteLen() == cidLen && strings.HasPrefix(c.KeyString(), pbPrefix)
}

// newBlock computes the CID of data.
func newBlock(codec uint64, data []byte) Block {
	digest := sha256.Sum256(data)
	mh := append([]byte{multihash.SHA2_256, sha256.Size}, digest[:]...)
	return Block{CID: cid.NewCidV1(codec, mh), Data: data}
}

// Verify checks data against its CID. Any CID but CIDv1 with sha2-256 over a raw or dag-pb block
// is refused, and so is a block larger than MaxBlock.
func Verify(c cid.Cid, data []byte) error {
	if !isRaw(c) && !isNode(c) {
		return errForm(c)
	}
	if len(data) > MaxBlock {
		return fmt.Errorf("%w: block %s has %d bytes", ErrCorrupt, c, len(data))
	}
	digest := sha256.Sum256(data)
	if c.KeyString()[cidLen-sha256.Size:] != string(digest[:]) {
		return fmt.Errorf("%w: block %s has another hash", ErrCorrupt, c)
	}
	return nil
}

// CheckBlock returns an error for a block that no reader would accept. It does not check the hash.
func CheckBlock(b Block) error {
	if len(b.Data) > MaxBlock || !isRaw(b.CID) && !isNode(b.CID) {
		return fmt.Errorf("ipfs: block %s of %d bytes is not of our form", b.CID, len(b.Data))
	}
	return nil
}

func errForm(c cid.Cid) error { return fmt.Errorf("%w: CID %s is not of our form", ErrCorrupt, c) }
