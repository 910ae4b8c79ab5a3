package ipfs

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/ipfs/go-cid"
)

// A dag-pb node is a protobuf message: its links, then its data, which is a UnixFS message
// (https://ipld.io/specs/codecs/dag-pb/spec/, https://specs.ipfs.tech/unixfs/). Boxo encodes the
// same bytes and reads them as the same node; the fuzz targets compare.
const (
	nodeData, nodeLink           = 1, 2
	linkHash, linkName, linkSize = 1, 2, 3
	fsType, fsSize, fsBlockSize  = 1, 3, 4
	fsIsFile                     = 2
	directoryData                = "\x08\x01" // the UnixFS message of every directory: its type
)

var (
	errLink         = fmt.Errorf("%w: a link that is not of our form", ErrCorrupt)
	errDirectory    = fmt.Errorf("%w: a directory that is not of our form", ErrCorrupt)
	errNotDirectory = fmt.Errorf("%w: not a directory", ErrCorrupt)
	errField        = fmt.Errorf("%w: a node that is not a protobuf of numbers and bytes", ErrCorrupt)
)

// fileNode is an interior node of a file.
type fileNode struct {
	links [][cidLen]byte // its children, CIDs of our form
	ends  []int64        // offsets in the node at which the children end
}

// linkMemory is what a node takes for each link.
const linkMemory = cidLen + 8

func (n *fileNode) size() int64 { return n.ends[len(n.ends)-1] }

// link returns the CID of a child.
func (n *fileNode) link(i int) cid.Cid { return castCID(n.links[i]) }

func castCID(hash [cidLen]byte) cid.Cid {
	c, err := cid.Cast(hash[:])
	if err != nil {
		panic(err) // it is of our form
	}
	return c
}

// find returns the child that holds the byte at off, and the child's start and size in the node.
func (n *fileNode) find(off int64) (i int, start, size int64) {
	i = sort.Search(len(n.ends), func(i int) bool { return n.ends[i] > off })
	if i > 0 {
		start = n.ends[i-1]
	}
	return i, start, n.ends[i] - start
}

// encodeFileNode makes the interior node over children.
func encodeFileNode(children []Node) (Block, Node) {
	var node, data []byte
	var sum Node
	for _, c := range children {
		node = appendLink(node, "", c)
		sum.Size += c.Size
		sum.Tsize += c.Tsize
	}
	data = appendNumber(data, fsType, fsIsFile)
	data = appendNumber(data, fsSize, sum.Size)
	for _, c := range children {
		data = appendNumber(data, fsBlockSize, c.Size)
	}
	return finishNode(appendBytes(node, nodeData, data), sum)
}

// encodeDirectory makes a directory, its links sorted by name.
func encodeDirectory(entries []Entry) (Block, Node) {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	var sum Node
	for _, e := range entries {
		sum.Size += e.Node.Size
		sum.Tsize += e.Node.Tsize
	}
	return finishNode(directoryBytes(entries), sum)
}

// directoryBytes returns the block of a directory whose entries are sorted.
func directoryBytes(entries []Entry) []byte {
	node := make([]byte, 0, len(entries)*usualLink+len(directoryData)+2)
	for _, e := range entries {
		node = appendLink(node, e.Name, e.Node)
	}
	return appendBytes(node, nodeData, directoryData)
}

// usualLink is about what a link of a directory takes, in bytes.
const usualLink = 64

func finishNode(data []byte, sum Node) (Block, Node) {
	b := newBlock(cid.DagProtobuf, data)
	sum.CID = b.CID
	sum.Tsize += uint64(len(data))
	return b, sum
}

func appendLink(node []byte, name string, n Node) []byte {
	var room [2 * usualLink]byte
	link := appendBytes(room[:0], linkHash, n.CID.KeyString())
	link = appendBytes(link, linkName, name)
	link = appendNumber(link, linkSize, n.Tsize)
	return appendBytes(node, nodeLink, link)
}

// Nodes have two kinds of protobuf fields (https://protobuf.dev/programming-guides/encoding/).
const wireNumber, wireBytes = 0, 2

func appendNumber(message []byte, field, value uint64) []byte {
	message = binary.AppendUvarint(message, field<<3|wireNumber)
	return binary.AppendUvarint(message, value)
}

func appendBytes[T string | []byte](message []byte, field uint64, value T) []byte {
	message = binary.AppendUvarint(message, field<<3|wireBytes)
	message = binary.AppendUvarint(message, uint64(len(value)))
	return append(message, value...)
}

// decodeDirectory reads a plain directory. It accepts only the bytes that encodeDirectory writes
// for the entries: one directory has one CID, so a reader can compute it from the entries. The
// nodes that it returns have no Size.
func decodeDirectory(block []byte) ([]Entry, error) {
	var entries []Entry
	good := true // the node of a file has links without names
	data, err := decodeNode(block, func(hash [cidLen]byte, name []byte, tsize uint64) error {
		if good = good && validName(string(name)) && len(entries) < maxDirect; good {
			entries = append(entries, Entry{string(name), Node{CID: castCID(hash), Tsize: tsize}})
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case string(data) != directoryData:
		return nil, errNotDirectory
	case !good:
		return nil, errDirectory
	}
	for i := range entries[min(1, len(entries)):] {
		good = good && entries[i].Name < entries[i+1].Name
	}
	if !good || !bytes.Equal(directoryBytes(entries), block) {
		return nil, errDirectory
	}
	return entries, nil
}

// lookUp returns the CID of a directory's entry, or ErrNotFound.
func lookUp(directory []byte, name string) (cid.Cid, error) {
	entries, err := decodeDirectory(directory)
	if err != nil {
		return cid.Undef, err
	}
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return cid.Undef, fmt.Errorf("%w: no entry %q", ErrNotFound, name)
	}
	return entries[i].Node.CID, nil
}

func validName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// decodeFileNode reads an interior node of a file. The sizes in the node must agree with each
// other; the children are checked against them when they are read. A small range of a file may need
// a node of 1,024 links, so links are not allocated one by one.
func decodeFileNode(block []byte) (*fileNode, error) {
	n := &fileNode{links: make([][cidLen]byte, 0, len(block)/(cidLen+4))}
	data, err := decodeNode(block, func(hash [cidLen]byte, _ []byte, _ uint64) error {
		n.links = append(n.links, hash)
		return nil
	})
	if err == nil {
		err = n.decodeSizes(data)
	}
	if err != nil {
		return nil, err
	}
	return n, nil
}

// decodeSizes reads the children's sizes from the node's data.
func (n *fileNode) decodeSizes(data []byte) error {
	n.ends = make([]int64, 0, len(n.links))
	var end, size uint64
	isFile := false
	err := eachField(data, func(field uint64, value []byte, number uint64) error {
		switch {
		case field == fsType && value == nil:
			isFile = number == fsIsFile
		case field == fsSize && value == nil:
			size = number
		case field == fsBlockSize && value == nil:
			// An empty child is refused: a reader must make progress with every child.
			if number == 0 || number > math.MaxInt64-end {
				return fmt.Errorf("%w: node has a child of %d bytes", ErrCorrupt, number)
			}
			end += number
			n.ends = append(n.ends, int64(end))
		default: // inline data, or a field of directories
			return fmt.Errorf("%w: node of a file with a field %d", ErrCorrupt, field)
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

// LeavesOf returns the raw blocks that a node of a file links to, in order. For any other block it
// returns nil. The block need not be verified.
func LeavesOf(block []byte) (leaves []cid.Cid) {
	n, err := decodeFileNode(block)
	if err != nil {
		return nil
	}
	for i := range n.links {
		if c := n.link(i); isRaw(c) {
			leaves = append(leaves, c)
		}
	}
	return leaves
}

// decodeNode reads a dag-pb node. It calls link for each link in order, and returns the data. Links
// must come before the data.
func decodeNode(block []byte, link func(hash [cidLen]byte, name []byte, tsize uint64) error) (data []byte, err error) {
	err = eachField(block, func(field uint64, value []byte, _ uint64) error {
		switch {
		case field == nodeLink && data == nil && value != nil:
			hash, name, tsize, err := decodeLink(value)
			if err != nil {
				return err
			}
			return link(hash, name, tsize)
		case field == nodeData && data == nil && value != nil:
			data = value
			return nil
		}
		return fmt.Errorf("%w: node with a field %d", ErrCorrupt, field)
	})
	return data, err
}

// decodeLink returns the CID, the name and the Tsize of a link. The fields must be in order, the
// CID first. The Tsize says nothing about the file, and no block proves it right.
func decodeLink(link []byte) (hash [cidLen]byte, name []byte, tsize uint64, err error) {
	last := uint64(0)
	err = eachField(link, func(field uint64, value []byte, number uint64) error {
		inOrder := field > last && (last > 0 || field == linkHash)
		last = field
		switch {
		case inOrder && field == linkHash && isOurs(value):
			copy(hash[:], value)
		case inOrder && field == linkName && value != nil:
			name = value
		case inOrder && field == linkSize && value == nil:
			tsize = number
		default:
			return errLink
		}
		return nil
	})
	if err == nil && last == 0 {
		err = errLink
	}
	return hash, name, tsize, err
}

// isOurs reports whether the bytes of a CID are of our form.
func isOurs(c []byte) bool {
	return len(c) == cidLen && (string(c[:4]) == rawPrefix || string(c[:4]) == pbPrefix)
}

// eachField calls each for every field of a protobuf message. value is nil for a number.
func eachField(message []byte, each func(field uint64, value []byte, number uint64) error) error {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 {
			return errField
		}
		v, m := binary.Uvarint(message[n:])
		if m <= 0 {
			return errField
		}
		message = message[n+m:]
		var value []byte
		switch {
		case tag&7 == wireBytes && v <= uint64(len(message)):
			value, message = message[:v:v], message[v:]
		case tag&7 != wireNumber:
			return errField
		}
		if err := each(tag>>3, value, v); err != nil {
			return err
		}
	}
	return nil
}
