package ipfs

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
)

// nodeOf is a node over n children of different sizes.
func nodeOf(tb testing.TB, n int) []byte {
	tb.Helper()
	var children []Node
	for i := range n {
		leaf := newBlock(0x55, fmt.Appendf(nil, "leaf %d", i))
		children = append(children, Node{CID: leaf.CID, Size: uint64(i)<<20 + 1, Tsize: uint64(i)})
	}
	block, _, err := encodeFileNode(children)
	if err != nil {
		tb.Fatal(err)
	}
	return block.Data
}

// boxoSays decodes a node with boxo, and compares.
func boxoSays(tb testing.TB, data []byte, n *fileNode) {
	tb.Helper()
	pb, err := merkledag.DecodeProtobuf(data)
	if err != nil {
		tb.Fatal(err)
	}
	fs, err := unixfs.FSNodeFromBytes(pb.Data())
	if err != nil {
		tb.Fatal(err)
	}
	if fs.Type() != unixfs.TFile || len(fs.Data()) > 0 || fs.FileSize() != uint64(n.size()) || len(pb.Links()) != len(n.links) || fs.NumChildren() != len(n.ends) {
		tb.Fatalf("boxo has a node of type %v, %d bytes, %d links: want a file of %d with %d", fs.Type(), fs.FileSize(), len(pb.Links()), n.size(), len(n.links))
	}
	end := int64(0)
	for i, l := range pb.Links() {
		end += int64(fs.BlockSize(i))
		if l.Cid != n.link(i) || end != n.ends[i] {
			tb.Fatalf("boxo's link %d is %s and ends at %d: want %s and %d", i, l.Cid, end, n.link(i), n.ends[i])
		}
	}
}

func TestFileNode(t *testing.T) {
	for _, children := range []int{1, 2, 174, 1024} {
		data := nodeOf(t, children)
		n, err := decodeFileNode(data)
		if err != nil || len(n.links) != children {
			t.Fatalf("%d children: %v", children, err)
		}
		boxoSays(t, data, n)
	}
	large := nodeOf(t, 1024)
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := decodeFileNode(large); err != nil {
			t.Error(err)
		}
	})
	if allocs > 12 {
		t.Errorf("a node of 1024 links takes %.0f allocations, want at most 12", allocs)
	}
}

// What is taken for a node of a file, boxo takes for the same. A node that ours made is taken.
func FuzzFileNode(f *testing.F) {
	for _, children := range []int{1, 2, 3, 10} {
		f.Add(nodeOf(f, children))
	}
	f.Add(unixfs.FolderPBData())
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := decodeFileNode(data)
		if err == nil {
			boxoSays(t, data, n)
			return
		}
		pb, err := merkledag.DecodeProtobuf(data)
		if err != nil {
			return
		}
		fs, err := unixfs.FSNodeFromBytes(pb.Data())
		if err != nil || fs.NumChildren() != len(pb.Links()) || len(pb.Links()) == 0 {
			return
		}
		var children []Node
		for i, l := range pb.Links() {
			if fs.BlockSize(i) == 0 || fs.BlockSize(i) > 1<<40 || !isRaw(l.Cid) && !isNode(l.Cid) {
				return
			}
			children = append(children, Node{CID: l.Cid, Size: fs.BlockSize(i), Tsize: l.Size})
		}
		if again, _, err := encodeFileNode(children); err == nil && bytes.Equal(again.Data, data) {
			t.Errorf("%x is not taken: %v", data, err)
		}
	})
}
