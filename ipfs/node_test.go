package ipfs

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	format "github.com/ipfs/go-ipld-format"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// Boxo is the oracle of this file: a node that we accept is the same node for boxo, and boxo
// encodes it to the same bytes.

// childrenOf makes n finished nodes of different sizes.
func childrenOf(n int) (children []Node) {
	for i := range n {
		leaf := newBlock(0x55, fmt.Appendf(nil, "leaf %d", i))
		children = append(children, Node{CID: leaf.CID, Size: uint64(i)<<20 + 1, Tsize: uint64(i)})
	}
	return children
}

func entriesOf(names ...string) (entries []Entry) {
	for i, n := range childrenOf(len(names)) {
		entries = append(entries, Entry{names[i], n})
	}
	return entries
}

func boxoDecodes(data []byte) (*merkledag.ProtoNode, *unixfs.FSNode, error) {
	pb, err := merkledag.DecodeProtobuf(data)
	if err != nil {
		return nil, nil, err
	}
	fs, err := unixfs.FSNodeFromBytes(pb.Data())
	return pb, fs, err
}

// boxoEncodes encodes a node with boxo and compares it with ours.
func boxoEncodes(tb testing.TB, entries []Entry, data, ours []byte) {
	tb.Helper()
	pb := new(merkledag.ProtoNode)
	for _, e := range entries {
		must.Succeed(tb, pb.AddRawLink(e.Name, &format.Link{Cid: e.Node.CID, Size: e.Node.Tsize}))
	}
	pb.SetData(data)
	if want, err := pb.EncodeProtobuf(true); err != nil || !bytes.Equal(ours, want) {
		tb.Errorf("got  %x\nboxo %x, %v", ours, want, err)
	}
}

func boxoEncodesFile(tb testing.TB, children []Node, ours []byte) {
	tb.Helper()
	fs := unixfs.NewFSNode(unixfs.TFile)
	var entries []Entry
	for _, c := range children {
		fs.AddBlockSize(c.Size)
		entries = append(entries, Entry{Node: c})
	}
	data, err := fs.GetBytes()
	must.Succeed(tb, err)
	boxoEncodes(tb, entries, data, ours)
}

func boxoSaysFile(tb testing.TB, data []byte, n *fileNode) {
	tb.Helper()
	pb, fs, err := boxoDecodes(data)
	must.Succeed(tb, err)
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

func boxoSaysDirectory(tb testing.TB, data []byte, entries []Entry) {
	tb.Helper()
	pb, fs, err := boxoDecodes(data)
	must.Succeed(tb, err)
	var got []Entry
	for _, l := range pb.Links() {
		got = append(got, Entry{l.Name, Node{CID: l.Cid, Tsize: l.Size}})
	}
	byName := func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) } // boxo sorts links on reading
	slices.SortStableFunc(got, byName)
	slices.SortStableFunc(entries, byName)
	if !fs.IsDir() || !slices.Equal(got, entries) {
		tb.Fatalf("boxo has %v with %v, want a directory with %v", fs.Type(), got, entries)
	}
}

func TestNodesAreEncodedAndDecodedAsByBoxo(t *testing.T) {
	for _, n := range []int{1, 2, 174, 1024} {
		block, _ := encodeFileNode(childrenOf(n))
		boxoEncodesFile(t, childrenOf(n), block.Data)
		node, err := decodeFileNode(block.Data)
		if err != nil || len(node.links) != n {
			t.Fatalf("%d children: %v", n, err)
		}
		boxoSaysFile(t, block.Data, node)
	}
	for _, names := range [][]string{nil, {"data"}, {"meta.jwe", "data"}, {"b", "a", "ä", "aa", " "}} {
		entries := entriesOf(names...)
		block, _ := encodeDirectory(entries)
		boxoEncodes(t, entries, unixfs.FolderPBData(), block.Data)
		got, err := decodeDirectory(block.Data)
		if err != nil || len(got) != len(names) {
			t.Fatalf("%q: %v, %v", names, got, err)
		}
		boxoSaysDirectory(t, block.Data, got)
	}
}

func TestFileNodeIsDecodedInFewAllocations(t *testing.T) {
	block, _ := encodeFileNode(childrenOf(1024))
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := decodeFileNode(block.Data); err != nil {
			t.Error(err)
		}
	})
	if allocs > 12 {
		t.Errorf("a node of 1024 links takes %.0f allocations, want at most 12", allocs)
	}
}

func FuzzFileNode(f *testing.F) {
	for _, n := range []int{1, 2, 3, 10} {
		block, _ := encodeFileNode(childrenOf(n))
		f.Add(block.Data)
	}
	f.Add(unixfs.FolderPBData())
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := decodeFileNode(data)
		if err == nil {
			boxoSaysFile(t, data, n)
			return
		}
		pb, fs, boxoErr := boxoDecodes(data)
		if boxoErr != nil || fs.NumChildren() != len(pb.Links()) || len(pb.Links()) == 0 {
			return
		}
		var children []Node
		for i, l := range pb.Links() {
			if fs.BlockSize(i) == 0 || fs.BlockSize(i) > 1<<40 || !isRaw(l.Cid) && !isNode(l.Cid) {
				return
			}
			children = append(children, Node{CID: l.Cid, Size: fs.BlockSize(i), Tsize: l.Size})
		}
		if again, _ := encodeFileNode(children); bytes.Equal(again.Data, data) {
			t.Errorf("%x is not taken: %v", data, err)
		}
	})
}

func FuzzDirectoryNode(f *testing.F) {
	for _, names := range [][]string{nil, {"data"}, {"b", "a", "ä"}} {
		block, _ := encodeDirectory(entriesOf(names...))
		f.Add(block.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := decodeDirectory(data)
		if err == nil {
			boxoSaysDirectory(t, data, entries)
			return
		}
		pb, fs, boxoErr := boxoDecodes(data)
		if boxoErr != nil || !fs.IsDir() {
			return
		}
		var ours []Entry
		for _, l := range pb.Links() {
			if !validName(l.Name) || !isRaw(l.Cid) && !isNode(l.Cid) || slices.ContainsFunc(ours, func(e Entry) bool { return e.Name == l.Name }) {
				return
			}
			ours = append(ours, Entry{l.Name, Node{CID: l.Cid, Tsize: l.Size}})
		}
		if again, _ := encodeDirectory(ours); bytes.Equal(again.Data, data) {
			t.Errorf("%x is not taken: %v", data, err)
		}
	})
}
