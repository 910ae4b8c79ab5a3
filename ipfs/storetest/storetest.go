// Package storetest holds every [ipfs.Store] to the same promises. Each store runs the suite with
// its real engine, and uses the helpers for tests of its own.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// Backend is a store, and the functions with which a test changes and inspects it directly.
type Backend struct {
	Store ipfs.Store
	// Objects lists all whole and partial objects in the store, by the store's own names.
	Objects func(t *testing.T) []string
	// Collect removes the blocks that Delete may leave behind.
	Collect func(t *testing.T)
	// Damage harms one block of an object where it is stored.
	Damage func(t *testing.T, root cid.Cid, b ipfs.Block, how Damage)
	// Stop makes the store unable to do anything at all.
	Stop func(t *testing.T)
}

// Damage is a way in which a disk damages a block.
type Damage string

// The kinds of damage.
const (
	Flip     Damage = "flip"     // one bit is flipped
	Truncate Damage = "truncate" // the block's end, and maybe the data after it, is lost
	Remove   Damage = "remove"   // the block is gone
)

// Run runs the suite. It calls open for each part. The parts may share a store: the last one stops
// it.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	for _, part := range []struct {
		name string
		run  func(*testing.T, Backend)
	}{
		{"RoundTrip", testRoundTrip},
		{"Seek", testSeek},
		{"Parts", testParts},
		{"SourceFails", testSourceFails},
		{"Cancel", testCancel},
		{"Refused", testRefused},
		{"Panic", testPanic},
		{"Delete", testDelete},
		{"List", testList},
		{"SharedBlocks", testSharedBlocks},
		{"Missing", testMissing},
		{"Concurrent", testConcurrent},
		{"Damage", testDamage},
		{"Check", testCheck},
		{"Stopped", testStopped},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, open(t)) })
	}
}

// Benchmark puts and reads files of a store. No two files are the same, so a store cannot keep the
// blocks of one for the next.
func Benchmark(b *testing.B, s ipfs.Store) {
	seed := uint64(1000)
	put := func(b *testing.B, size int64) cid.Cid {
		seed++
		return PutFile(b, s, reader(seed, size))
	}
	for name, size := range map[string]int64{"Put": 64 << 20, "PutSmall": 100 << 10} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				must.Succeed(b, s.Delete(b.Context(), put(b, size)))
			}
		})
	}
	b.Run("Read", func(b *testing.B) {
		root := put(b, 64<<20)
		b.SetBytes(64 << 20)
		b.ReportAllocs()
		for b.Loop() {
			blocks, err := s.Open(b.Context(), root)
			must.Succeed(b, err)
			f, err := ipfs.OpenFile(b.Context(), blocks, root)
			must.Succeed(b, err)
			if n, err := io.Copy(io.Discard, f); n != 64<<20 {
				b.Fatal(n, err)
			}
			must.Succeed(b, errors.Join(f.Close(), blocks.Close()))
		}
	})
}

// sizes are the sizes at which the form of a file or the number of its cipher blocks changes, and
// their neighbors.
var sizes = []int64{0, 1, 15, 16, 17, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 77}

func testRoundTrip(t *testing.T, b Backend) {
	for i, size := range sizes {
		data := Content(uint64(100+i), size)
		obj := put(t, b.Store, data)
		if got := obj.data.Size; got != uint64(size) {
			t.Errorf("%d bytes: node has size %d", size, got)
		}
		if got, err := read(t.Context(), b.Store, obj.root, "data"); err != nil || string(got) != string(data) {
			t.Errorf("%d bytes: read %d, %v", size, len(got), err)
		}
	}
}

// testParts gets parts of leaves, as slow readers in a crowd do.
func testParts(t *testing.T, b Backend) {
	data := Content(150, 2<<20+77)
	obj := put(t, b.Store, data)
	blocks, err := b.Store.Open(t.Context(), obj.root)
	must.Succeed(t, err)
	defer blocks.Close()
	for leaf, block := range obj.blocks[:3] {
		size := len(block.Data)
		for _, part := range [][2]int{{0, 1}, {0, size}, {size / 2, size}, {size - 1, size}} {
			got := make([]byte, part[1]-part[0])
			if err := blocks.GetPart(t.Context(), block.CID, int64(part[0]), got); err != nil || !bytes.Equal(got, block.Data[part[0]:part[1]]) {
				t.Errorf("leaf %d from %d to %d of %d bytes: other bytes, or %v", leaf, part[0], part[1], size, err)
			}
		}
		if err := blocks.GetPart(t.Context(), block.CID, int64(size-1), make([]byte, 2)); !errors.Is(err, ipfs.ErrCorrupt) {
			t.Errorf("leaf %d: got %v for a byte beyond its end, want ErrCorrupt", leaf, err)
		}
	}
	never := CIDOf(strings.NewReader("never stored"))
	if err := blocks.GetPart(t.Context(), never, 0, make([]byte, 1)); !errors.Is(err, ipfs.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("client gone")
	cancel(gone)
	if err := blocks.GetPart(ctx, obj.blocks[0].CID, 0, make([]byte, 1)); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
}

func testSourceFails(t *testing.T, b Backend) {
	const size = 2<<20 + 100
	before := b.Objects(t)
	offsets := []int64{0, 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 2 << 20, size - 1, size}
	for range 8 {
		offsets = append(offsets, rand.Int64N(size))
	}
	for i, at := range offsets {
		// A multipart or chunked body that is cut short ends with io.ErrUnexpectedEOF. It must not pass
		// for the end of the file.
		for _, want := range []error{errSource, io.ErrUnexpectedEOF} {
			src := failing(reader(uint64(200+i), size), at, want)
			root, err := b.Store.Put(t.Context(), "detach test", directoryOf(src))
			if !errors.Is(err, want) || root.Defined() {
				t.Errorf("source fails at %d: got %v %v, want %v", at, root, err, want)
			}
		}
	}
	checkUnchanged(t, b, before)
}

// testCancel ends the context while blocks are being made, and after the last of them.
func testCancel(t *testing.T, b Backend) {
	before := b.Objects(t)
	for i, at := range []int64{0, 1 << 20, 3<<20 + 5, 4 << 20} {
		ctx, cancel := context.WithCancel(t.Context())
		src := hook(reader(uint64(300+i), 4<<20), at, cancel)
		root, err := b.Store.Put(ctx, "detach test", directoryOf(src))
		if !errors.Is(err, context.Canceled) || root.Defined() {
			t.Errorf("cancelled at %d: got %v %v, want context.Canceled", at, root, err)
		}
		cancel()
	}
	checkUnchanged(t, b, before)
}

// testRefused has builds that return no error but make a bad object.
func testRefused(t *testing.T, b Backend) {
	before := b.Objects(t)
	builds := map[string]func(ipfs.AddFunc) (cid.Cid, error){
		"no block": func(ipfs.AddFunc) (cid.Cid, error) { return CIDOf(strings.NewReader("")), nil },
		"root not handed over": func(add ipfs.AddFunc) (cid.Cid, error) {
			_, err := ipfs.AddFile(add, reader(400, 10))
			return CIDOf(strings.NewReader("other")), err
		},
		"block too large": func(add ipfs.AddFunc) (cid.Cid, error) {
			c := CIDOf(strings.NewReader(""))
			return c, add(ipfs.Block{CID: c, Data: Content(401, ipfs.MaxBlock+1)})
		},
	}
	for name, build := range builds {
		if root, err := b.Store.Put(t.Context(), "detach test", build); err == nil || root.Defined() {
			t.Errorf("%s: got %v, want an error", name, root)
		}
	}
	checkUnchanged(t, b, before)
}

func testPanic(t *testing.T, b Backend) {
	before := b.Objects(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		src := hook(reader(500, 4<<20), 3<<20, func() { panic("source") })
		_, _ = b.Store.Put(t.Context(), "detach test", directoryOf(src))
	}()
	checkUnchanged(t, b, before)
}

func testDelete(t *testing.T, b Backend) {
	before := b.Objects(t)
	data := Content(600, 3<<20)
	obj := put(t, b.Store, data)
	if len(b.Objects(t)) != len(before)+1 {
		t.Errorf("one object more: got %v, before %v", b.Objects(t), before)
	}
	for range 2 { // to delete a deleted object is not an error
		must.Succeed(t, b.Store.Delete(t.Context(), obj.root))
	}
	b.Collect(t)
	checkUnchanged(t, b, before)
	if _, err := read(t.Context(), b.Store, obj.root, "data"); !errors.Is(err, ipfs.ErrNotFound) {
		t.Errorf("read after delete: got %v, want ErrNotFound", err)
	}
	put(t, b.Store, data)
	if got, err := read(t.Context(), b.Store, obj.root, "data"); err != nil || string(got) != string(data) {
		t.Errorf("stored again: %d bytes, %v", len(got), err)
	}
}

// testSharedBlocks deletes one of two objects that share most of their blocks. Detach's own objects
// share only the empty block of empty files.
func testSharedBlocks(t *testing.T, b Backend) {
	for i, size := range []int64{0, 3 << 20} {
		data := Content(uint64(650+i), size)
		var objects [2]object
		for j := range objects {
			root, err := b.Store.Put(t.Context(), "detach test", func(add ipfs.AddFunc) (root cid.Cid, err error) {
				objects[j].data, root, err = build(add, newBytesReader(data), uint64(660+j))
				return root, err
			})
			must.Succeed(t, err)
			objects[j].root = root
		}
		if objects[0].data != objects[1].data || objects[0].root == objects[1].root {
			t.Fatalf("got %v, want two objects over the same data", objects)
		}
		must.Succeed(t, b.Store.Delete(t.Context(), objects[0].root))
		b.Collect(t)
		if got, err := readAll(t, b.Store, objects[1]); err != nil || string(got) != string(data) {
			t.Errorf("after the other one is deleted: %d bytes, %v", len(got), err)
		}
		must.Succeed(t, b.Store.Delete(t.Context(), objects[1].root))
	}
}

func testMissing(t *testing.T, b Backend) {
	never := CIDOf(strings.NewReader("never stored"))
	if _, err := b.Store.Open(t.Context(), never); !errors.Is(err, ipfs.ErrNotFound) {
		t.Errorf("open: got %v, want ErrNotFound", err)
	}
	obj := put(t, b.Store, Content(700, 100))
	blocks, err := b.Store.Open(t.Context(), obj.root)
	must.Succeed(t, err)
	defer blocks.Close()
	if _, err := blocks.Get(t.Context(), never, nil); !errors.Is(err, ipfs.ErrNotFound) {
		t.Errorf("get: got %v, want ErrNotFound", err)
	}
}

func testCheck(t *testing.T, b Backend) {
	before := b.Objects(t)
	must.Succeed(t, b.Store.Check(t.Context()))
	must.Succeed(t, b.Store.Check(t.Context()))
	checkUnchanged(t, b, before)
}

func testStopped(t *testing.T, b Backend) {
	obj := put(t, b.Store, Content(800, 3<<20))
	b.Stop(t)
	_, err := b.Store.Put(t.Context(), "detach test", directoryOf(reader(801, 3<<20)))
	_, openErr := b.Store.Open(t.Context(), obj.root)
	for what, err := range map[string]error{
		"put":    err,
		"open":   openErr,
		"delete": b.Store.Delete(t.Context(), obj.root),
		"check":  b.Store.Check(t.Context()),
		"list":   b.Store.List(t.Context(), "detach", func(ipfs.Item) error { return nil }),
	} {
		if !errors.Is(err, ipfs.ErrUnavailable) {
			t.Errorf("%s in a stopped store: got %v, want ErrUnavailable", what, err)
		}
		if remedy := b.Store.Remedy(err); remedy == "" || strings.Contains(remedy, "\n") {
			t.Errorf("%s in a stopped store: the remedy is %q", what, remedy)
		}
	}
}
