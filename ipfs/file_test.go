package ipfs_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	unixfspb "github.com/ipfs/boxo/ipld/unixfs/pb"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// inMemory is a store of blocks that can also build nodes by hand.
type inMemory struct{ *storetest.Recorder }

func newMemory() inMemory {
	m := storetest.NewRecorder()
	m.Budget = budget
	return inMemory{m}
}

// A file reads back at any offset and in any pieces, from memory and, in a crowd, from the disk.
func TestFileReadsBackEverySize(t *testing.T) {
	for _, where := range []string{"in memory", "in a crowd"} {
		if where == "in a crowd" {
			crowd(t)
		}
		for i, size := range []int{0, 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 5} {
			data := storetest.Content(uint64(70+i), size)
			m := newMemory()
			f, err := storetest.OpenFile(t, m, storetest.AddFile(t, m.Add, data).CID)
			must.Succeed(t, err)
			if f.Size() != int64(size) {
				t.Errorf("%s, %d bytes: size %d", where, size, f.Size())
			}
			if err := iotest.TestReader(f, data); err != nil {
				t.Errorf("%s, %d bytes: %v", where, size, err)
			}
			must.Succeed(t, f.Close())
		}
	}
}

// A file that is read from front to back gets each block once, depth first, and only when it is
// needed.
func TestFileGetsEachBlockOnceInOrder(t *testing.T) {
	m := newMemory()
	// Small leaves give a tree of three levels without a gigabyte in it.
	var nodes []ipfs.Node
	var want []cid.Cid
	for i := range 3 {
		var leaves []ipfs.Node
		for j := range 4 {
			leaves = append(leaves, storetest.AddFile(t, m.Add, storetest.Content(uint64(10*i+j), 1000)))
			want = append(want, leaves[j].CID)
		}
		nodes = append(nodes, fileOver(m, leaves...))
		want = slices.Insert(want, 5*i, nodes[i].CID)
	}
	root := fileOver(m, nodes...)
	want = slices.Insert(want, 0, root.CID)

	f, err := storetest.OpenFile(t, m, root.CID)
	must.Succeed(t, err)
	for off := 0; off < 12000; off++ {
		_, err := io.ReadFull(f, make([]byte, 1))
		must.Succeed(t, err)
		if off%1000 == 0 {
			if got, due := len(m.Asked), slices.Index(want, nodes[off/4000].CID)+2+off/1000%4; got != due {
				t.Fatalf("byte %d: %d blocks requested, want %d", off, got, due)
			}
		}
	}
	if !slices.Equal(m.Asked, want) {
		t.Errorf("order: got %v, want %v", m.Asked, want)
	}
	if _, err := f.Read(make([]byte, 1)); err != io.EOF || len(m.Asked) != len(want) {
		t.Errorf("at the end: %v, %d blocks", err, len(m.Asked))
	}
}

// fileOver makes a node with the sizes that its children claim.
// The nodes of a large file count in the budget. Without memory for them, a file is read all the
// same, and gets its nodes again for each leaf.
func TestNodesOfALargeFileAreCounted(t *testing.T) {
	m := newMemory()
	var nodes []ipfs.Node
	var want []byte
	const each, leafSize = 300, 100
	for i := range 2 {
		var leaves []ipfs.Node
		for j := range each {
			data := storetest.Content(uint64(1000*i+j), leafSize)
			want = append(want, data...)
			leaves = append(leaves, storetest.AddFile(t, m.Add, data))
		}
		nodes = append(nodes, fileOver(m, leaves...))
	}
	root := fileOver(m, nodes...).CID
	before := budget.Used()
	f, err := ipfs.OpenFile(t.Context(), m, root)
	must.Succeed(t, err)
	_, err = io.ReadFull(f, make([]byte, leafSize))
	must.Succeed(t, err)
	if used := budget.Used(); used <= before {
		t.Error("300 links count nothing")
	}
	m.Asked = nil
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want[leafSize:]) || len(m.Asked) != 2*each {
		t.Errorf("%d bytes, %v, of %d blocks", len(got), err, len(m.Asked))
	}
	must.Succeed(t, f.Close())
	if used := budget.Used(); used != before {
		t.Errorf("%d bytes are still taken", used-before)
	}

	const step = 1000
	claimed := int64(0)
	for budget.Claim(step) {
		claimed += step
	}
	defer budget.Release(claimed)
	f, err = ipfs.OpenFile(t.Context(), m, root)
	must.Succeed(t, err)
	defer f.Close()
	m.Asked = nil
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
		t.Errorf("without memory: %d bytes, %v", len(got), err)
	}
	if blocks := len(m.Asked); blocks < 3*2*each-1 {
		t.Errorf("without memory: %d blocks, so the nodes were kept", blocks)
	}
}

func fileOver(m inMemory, children ...ipfs.Node) ipfs.Node {
	fs := unixfs.NewFSNode(unixfs.TFile)
	pb := new(merkledag.ProtoNode)
	var size uint64
	for _, c := range children {
		fs.AddBlockSize(c.Size)
		size += c.Size
		_ = pb.AddRawLink("", &format.Link{Cid: c.CID, Size: c.Tsize})
	}
	data, _ := fs.GetBytes()
	return ipfs.Node{CID: m.addNode(pb, data), Size: size}
}

func (m inMemory) addNode(pb *merkledag.ProtoNode, data []byte) cid.Cid {
	pb.SetData(data)
	pb.SetCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256})
	_ = m.Add(ipfs.Block{CID: pb.Cid(), Data: pb.RawData()})
	return pb.Cid()
}

// says makes a node with arbitrary claims about its children.
func (m inMemory) says(kind unixfspb.Data_DataType, inline string, filesize int64, sizes []uint64, links ...cid.Cid) cid.Cid {
	fs := unixfs.NewFSNode(kind)
	for _, s := range sizes {
		fs.AddBlockSize(s)
	}
	if inline != "" {
		fs.SetData([]byte(inline))
	}
	fs.UpdateFilesize(filesize)
	data, _ := fs.GetBytes()
	pb := new(merkledag.ProtoNode)
	for _, l := range links {
		_ = pb.AddRawLink("", &format.Link{Cid: l, Size: 1})
	}
	return m.addNode(pb, data)
}

func (m inMemory) leaf(s string) ipfs.Node {
	n, _ := ipfs.AddFile(m.Add, strings.NewReader(s))
	return n
}

func lying(n ipfs.Node, size uint64) ipfs.Node {
	n.Size = size
	return n
}

// hostileShapes are DAGs whose hashes match but that are not files of our form.
func hostileShapes(m inMemory) map[string]cid.Cid {
	abc := m.leaf("abc")
	deep, bomb := abc, m.leaf("x")
	for range 10 {
		deep = fileOver(m, deep)
		bomb = fileOver(m, slices.Repeat([]ipfs.Node{bomb}, 1000)...)
	}
	dir := m.says(unixfs.TDirectory, "", 0, nil)
	return map[string]cid.Cid{
		"leaf shorter than said": fileOver(m, lying(abc, 4)).CID,
		"leaf longer than said":  fileOver(m, lying(abc, 2)).CID,
		"node shorter than said": fileOver(m, lying(fileOver(m, abc), 4)).CID,
		"node longer than said":  fileOver(m, lying(fileOver(m, abc), 1)).CID,
		"second leaf lies":       fileOver(m, abc, lying(m.leaf("def"), 1<<62)).CID,
		"empty leaf":             fileOver(m, m.leaf(""), abc).CID,
		"sizes overflow":         fileOver(m, lying(abc, math.MaxUint64), lying(abc, 4)).CID,
		"sizes overflow int64":   fileOver(m, lying(abc, math.MaxInt64), lying(abc, 1)).CID,
		"size is not the sum":    m.says(unixfs.TFile, "", 5, []uint64{3}, abc.CID),
		"more links than sizes":  m.says(unixfs.TFile, "", 0, []uint64{3}, abc.CID, abc.CID),
		"more sizes than links":  m.says(unixfs.TFile, "", 0, []uint64{3, 3}, abc.CID),
		"no links":               m.says(unixfs.TFile, "", 0, nil),
		"inline data":            m.says(unixfs.TFile, "inline", 0, []uint64{3}, abc.CID),
		"inline data only":       m.says(unixfs.TFile, "inline", 0, nil),
		"raw type":               m.says(unixfs.TRaw, "", 0, []uint64{3}, abc.CID),
		"symlink":                m.says(unixfs.TSymlink, "/etc/passwd", 0, nil),
		"directory":              dir,
		"sharded directory":      m.says(unixfs.THAMTShard, "", 0, nil),
		"child is a directory":   fileOver(m, ipfs.Node{CID: dir, Size: 3}).CID,
		"too deep":               deep.CID,
		"too deep and wide":      bomb.CID,
		"not UnixFS":             m.addNode(new(merkledag.ProtoNode), []byte("\xff\xff")),
		"missing":                fileOver(m, ipfs.Node{CID: storetest.CIDOf(strings.NewReader("missing")), Size: 3}).CID,
	}
}

// hostileNames are DAGs whose CIDs match their blocks but are not of our form.
func hostileNames(m inMemory) map[string]cid.Cid {
	named := func(code, codec uint64) cid.Cid {
		h, _ := multihash.Sum([]byte("abc"), code, -1)
		c := cid.NewCidV1(codec, h)
		m.Blocks[c] = []byte("abc")
		return c
	}
	under := func(c cid.Cid) cid.Cid { return fileOver(m, ipfs.Node{CID: c, Size: 3}).CID }
	v0 := cid.NewCidV0(fileOver(m, m.leaf("abc")).CID.Hash())
	return map[string]cid.Cid{
		"not dag-pb":          named(multihash.SHA2_256, cid.DagProtobuf),
		"identity hash":       named(multihash.IDENTITY, cid.Raw),
		"identity hash below": under(named(multihash.IDENTITY, cid.Raw)),
		"sha1":                named(multihash.SHA1, cid.Raw),
		"sha2-512 below":      under(named(multihash.SHA2_512, cid.Raw)),
		"dbl-sha2-256":        named(multihash.DBL_SHA2_256, cid.Raw),
		"other codec below":   under(named(multihash.SHA2_256, cid.DagCBOR)),
		"CIDv0":               v0,
		"CIDv0 below":         under(v0),
		"undefined":           cid.Undef,
	}
}

func TestHostileShapesAreRefused(t *testing.T) {
	faults.Covers(t, 77)
	m := newMemory()
	bad := hostileShapes(m)
	maps.Copy(bad, hostileNames(m))
	for name, c := range bad {
		m.Asked = nil
		got, err := storetest.ReadBlocks(t.Context(), m, c)
		if !errors.Is(err, ipfs.ErrCorrupt) && (name != "missing" || !errors.Is(err, ipfs.ErrNotFound)) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
		if !strings.HasPrefix("abc", string(got)) {
			t.Errorf("%s: read %q", name, got)
		}
		if len(m.Asked) > 20 {
			t.Errorf("%s: requested %d blocks", name, len(m.Asked))
		}
		if err := ipfs.ExportCAR(t.Context(), io.Discard, m, c, "", 0); err == nil && !strings.Contains(name, "directory") {
			t.Errorf("%s: exported", name)
		}
	}
}

// Reading and exporting accept the same number of node levels in a file, whether the file is
// exported by its own CID, as an entry of a directory, or with the whole directory.
func TestDepthOfAFileIsBoundedAlike(t *testing.T) {
	m := newMemory()
	for _, tt := range []struct {
		levels int
		want   error
	}{{0, nil}, {5, nil}, {6, ipfs.ErrCorrupt}} {
		file := m.leaf("abc")
		for range tt.levels {
			file = fileOver(m, file)
		}
		dir, err := ipfs.AddDirectory(m.Add, ipfs.Entry{Name: "data", Node: file})
		must.Succeed(t, err)
		if _, err := storetest.ReadBlocks(t.Context(), m, file.CID); !errors.Is(err, tt.want) {
			t.Errorf("%d levels: read: %v, want %v", tt.levels, err, tt.want)
		}
		for _, at := range []struct {
			root  cid.Cid
			entry string
		}{{file.CID, ""}, {dir.CID, "data"}, {dir.CID, ""}} {
			if err := ipfs.ExportCAR(t.Context(), io.Discard, m, at.root, at.entry, 0); !errors.Is(err, tt.want) {
				t.Errorf("%d levels: export of %s, entry %q: %v, want %v", tt.levels, at.root, at.entry, err, tt.want)
			}
		}
	}
}

// An object is one directory of files: a directory in it is refused.
func TestDirectoryInADirectoryIsNotExported(t *testing.T) {
	m := newMemory()
	inner, err := ipfs.AddDirectory(m.Add, ipfs.Entry{Name: "data", Node: m.leaf("abc")})
	must.Succeed(t, err)
	outer, err := ipfs.AddDirectory(m.Add, ipfs.Entry{Name: "data", Node: inner})
	must.Succeed(t, err)
	for _, entry := range []string{"", "data"} {
		if err := ipfs.ExportCAR(t.Context(), io.Discard, m, outer.CID, entry, 0); !errors.Is(err, ipfs.ErrCorrupt) {
			t.Errorf("entry %q: %v, want ErrCorrupt", entry, err)
		}
	}
}

// A block that does not match the requested CID is refused before a byte of it is used.
func TestWrongBlockIsNeverRead(t *testing.T) {
	faults.Covers(t, 77)
	data := storetest.Content(80, 2<<20)
	for which := range 3 {
		for name, harm := range map[string]func([]byte) []byte{
			"flipped":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
			"cut":       func(b []byte) []byte { return b[:len(b)-1] },
			"empty":     func(b []byte) []byte { return nil },
			"longer":    func(b []byte) []byte { return append(b, 0) },
			"too large": func(b []byte) []byte { return make([]byte, ipfs.MaxBlock+1) },
		} {
			m := newMemory()
			n := storetest.AddFile(t, m.Add, data)
			m.Blocks[m.Added[which]] = harm(m.Blocks[m.Added[which]])
			got, err := storetest.ReadBlocks(t.Context(), m, n.CID)
			if want := min(which, 2) % 2 << 20; !errors.Is(err, ipfs.ErrCorrupt) || len(got) != want || !bytes.HasPrefix(data, got) {
				t.Errorf("%s, block %d: %d bytes, %v; want %d and ErrCorrupt", name, which, len(got), err, want)
			}
		}
	}
}

// After a failure of the store the next read tries again.
func TestFileTriesAgain(t *testing.T) {
	data := storetest.Content(81, 2<<20)
	m := newMemory()
	f, err := storetest.OpenFile(t, m, storetest.AddFile(t, m.Add, data).CID)
	must.Succeed(t, err)
	blocks := m.Blocks
	m.Blocks = nil
	if _, err := f.Read(make([]byte, 10)); !errors.Is(err, ipfs.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	m.Blocks = blocks
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data) {
		t.Errorf("second try: %d bytes, %v", len(got), err)
	}
}

func TestOpenDirectoryTakesOnlyWhatAddDirectoryWrites(t *testing.T) {
	m := newMemory()
	n := storetest.AddFile(t, m.Add, []byte("x"))
	d, err := ipfs.AddDirectory(m.Add, ipfs.Entry{Name: "b", Node: n}, ipfs.Entry{Name: "a", Node: n})
	must.Succeed(t, err)
	entries, err := ipfs.OpenDirectory(t.Context(), m, d.CID)
	if err != nil || len(entries) != 2 || entries["a"].CID != n.CID || entries["b"].Tsize != n.Tsize {
		t.Errorf("got %v, %v", entries, err)
	}
	if c, err := entries.CID(); err != nil || c != d.CID {
		t.Errorf("the entries give %s, %v, want %s", c, err, d.CID)
	}
	named := func(names ...string) cid.Cid {
		pb := new(merkledag.ProtoNode)
		for _, name := range names {
			_ = pb.AddRawLink(name, &format.Link{Cid: n.CID, Size: 1})
		}
		return m.addNode(pb, unixfs.FolderPBData())
	}
	raw := func(node []byte) cid.Cid {
		c, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}.Sum(node)
		must.Succeed(t, err)
		m.Blocks[c] = node
		return c
	}
	whole := m.Blocks[d.CID]
	link := (len(whole) - 4) / 2 // two links of one length, and 4 bytes of data
	for what, c := range map[string]cid.Cid{
		"file":          fileOver(m, n).CID,
		"leaf":          n.CID,
		"other order":   raw(slices.Concat(whole[link:2*link], whole[:link], whole[2*link:])),
		"data first":    raw(slices.Concat(whole[2*link:], whole[:2*link])),
		"long number":   raw(slices.Concat(whole[:len(whole)-1], []byte{0x81, 0})),
		"another field": raw(slices.Concat(whole, []byte{0x18, 1})),
		"no Tsize":      raw(slices.Concat([]byte{0x12, whole[1] - 2}, whole[2:link-2], whole[2*link:])),
		"same twice":    named("a", "a"),
		"no name":       named(""),
		"parent":        named(".."),
		"path":          named("a/b"),
	} {
		if got, err := ipfs.OpenDirectory(t.Context(), m, c); !errors.Is(err, ipfs.ErrCorrupt) {
			t.Errorf("%s: got %v %v, want ErrCorrupt", what, got, err)
		}
	}
}

// No block makes the reader panic or read forever.
func FuzzNode(f *testing.F) {
	m := newMemory()
	leaf := m.leaf("abc")
	f.Add(m.Blocks[fileOver(m, leaf, leaf).CID])
	d, _ := ipfs.AddDirectory(m.Add, ipfs.Entry{Name: "data", Node: leaf})
	f.Add(m.Blocks[d.CID])
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}.Sum(data)
		must.Succeed(t, err)
		m.Blocks[c] = data
		defer delete(m.Blocks, c)
		if file, err := storetest.OpenFile(t, m, c); err == nil {
			n, err := io.Copy(io.Discard, io.LimitReader(file, 1<<20))
			if err == nil && n != min(file.Size(), 1<<20) {
				t.Errorf("%d of %d bytes without an error", n, file.Size())
			}
		}
		_, _ = ipfs.OpenDirectory(t.Context(), m, c)
		_ = ipfs.ExportCAR(t.Context(), io.Discard, m, c, "", 0)
	})
}
