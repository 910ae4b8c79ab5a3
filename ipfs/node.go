package ipfs

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
)

// A CID of ours is always 36 bytes: version, codec, hash function, hash length, hash.
// To compare the first four is to check all that can vary. An identity hash, which would carry
// unhashed bytes in the name itself, does not pass.
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

// newBlock names data.
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

// CheckBlock refuses a block that could be stored and never read again. It does not hash it.
func CheckBlock(b Block) error {
	if len(b.Data) > MaxBlock || !isRaw(b.CID) && !isNode(b.CID) {
		return fmt.Errorf("ipfs: block %s of %d bytes is not of our form", b.CID, len(b.Data))
	}
	return nil
}

func errForm(c cid.Cid) error { return fmt.Errorf("%w: CID %s is not of our form", ErrCorrupt, c) }

// encodeDirectory makes a directory. Links are sorted by name when they are encoded.
func encodeDirectory(entries []Entry) (Block, Node, error) {
	pb, sum := new(merkledag.ProtoNode), Node{}
	for _, e := range entries {
		if err := pb.AddRawLink(e.Name, &format.Link{Cid: e.Node.CID, Size: e.Node.Tsize}); err != nil {
			return Block{}, Node{}, fmt.Errorf("encode directory: %w", err)
		}
		sum.Size += e.Node.Size
		sum.Tsize += e.Node.Tsize
	}
	return encodeNode(pb, unixfs.FolderPBData(), sum)
}

func encodeNode(pb *merkledag.ProtoNode, data []byte, n Node) (Block, Node, error) {
	pb.SetData(data)
	enc, err := pb.EncodeProtobuf(false)
	if err != nil {
		return Block{}, Node{}, fmt.Errorf("encode node: %w", err)
	}
	b := newBlock(cid.DagProtobuf, enc)
	n.CID = b.CID
	n.Tsize += uint64(len(enc))
	return b, n, nil
}

func decodeNode(data []byte) (*merkledag.ProtoNode, *unixfs.FSNode, error) {
	pb, err := merkledag.DecodeProtobuf(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	fs, err := unixfs.FSNodeFromBytes(pb.Data())
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return pb, fs, nil
}

// decodeDirectory reads a plain directory: every entry with a name, every name once.
func decodeDirectory(pb *merkledag.ProtoNode, fs *unixfs.FSNode) (map[string]cid.Cid, error) {
	if fs.Type() != unixfs.TDirectory {
		return nil, fmt.Errorf("%w: not a directory", ErrCorrupt)
	}
	entries := make(map[string]cid.Cid, len(pb.Links()))
	for _, l := range pb.Links() {
		if _, twice := entries[l.Name]; twice || !validName(l.Name) {
			return nil, fmt.Errorf("%w: directory with a bad entry", ErrCorrupt)
		}
		entries[l.Name] = l.Cid
	}
	return entries, nil
}

func validName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}
