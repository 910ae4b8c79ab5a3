package ipfs_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

func twoStores(t *testing.T) (first, older *embedded.Store, both *ipfs.Fallback) {
	t.Helper()
	first, err := embedded.Open(t.TempDir(), nil)
	must.Succeed(t, err)
	older, err = embedded.Open(t.TempDir(), nil)
	must.Succeed(t, err)
	both = ipfs.NewFallback(first, older)
	t.Cleanup(func() { both.Close() })
	return first, older, both
}

// New objects go into the first store, and those of either store can be read and deleted.
func TestFallbackReadsBothStores(t *testing.T) {
	first, older, both := twoStores(t)
	old := storetest.PutFile(t, older, strings.NewReader("old"))
	fresh := storetest.PutFile(t, both, strings.NewReader("new"))
	if _, err := storetest.ReadFile(t, first, fresh); err != nil {
		t.Errorf("the new object is not in the first store: %v", err)
	}
	for root, want := range map[cid.Cid]string{old: "old", fresh: "new"} {
		if got, err := storetest.ReadFile(t, both, root); err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if all := storetest.Listed(t, both, ""); len(all) != 2 {
		t.Errorf("listed %v, want two", all)
	}
	storetest.PutFile(t, first, strings.NewReader("old")) // as if it had moved
	must.Succeed(t, both.Delete(t.Context(), old))
	for _, s := range []ipfs.Store{first, older, both} {
		if _, err := s.Open(t.Context(), old); !errors.Is(err, ipfs.ErrNotFound) {
			t.Errorf("deleted: got %v, want ErrNotFound", err)
		}
	}
}

// An object of which the first store has lost blocks is read from both.
func TestFallbackReadsMissingBlocksFromTheOlderStore(t *testing.T) {
	data := storetest.Content(1, 3<<20+5)
	_, older, _ := twoStores(t)
	root := storetest.PutFile(t, older, bytes.NewReader(data))
	partial := storetest.NewRecorder()
	leaves := 0
	blocks, err := older.Open(t.Context(), root)
	must.Succeed(t, err)
	must.Succeed(t, ipfs.Walk(t.Context(), blocks, root, func(b ipfs.Block) error {
		if leaves++; leaves == 2 {
			return nil
		}
		return partial.Add(b)
	}))
	must.Succeed(t, blocks.Close())
	both := ipfs.NewFallback(partialStore{blocks: partial}, older)
	if got, err := storetest.ReadFile(t, both, root); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

// partialStore has some blocks of an object, and fails with err if that is set.
type partialStore struct {
	ipfs.Store
	blocks ipfs.Blocks
	err    error
}

func (s partialStore) Open(context.Context, cid.Cid) (ipfs.Blocks, error) { return s.blocks, s.err }

// While the first store is down, the older one serves what it has, and says nothing about the rest.
func TestFallbackWhileTheFirstStoreIsDown(t *testing.T) {
	_, older, _ := twoStores(t)
	root := storetest.PutFile(t, older, strings.NewReader("old"))
	both := ipfs.NewFallback(partialStore{err: ipfs.Unavailable("open", errors.New("down"))}, older)
	if got, err := storetest.ReadFile(t, both, root); err != nil || string(got) != "old" {
		t.Errorf("got %q, %v, want the older store's object", got, err)
	}
	never := storetest.CIDOf(strings.NewReader("never stored"))
	if _, err := both.Open(t.Context(), never); !errors.Is(err, ipfs.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable: the first store may have the object", err)
	}
}

// refusingStore refuses to delete, to check and to be without warnings.
type refusingStore struct {
	ipfs.Store
	deleted *int
}

func (s refusingStore) Delete(context.Context, cid.Cid) error {
	*s.deleted++
	return ipfs.Unavailable("delete", errors.New("down"))
}

func (refusingStore) Check(context.Context) error {
	return ipfs.Unavailable("check", errors.New("down"))
}
func (refusingStore) Remedy(error) string               { return "start it" }
func (refusingStore) Warnings(context.Context) []string { return []string{"sync is off"} }

// Both stores must delete an object, the older one first, so that no copy of it is made meanwhile.
// An older store that fails is a warning: mail is stored all the same.
func TestFallbackWhileTheOlderStoreIsDown(t *testing.T) {
	first, _, _ := twoStores(t)
	deleted := 0
	both := ipfs.NewFallback(first, refusingStore{deleted: &deleted})
	root := storetest.PutFile(t, both, strings.NewReader("new"))
	must.Succeed(t, both.Check(t.Context()))
	if got := both.Warnings(t.Context()); len(got) != 2 || !strings.Contains(got[0], "start it") || got[1] != "sync is off" {
		t.Errorf("warnings: %q", got)
	}
	if err := both.Delete(t.Context(), root); !errors.Is(err, ipfs.ErrUnavailable) || deleted != 1 {
		t.Errorf("got %v, want ErrUnavailable: the object may still be there", err)
	}
}
