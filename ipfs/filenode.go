package ipfs

import (
	"fmt"
	"math"
	"sort"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	"google.golang.org/protobuf/encoding/protowire"
)

// fileNode is an interior node of a file: its children and where in it each of them ends.
type fileNode struct {
	links [][cidLen]byte // CIDs of our form
	ends  []int64
}

func (n *fileNode) size() int64 { return n.ends[len(n.ends)-1] }

// link returns the CID of a child.
func (n *fileNode) link(i int) cid.Cid {
	c, err := cid.Cast(n.links[i][:])
	if err != nil {
		panic(err) // it is of our form
	}
	return c
}

// child returns the child that holds the byte at off, and the part of the node it covers.
func (n *fileNode) child(off int64) (c cid.Cid, start, size int64) {
	i := sort.Search(len(n.ends), func(i int) bool { return n.ends[i] > off })
	if i > 0 {
		start = n.ends[i-1]
	}
	return n.link(i), start, n.ends[i] - start
}

// encodeFileNode makes the interior node over children.
func encodeFileNode(children []Node) (Block, Node, error) {
	pb, fs := new(merkledag.ProtoNode), unixfs.NewFSNode(unixfs.TFile)
	sum := Node{}
	for _, c := range children {
		if err := pb.AddRawLink("", &format.Link{Cid: c.CID, Size: c.Tsize}); err != nil {
			return Block{}, Node{}, fmt.Errorf("encode node: %w", err)
		}
		fs.AddBlockSize(c.Size)
		sum.Size += c.Size
		sum.Tsize += c.Tsize
	}
	data, err := fs.GetBytes()
	if err != nil {
		return Block{}, Node{}, fmt.Errorf("encode node: %w", err)
	}
	return encodeNode(pb, data, sum)
}

// The fields of a dag-pb node and its links (ipld.io/specs/codecs/dag-pb/spec), and of the UnixFS node in its data
// (specs.ipfs.tech/unixfs).
const (
	nodeData, nodeLink                    = 1, 2
	linkHash, linkName, linkSize          = 1, 2, 3
	fsType, fsSize, fsBlockSize, fsIsFile = 1, 3, 4, 2
)

// decodeFileNode reads an interior node, of the form that encodeFileNode gives it. Its own sizes must agree; whether the
// children keep to them is checked when they are reached. What it takes, boxo takes to say the same; but a node of 1,024
// links is read for each range of a file, and boxo makes three objects of every link.
func decodeFileNode(block []byte) (*fileNode, error) {
	n := &fileNode{links: make([][cidLen]byte, 0, len(block)/(cidLen+4))}
	var data []byte
	err := eachField(block, func(num protowire.Number, value []byte, _ uint64) error {
		switch {
		case num == nodeLink && data == nil: // the links come first
			hash, err := decodeLink(value)
			n.links = append(n.links, hash)
			return err
		case num == nodeData && data == nil && value != nil:
			data = value
			return nil
		}
		return fmt.Errorf("%w: node with a field %d", ErrCorrupt, num)
	})
	if err != nil {
		return nil, err
	}
	if err := n.decodeSizes(data); err != nil {
		return nil, err
	}
	return n, nil
}

// decodeLink returns the CID of a link. Its name is empty in a file, and its size says nothing about the file.
func decodeLink(link []byte) (hash [cidLen]byte, err error) {
	last := protowire.Number(0)
	err = eachField(link, func(num protowire.Number, value []byte, _ uint64) error {
		inOrder := num > last && (last > 0 || num == linkHash)
		last = num
		switch {
		case inOrder && num == linkHash && isOurs(value):
			copy(hash[:], value)
			return nil
		case inOrder && num == linkName && value != nil, inOrder && num == linkSize && value == nil:
			return nil
		}
		return errLink
	})
	if err == nil && last == 0 {
		err = errLink
	}
	return hash, err
}

// isOurs says whether a binary CID is of our form.
func isOurs(c []byte) bool {
	return len(c) == cidLen && (string(c[:4]) == rawPrefix || string(c[:4]) == pbPrefix)
}

// decodeSizes reads what the node's data says of its children.
func (n *fileNode) decodeSizes(data []byte) error {
	n.ends = make([]int64, 0, len(n.links))
	var end, size uint64
	isFile := false
	err := eachField(data, func(num protowire.Number, value []byte, number uint64) error {
		switch {
		case num == fsType && value == nil:
			isFile = number == fsIsFile
		case num == fsSize && value == nil:
			size = number
		case num == fsBlockSize && value == nil:
			// No child is empty, so none can be visited without getting nearer to the end.
			if number == 0 || number > math.MaxInt64-end {
				return fmt.Errorf("%w: node has a child of %d bytes", ErrCorrupt, number)
			}
			end += number
			n.ends = append(n.ends, int64(end))
		default: // bytes of its own, or what only directories have
			return fmt.Errorf("%w: node of a file with a field %d", ErrCorrupt, num)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !isFile:
		return fmt.Errorf("%w: node is not a file", ErrCorrupt)
	case len(n.links) == 0 || len(n.links) != len(n.ends):
		return fmt.Errorf("%w: node has %d links and %d sizes", ErrCorrupt, len(n.links), len(n.ends))
	case size != end:
		return fmt.Errorf("%w: node says %d bytes, its children %d", ErrCorrupt, size, end)
	}
	return nil
}

// eachField gives the fields of a protobuf message: value is nil for a number.
func eachField(message []byte, each func(num protowire.Number, value []byte, number uint64) error) error {
	for len(message) > 0 {
		num, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errField
		}
		message = message[n:]
		var value []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(message)
		default:
			return errField
		}
		if n < 0 {
			return errField
		}
		message = message[n:]
		if err := each(num, value, number); err != nil {
			return err
		}
	}
	return nil
}

var (
	errLink  = fmt.Errorf("%w: a link that is not of our form", ErrCorrupt)
	errField = fmt.Errorf("%w: a node that is no protobuf of numbers and bytes", ErrCorrupt)
)
