package vectors

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// path is the way from a tree's root to a leaf, most significant bit first.
type path uint64

// pathOf returns the path of the object with this core.
func pathOf(core []byte) path { return path(binary.BigEndian.Uint64(core[4:12])) }

func child(node []byte, bit path) []byte { return mac(node, []byte{byte(bit)}) }

// leaf returns the node at depth 64.
func leaf(root []byte, p path) []byte {
	for depth := range 64 {
		root = child(root, p>>(63-depth)&1)
	}
	return root
}

// cover returns the nodes that are left of a tree without these leaves, from left to right. It
// divides the set at each node: no paths below it leave the node, and a path at depth 64 is gone.
func cover(node []byte, depth int, punctured []path) [][]byte {
	if len(punctured) == 0 {
		return [][]byte{node}
	}
	if depth == 64 {
		return nil
	}
	var sides [2][]path
	for _, p := range punctured {
		bit := p >> (63 - depth) & 1
		sides[bit] = append(sides[bit], p)
	}
	left := cover(child(node, 0), depth+1, sides[0])
	return append(left, cover(child(node, 1), depth+1, sides[1])...)
}

// keyFile is an epoch's key file.
type keyFile struct {
	end           string
	service, root []byte
	punctured     []path
}

// id is the second part of the epoch's name.
func id(service []byte) string { return b32(derive(service, "detach/v1 epoch id")[:5]) }

func (k keyFile) epoch() string { return k.end + "." + id(k.service) }

func (k keyFile) encode() []byte {
	paths := slices.Compact(slices.Sorted(slices.Values(k.punctured)))
	return seal(join([]byte("detach/v1 key\n"), k.service, encodePaths(paths), bytes.Join(cover(k.root, 0, paths), nil)))
}

// encodePaths writes the count and the paths, in any order.
func encodePaths(paths []path) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(paths)))
	for _, p := range paths {
		b = binary.BigEndian.AppendUint64(b, uint64(p))
	}
	return b
}

// seal adds the checksum of a key file.
func seal(b []byte) []byte { return join(b, sum(b)) }

// without returns the key file after these leaves were punctured.
func (k keyFile) without(paths ...path) keyFile {
	k.punctured = slices.Concat(k.punctured, paths)
	return k
}

// The key files of the vectors: of a month, of the same month on another machine, of a day, and of
// a later day.
var (
	monthKey = keyFile{end: "2026-11", service: sequence(0x40, 32), root: sequence(0x60, 32)}
	otherKey = keyFile{end: "2026-11", service: sequence(0x48, 32), root: sequence(0x68, 32)}
	dayKey   = keyFile{end: "2026-12-22", service: sequence(0x80, 32), root: sequence(0xa0, 32)}
	laterKey = keyFile{end: "2027-02-28", service: sequence(0xc0, 32), root: sequence(0xe0, 32)}
)

// Tree is a tree before or after leaves were destroyed.
type Tree struct {
	Comment   string     `json:"comment"`
	Root      Hex        `json:"root"`
	Punctured []Hex      `json:"punctured"` // paths, ascending
	Cover     []Hex      `json:"cover,omitempty"`
	Nodes     int        `json:"nodes"`        // of the cover
	CoverSum  Hex        `json:"cover_sha256"` // of the joined cover
	Leaves    []TreeLeaf `json:"leaves"`
}

// TreeLeaf is a leaf: its path has 8 bytes. Leaf is empty if the leaf was destroyed.
type TreeLeaf struct {
	Path Hex `json:"path"`
	Leaf Hex `json:"leaf"`
}

func hexPath(p path) Hex { return binary.BigEndian.AppendUint64(nil, uint64(p)) }

func makeTree(comment string, paths []path, probe ...path) Tree {
	root := sequence(0x60, 32)
	paths = slices.Sorted(slices.Values(paths))
	nodes := cover(root, 0, paths)
	t := Tree{Comment: comment, Root: root, Nodes: len(nodes), CoverSum: sum(bytes.Join(nodes, nil)), Punctured: []Hex{}}
	for _, p := range paths {
		t.Punctured = append(t.Punctured, hexPath(p))
	}
	if len(paths) < 2 {
		for _, n := range nodes {
			t.Cover = append(t.Cover, n)
		}
	}
	for _, p := range probe {
		l := TreeLeaf{hexPath(p), nil}
		if !slices.Contains(paths, p) {
			l.Leaf = leaf(root, p)
		}
		t.Leaves = append(t.Leaves, l)
	}
	return t
}

func trees() []Tree {
	const some = path(0x0123456789abcdef)
	var many []path
	for i := range 1000 {
		many = append(many, path(binary.BigEndian.Uint64(sum([]byte{byte(i >> 8), byte(i)}))))
	}
	return []Tree{
		makeTree("a whole tree: the cover is its root", nil, 0, some, 1<<63, ^path(0)),
		makeTree("one leaf is destroyed: 64 nodes are left", []path{some}, some, some^1, some+1, some-1, some^1<<63, 0, ^path(0)),
		makeTree("the leftmost leaf", []path{0}, 0, 1, 2, 1<<63),
		makeTree("the rightmost leaf", []path{^path(0)}, ^path(0), ^path(1), 0),
		makeTree("neighbours that differ in the last bit", []path{some, some ^ 1}, some, some^1, some+1, some-2),
		makeTree("neighbours that differ in the first bit", []path{some, some ^ 1<<63}, some, some^1<<63, some^1<<62, 0),
		makeTree("1000 leaves", many, many[0], many[0]^1, many[999], many[999]^1<<40, some),
	}
}

// KeyFiles are key files and how they merge.
type KeyFiles struct {
	Files  []KeyFile `json:"files"`
	Merges []Merge   `json:"merges"`
}

// KeyFile is the content of a key file. Expect is "ok" or "malformed".
type KeyFile struct {
	Comment   string `json:"comment"`
	Epoch     string `json:"epoch"`
	File      Hex    `json:"file"`
	Expect    string `json:"expect"`
	Service   Hex    `json:"service_secret,omitempty"`
	Punctured []Hex  `json:"punctured,omitempty"`
}

// Merge is two copies of one key file from which different leaves were destroyed, and their union.
type Merge struct {
	Comment string `json:"comment"`
	Epoch   string `json:"epoch"`
	A       Hex    `json:"a"`
	B       Hex    `json:"b"`
	Merged  Hex    `json:"merged"`
}

func keyFiles() KeyFiles {
	const some = path(0x0123456789abcdef)
	one, two := monthKey.without(some), monthKey.without(some^1, 1<<63)
	good := func(comment string, k keyFile) KeyFile {
		f := KeyFile{comment, k.epoch(), k.encode(), "ok", k.service, nil}
		for _, p := range slices.Sorted(slices.Values(k.punctured)) {
			f.Punctured = append(f.Punctured, hexPath(p))
		}
		return f
	}
	return KeyFiles{
		append([]KeyFile{
			good("a new key file: the cover is the root", monthKey),
			good("of a day", dayKey),
			good("one leaf is destroyed", one),
			good("three leaves are destroyed", two.without(some)),
		}, badKeyFiles(some)...),
		[]Merge{
			{"a punctured copy and the whole one", monthKey.epoch(), one.encode(), monthKey.encode(), one.encode()},
			{"copies from which neighbours were destroyed", monthKey.epoch(), one.encode(), two.encode(), one.without(two.punctured...).encode()},
			{"the same leaf in both", monthKey.epoch(), one.encode(), one.without(7).encode(), one.without(7).encode()},
		},
	}
}

func badKeyFiles(some path) []KeyFile {
	whole, one := monthKey.encode(), monthKey.without(some).encode()
	body := func(paths []path, nodes [][]byte) []byte {
		return seal(join([]byte("detach/v1 key\n"), monthKey.service, encodePaths(paths), bytes.Join(nodes, nil)))
	}
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	two := []path{some, 1 << 63}
	nodes := cover(monthKey.root, 0, two)
	var bad []KeyFile
	for _, c := range []struct {
		comment string
		file    []byte
	}{
		{"empty", nil},
		{"cut in the service secret", whole[:30]},
		{"the checksum is cut off", whole[:len(whole)-32]},
		{"the last byte is missing", one[:len(one)-1]},
		{"a byte too many", append(bytes.Clone(one), 0)},
		{"a bit of the service secret is flipped", flip(whole, 20)},
		{"a bit of a node is flipped", flip(one, 100)},
		{"a bit of the checksum is flipped", flip(one, len(one)-1)},
		{"another version", seal(join([]byte("detach/v2 key\n"), whole[14:len(whole)-32]))},
		{"the paths are not sorted", body([]path{two[1], two[0]}, nodes)},
		{"a path stands twice", body([]path{some, some}, cover(monthKey.root, 0, two[:1]))},
		{"a node is missing", body(two, nodes[1:])},
		{"a node too many", body(two, append(slices.Clone(nodes), nodes[0]))},
		{"the root beside a destroyed leaf", body(two[:1], [][]byte{monthKey.root})},
		{"more paths than the file has bytes", seal(join([]byte("detach/v1 key\n"), monthKey.service, []byte{0xff, 0xff, 0xff, 0xff}, monthKey.root))},
	} {
		bad = append(bad, KeyFile{c.comment, monthKey.epoch(), c.file, "malformed", nil, nil})
	}
	return append(bad,
		KeyFile{"the key file of another epoch", otherKey.epoch(), whole, "malformed", nil, nil},
	)
}
