// Package storetest holds every [ipfs.Store] to the same promises. Each store runs the suite with
// its real engine, and uses the helpers for tests of its own.
package storetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// Backend is a store, with what a test does behind its back.
type Backend struct {
	Store ipfs.Store
	// Objects lists everything that the store holds, whole or not, by the names that it uses.
	Objects func(t *testing.T) []string
	// Collect removes what Delete may leave for later.
	Collect func(t *testing.T)
	// Damage harms one block of an object where it is stored.
	Damage func(t *testing.T, root cid.Cid, b ipfs.Block, how Damage)
	// Stop makes the store unable to do anything at all.
	Stop func(t *testing.T)
}

// Damage is what a disk does to a block.
type Damage string

// What a disk does to a block.
const (
	Flip     Damage = "flip"     // one bit is another
	Truncate Damage = "truncate" // its end, and maybe what follows, is lost
	Remove   Damage = "remove"   // it is gone
)

// Run runs the suite. It calls open for each part. The parts may share a store, except the last
// one, which stops it.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	for _, part := range []struct {
		name string
		run  func(*testing.T, Backend)
	}{
		{"RoundTrip", testRoundTrip},
		{"Seek", testSeek},
		{"SourceFails", testSourceFails},
		{"Cancel", testCancel},
		{"Refused", testRefused},
		{"Panic", testPanic},
		{"Delete", testDelete},
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

// sizes are those at which the form of a file changes, or the number of its cipher's blocks, and
// their neighbors.
var sizes = []int64{0, 1, 15, 16, 17, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 77}

func testRoundTrip(t *testing.T, b Backend) {
	for i, size := range sizes {
		data := Content(uint64(100+i), size)
		obj := put(t, b.Store, data)
		if got := obj.data.Size; got != uint64(size) {
			t.Errorf("%d bytes: node has size %d", size, got)
		}
		got, err := read(t.Context(), b.Store, obj.root)
		if err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		if string(got) != string(data) {
			t.Errorf("%d bytes: read %d wrong ones", size, len(got))
		}
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
		for _, want := range []error{errSource, errEarlyEnd} {
			src := &failing{r: reader(uint64(200+i), size), left: at, err: want}
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
		src := &hook{r: reader(uint64(300+i), 4<<20), left: at, do: cancel}
		root, err := b.Store.Put(ctx, "detach test", directoryOf(src))
		if !errors.Is(err, context.Canceled) || root.Defined() {
			t.Errorf("cancelled at %d: got %v %v, want context.Canceled", at, root, err)
		}
		cancel()
	}
	checkUnchanged(t, b, before)
}

// testRefused has builds that succeed with a bad object.
func testRefused(t *testing.T, b Backend) {
	before := b.Objects(t)
	builds := map[string]func(ipfs.AddFunc) (cid.Cid, error){
		"no block": func(ipfs.AddFunc) (cid.Cid, error) { return CIDOf(strings.NewReader("")), nil },
		"root not handed over": func(add ipfs.AddFunc) (cid.Cid, error) {
			_, err := ipfs.AddFile(add, reader(400, 10))
			return CIDOf(strings.NewReader("other")), err
		},
		"block too large": func(add ipfs.AddFunc) (cid.Cid, error) {
			data := Content(401, ipfs.MaxBlock+1)
			c := CIDOf(strings.NewReader(""))
			return c, add(ipfs.Block{CID: c, Data: data})
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
		src := &hook{r: reader(500, 4<<20), left: 3 << 20, do: func() { panic("source") }}
		_, _ = b.Store.Put(t.Context(), "detach test", directoryOf(src))
	}()
	checkUnchanged(t, b, before)
}

func testDelete(t *testing.T, b Backend) {
	before := b.Objects(t)
	obj := put(t, b.Store, Content(600, 3<<20))
	if len(b.Objects(t)) != len(before)+1 {
		t.Errorf("one object more: got %v, before %v", b.Objects(t), before)
	}
	for range 2 { // the second time there is nothing to delete, which is not an error
		if err := b.Store.Delete(t.Context(), obj.root); err != nil {
			t.Error(err)
		}
	}
	b.Collect(t)
	checkUnchanged(t, b, before)
	if _, err := read(t.Context(), b.Store, obj.root); !errors.Is(err, ipfs.ErrNotFound) {
		t.Errorf("read after delete: got %v, want ErrNotFound", err)
	}
	// What is deleted can come back.
	data := Content(600, 3<<20)
	put(t, b.Store, data)
	if got, err := read(t.Context(), b.Store, obj.root); err != nil || string(got) != string(data) {
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
			root, err := b.Store.Put(t.Context(), "detach test", func(add ipfs.AddFunc) (_ cid.Cid, err error) {
				o := &objects[j]
				if o.data, err = ipfs.AddFile(add, newBytesReader(data)); err != nil {
					return cid.Undef, err
				}
				meta, err := ipfs.AddFile(add, reader(uint64(660+j), 300))
				if err != nil {
					return cid.Undef, err
				}
				dir, err := ipfs.AddDirectory(add, ipfs.Entry{Name: "data", Node: o.data}, ipfs.Entry{Name: "meta.jwe", Node: meta})
				return dir.CID, err
			})
			if err != nil {
				t.Fatal(err)
			}
			objects[j].root = root
		}
		if objects[0].data != objects[1].data || objects[0].root == objects[1].root {
			t.Fatalf("got %v, want two objects over the same data", objects)
		}
		if err := b.Store.Delete(t.Context(), objects[0].root); err != nil {
			t.Fatal(err)
		}
		b.Collect(t)
		if got, err := readAll(t, b.Store, objects[1]); err != nil || string(got) != string(data) {
			t.Errorf("after the other one is deleted: %d bytes, %v", len(got), err)
		}
		if err := b.Store.Delete(t.Context(), objects[1].root); err != nil {
			t.Error(err)
		}
	}
}

func testMissing(t *testing.T, b Backend) {
	never := CIDOf(strings.NewReader("never stored"))
	if _, err := b.Store.Open(t.Context(), never); !errors.Is(err, ipfs.ErrNotFound) {
		t.Errorf("open: got %v, want ErrNotFound", err)
	}
	obj := put(t, b.Store, Content(700, 100))
	blocks, err := b.Store.Open(t.Context(), obj.root)
	if err != nil {
		t.Fatal(err)
	}
	defer blocks.Close()
	if _, err := blocks.Get(t.Context(), never, nil); !errors.Is(err, ipfs.ErrNotFound) {
		t.Errorf("get: got %v, want ErrNotFound", err)
	}
}

func testCheck(t *testing.T, b Backend) {
	before := b.Objects(t)
	for range 2 {
		if err := b.Store.Check(t.Context()); err != nil {
			t.Error(err)
		}
	}
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
	} {
		if !errors.Is(err, ipfs.ErrUnavailable) {
			t.Errorf("%s in a stopped store: got %v, want ErrUnavailable", what, err)
		}
	}
}
