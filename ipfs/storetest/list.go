package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// Listed returns the objects that a store lists under a prefix, by their roots.
func Listed(t testing.TB, s ipfs.Store, prefix string) map[cid.Cid]ipfs.Item {
	t.Helper()
	items := make(map[cid.Cid]ipfs.Item)
	must.Succeed(t, s.List(t.Context(), prefix, func(i ipfs.Item) error {
		if _, twice := items[i.Root]; twice {
			t.Errorf("%s is listed twice", i.Root)
		}
		items[i.Root] = i
		return nil
	}))
	return items
}

// testList lists objects under names, renames one and deletes one. The store may hold other objects.
func testList(t *testing.T, b Backend) {
	roots := make(map[string]cid.Cid)
	for i, name := range []string{"list one", "list two", "other"} {
		root, err := b.Store.Put(t.Context(), name, directoryOf(reader(uint64(1200+i), 5000)))
		must.Succeed(t, err)
		roots[name] = root
	}
	all := Listed(t, b.Store, "list ")
	named := all[roots["list one"]].Name != ""
	_, other := all[roots["other"]]
	if one, ok := all[roots["list one"]]; !ok || named && one.Name != "list one" || named == other {
		t.Errorf("listed %v under the prefix, want the two of %v", all, roots)
	}
	for c, i := range all {
		if i.Size >= 0 && i.Size < 5000 {
			t.Errorf("%s: size %d, want more than its file, or -1", c, i.Size)
		}
	}
	must.Succeed(t, b.Store.Rename(t.Context(), roots["list one"], "list 1"))
	must.Succeed(t, b.Store.Delete(t.Context(), roots["list two"]))
	want := []cid.Cid{roots["list one"]}
	if !named {
		want = slices.Collect(maps.Keys(all))
		want = slices.DeleteFunc(want, func(c cid.Cid) bool { return c == roots["list two"] })
	}
	after := Listed(t, b.Store, "list ")
	if len(after) != len(want) || named && after[roots["list one"]].Name != "list 1" {
		t.Errorf("listed %v after a renaming and a deletion, want %v", after, want)
	}
	if got, err := read(t.Context(), b.Store, roots["list one"], "data"); err != nil || len(got) != 5000 {
		t.Errorf("read %d bytes of the renamed object, %v", len(got), err)
	}
	never := CIDOf(reader(1210, 10))
	if err := b.Store.Rename(t.Context(), never, "list never"); named && err == nil {
		t.Error("an object that was never stored got a name")
	}
	testListStops(t, b)
	for _, root := range roots {
		must.Succeed(t, b.Store.Delete(t.Context(), root))
	}
}

// testListStops ends listings early: by yield, which may use the store, and by the context.
func testListStops(t *testing.T, b Backend) {
	enough := errors.New("enough")
	err := b.Store.List(t.Context(), "", func(i ipfs.Item) error {
		blocks, err := b.Store.Open(t.Context(), i.Root)
		if err != nil {
			return fmt.Errorf("open in a listing: %w", err)
		}
		return errors.Join(blocks.Close(), enough)
	})
	if !errors.Is(err, enough) {
		t.Errorf("got %v, want the error of yield", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Store.List(ctx, "", func(ipfs.Item) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v, want context.Canceled", err)
	}
}
