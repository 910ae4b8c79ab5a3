package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// testDamage damages every kind of block in every way. The reader must get an error, and only right
// bytes before it.
func testDamage(t *testing.T, b Backend) {
	const size = 3<<20 + 5
	for i, how := range []Damage{Flip, Truncate, Remove} {
		for which, name := range []string{"first leaf", "leaf", "leaf", "last leaf", "node", "metadata", "directory"} {
			t.Run(fmt.Sprintf("%s %s %d", how, name, which), func(t *testing.T) {
				data := Content(uint64(1000+10*i+which), size+10*i+which) // another size: other metadata
				obj := put(t, b.Store, data)
				b.Damage(t, obj.root, obj.blocks[which], how)
				got, err := readAll(t, b.Store, obj)
				if !errors.Is(err, ipfs.ErrCorrupt) && !errors.Is(err, ipfs.ErrNotFound) {
					t.Errorf("got error %v, want ErrCorrupt or ErrNotFound", err)
				}
				if !bytes.HasPrefix(data, got) {
					t.Error("read a wrong byte")
				}
				must.Succeed(t, b.Store.Delete(t.Context(), obj.root))
			})
		}
	}
}

// readAll reads "data" and then "meta.jwe" of an object. It returns the bytes of "data".
func readAll(t *testing.T, s ipfs.Store, obj object) ([]byte, error) {
	data, err := read(t.Context(), s, obj.root, "data")
	if err == nil {
		_, err = read(t.Context(), s, obj.root, "meta.jwe")
	}
	return data, err
}

// testSeek reads pieces of two files of one object in turns.
func testSeek(t *testing.T, b Backend) {
	data := Content(900, 5<<20+77)
	obj := put(t, b.Store, data)
	blocks, err := b.Store.Open(t.Context(), obj.root)
	must.Succeed(t, err)
	defer blocks.Close()
	var files [2]*ipfs.File
	for i := range files {
		files[i], err = ipfs.OpenFile(t.Context(), blocks, obj.data.CID)
		must.Succeed(t, err)
		defer files[i].Close()
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		f, off := files[i%2], rnd.Int64N(int64(len(data))+1)
		want := data[off:min(off+rnd.Int64N(1<<20), int64(len(data)))]
		_, err := f.Seek(off, io.SeekStart)
		must.Succeed(t, err)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes at %d: wrong bytes or error %v", len(want), off, err)
		}
	}
}

func testConcurrent(t *testing.T, b Backend) {
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			data := Content(uint64(1100+i), int64(1<<20+i*300000))
			_, err := b.Store.Put(t.Context(), "detach test", directoryOf(failing(newBytesReader(data), 1<<19, errSource)))
			if !errors.Is(err, errSource) {
				t.Errorf("put %d: got %v, want the source's error", i, err)
			}
			root, err := b.Store.Put(t.Context(), "detach test", directoryOf(newBytesReader(data)))
			if err != nil {
				t.Errorf("put %d: %v", i, err)
				return
			}
			if got, err := read(t.Context(), b.Store, root, "data"); err != nil || !bytes.Equal(got, data) {
				t.Errorf("read %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
}
