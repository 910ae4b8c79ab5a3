package ipfs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// recorded stores a directory of three files, one of them with two levels of nodes.
func recorded(t *testing.T) (*storetest.Recorder, cid.Cid) {
	t.Helper()
	m := storetest.NewRecorder()
	m.Budget = memory.New(1 << 20)
	large, err := ipfs.AddFile(m.Add, io.LimitReader(storetest.Chacha(1), 3<<20+5))
	must.Succeed(t, err)
	dir, err := ipfs.AddDirectory(m.Add,
		ipfs.Entry{Name: "data", Node: large},
		ipfs.Entry{Name: "empty", Node: storetest.AddFile(t, m.Add, nil)},
		ipfs.Entry{Name: "meta.jwe", Node: storetest.AddFile(t, m.Add, []byte("meta"))})
	must.Succeed(t, err)
	return m, dir.CID
}

// A copy by Walk has the same blocks, in an order that a store takes.
func TestWalkCopies(t *testing.T) {
	m, root := recorded(t)
	to := storetest.NewRecorder()
	must.Succeed(t, ipfs.Walk(t.Context(), m, root, to.Add))
	if to.Added[len(to.Added)-1] != root {
		t.Error("the root is not the last block")
	}
	if len(to.Blocks) != len(m.Blocks) || len(to.Added) != len(m.Added) {
		t.Errorf("%d blocks in the copy, want %d", len(to.Blocks), len(m.Blocks))
	}
	for c, data := range m.Blocks {
		if !bytes.Equal(to.Blocks[c], data) {
			t.Errorf("block %s differs", c)
		}
		for _, leaf := range ipfs.LeavesOf(data) {
			if slices.Index(to.Added, leaf) > slices.Index(to.Added, c) {
				t.Errorf("leaf %s comes after its parent", leaf)
			}
		}
	}
	if used := m.Budget.Used(); used != 0 {
		t.Errorf("%d bytes of memory were not given back", used)
	}
}

// Walk notices every block that is damaged or missing, and gives out none that is damaged.
func TestWalkNoticesEveryBadBlock(t *testing.T) {
	m, root := recorded(t)
	for c, good := range m.Blocks {
		check := func(what string, want error) {
			err := ipfs.Walk(t.Context(), m, root, func(b ipfs.Block) error { return ipfs.Verify(b.CID, b.Data) })
			if !errors.Is(err, want) {
				t.Errorf("%s %s: got %v, want %v", what, c, err, want)
			}
		}
		delete(m.Blocks, c)
		check("missing", ipfs.ErrNotFound)
		m.Blocks[c] = append(bytes.Clone(good), 0)
		check("longer", ipfs.ErrCorrupt)
		if len(good) > 0 {
			bad := bytes.Clone(good)
			bad[len(bad)/2] ^= 1
			m.Blocks[c] = bad
			check("flipped", ipfs.ErrCorrupt)
		}
		m.Blocks[c] = good
	}
	must.Succeed(t, ipfs.Walk(t.Context(), m, root, storetest.Discard))
}

func TestWalkStops(t *testing.T) {
	m, root := recorded(t)
	full := errors.New("disk full")
	if err := ipfs.Walk(t.Context(), m, root, func(ipfs.Block) error { return full }); err != full {
		t.Errorf("got %v, want the error of add", err)
	}
	must.Succeed(t, m.Budget.Acquire(t.Context(), 1<<20)) // another reader has the memory
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ipfs.Walk(ctx, m, root, storetest.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
