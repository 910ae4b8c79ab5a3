package vectors

import (
	"encoding/binary"
)

// Block is a block of an object.
type Block struct {
	CID  string `json:"cid"`
	Data []byte `json:"data"`
}

// blocks collects the blocks of one object.
type blocks []Block

// link is a link of a dag-pb node: to the file or directory with this CID.
type link struct {
	name  string
	cid   []byte
	size  uint64 // bytes of content
	tsize uint64 // bytes of all blocks
}

const (
	raw   = 0x55
	dagPB = 0x70
)

func cidOf(codec byte, block []byte) []byte { return join([]byte{1, codec, 0x12, 0x20}, sum(block)) }
func text(cid []byte) string                { return "b" + b32(cid) }

func (b *blocks) add(codec byte, block []byte) []byte {
	cid := cidOf(codec, block)
	*b = append(*b, Block{text(cid), block})
	return cid
}

// file adds a file of at most 1024 leaves.
func (b *blocks) file(name string, content []byte) link {
	const chunk = 1 << 20
	if len(content) <= chunk {
		return link{name, b.add(raw, content), uint64(len(content)), uint64(len(content))}
	}
	var leaves []link
	for at := 0; at < len(content); at += chunk {
		leaf := content[at:min(at+chunk, len(content))]
		leaves = append(leaves, link{"", b.add(raw, leaf), uint64(len(leaf)), uint64(len(leaf))})
	}
	return b.interior(name, leaves)
}

func (b *blocks) interior(name string, leaves []link) link {
	unixFS := numbers(1, 2) // a file
	sum := link{name: name}
	for _, l := range leaves {
		sum.size, sum.tsize = sum.size+l.size, sum.tsize+l.tsize
	}
	unixFS = join(unixFS, numbers(3, sum.size))
	for _, l := range leaves {
		unixFS = join(unixFS, numbers(4, l.size))
	}
	block := encodeNode(leaves, unixFS)
	sum.cid = b.add(dagPB, block)
	sum.tsize += uint64(len(block))
	return sum
}

// directory encodes a directory of these links, in their order.
func directory(links []link) []byte { return encodeNode(links, numbers(1, 1)) }

func encodeNode(links []link, unixFS []byte) (block []byte) {
	for _, l := range links {
		block = join(block, bytesField(2, join(bytesField(1, l.cid), bytesField(2, []byte(l.name)), numbers(3, l.tsize))))
	}
	return join(block, bytesField(1, unixFS))
}

func numbers(field byte, n uint64) []byte { return binary.AppendUvarint([]byte{field << 3}, n) }

func bytesField(field byte, value []byte) []byte {
	return append(binary.AppendUvarint([]byte{field<<3 | 2}, uint64(len(value))), value...)
}
