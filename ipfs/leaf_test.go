package ipfs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

const (
	maxLeaves = 48            // leaves in memory at the same time
	maxHeld   = maxLeaves / 2 // leaves in memory for as long as they are read
)

// budget is shared by all tests of this package. TestMain checks that they gave all of it back.
var budget = memory.New(maxLeaves<<20, "")

func TestMain(m *testing.M) {
	code := m.Run()
	if bytes, slots := budget.Used(); bytes+int64(slots) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d bytes and %d slots are still in use: a File was not closed\n", bytes, slots)
		code = 1
	}
	os.Exit(code)
}

// Three times as many files as may hold memory are all in the middle of a leaf at the same time.
// Each reads back, and gets each of its blocks once.
func TestCrowdGetsEachBlockOnce(t *testing.T) {
	m := newMemory()
	data := storetest.Content(301, 2<<20+5)
	n := storetest.AddFile(t, m.Add, data)
	var files []*ipfs.File
	var stores []*storetest.Recorder
	for range 3 * maxHeld {
		s := &storetest.Recorder{Blocks: m.Blocks, Budget: budget}
		f, err := ipfs.OpenFile(t.Context(), s, n.CID)
		must.Succeed(t, err)
		defer f.Close()
		files, stores = append(files, f), append(stores, s)
	}
	for from := 0; from < len(data); from += 700_000 {
		want := data[from:min(from+700_000, len(data))]
		var all sync.WaitGroup
		for i, f := range files {
			all.Go(func() {
				got := make([]byte, len(want))
				if n, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, want) {
					t.Errorf("file %d at %d: %d bytes, %v", i, from, n, err)
				}
			})
		}
		all.Wait()
		if held, slots := budget.Used(); from == 0 && (held != maxHeld<<20 || slots != len(files)-maxHeld) {
			t.Errorf("%d bytes are held and %d leaves spilled, want %d leaves held and the others spilled", held, slots, maxHeld)
		}
	}
	for i, s := range stores {
		if gets := len(s.Asked); gets != 4 {
			t.Errorf("file %d: %d blocks requested, want a node and three leaves", i, gets)
		}
	}
}

// crowd holds all the memory that may be held, until the test ends.
func crowd(t *testing.T) {
	t.Helper()
	m := newMemory()
	n := m.leaf("of a crowd")
	for range maxHeld {
		f, err := ipfs.OpenFile(t.Context(), m, n.CID)
		must.Succeed(t, err)
		t.Cleanup(func() { f.Close() })
	}
}

// The first readers do not keep the memory for as long as they are slow.
func TestSlowReaderLeavesTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.Budget = memory.New(maxLeaves<<20, t.TempDir())
		n := storetest.AddFile(t, m.Add, storetest.Content(303, 1<<20))
		f, err := ipfs.OpenFile(t.Context(), m, n.CID)
		must.Succeed(t, err)
		defer f.Close()
		for _, want := range []struct {
			pause time.Duration
			bytes int64
			slots int
		}{{0, 1 << 20, 0}, {time.Second, 1 << 20, 0}, {5 * time.Second, 0, 1}, {time.Second, 0, 1}} {
			time.Sleep(want.pause)
			if _, err := io.ReadFull(f, make([]byte, 1000)); err != nil {
				t.Error(err)
			}
			if bytes, slots := m.Budget.Used(); bytes != want.bytes || slots != want.slots {
				t.Errorf("after %v more: %d bytes and %d slots, want %d and %d", want.pause, bytes, slots, want.bytes, want.slots)
			}
		}
	})
}

// A leaf is verified before it is spilled.
func TestSpilledLeafIsVerified(t *testing.T) {
	faults.Covers(t, 77)
	crowd(t)
	m := newMemory()
	data := storetest.Content(302, 3<<20)
	n := storetest.AddFile(t, m.Add, data)
	m.Blocks[m.Added[1]][0] ^= 1
	got, err := storetest.ReadBlocks(t.Context(), m, n.CID)
	if !errors.Is(err, ipfs.ErrCorrupt) || !bytes.Equal(got, data[:1<<20]) {
		t.Errorf("%d bytes, %v; want the first leaf and ErrCorrupt", len(got), err)
	}
}

// Readers that get no slot of the spill file keep no memory between two reads. Each still reads its
// whole file, and gets a leaf again where it has given it up.
func TestReadersWithoutASlotKeepNothing(t *testing.T) {
	crowd(t)
	var slots []*memory.Slot
	for range memory.MaxSlots {
		s, err := budget.Spill(nil)
		must.Succeed(t, err)
		slots = append(slots, s)
	}
	defer func() {
		for _, s := range slots {
			s.Free()
		}
	}()
	m := newMemory()
	data := storetest.Content(304, 2<<20+5)
	n := storetest.AddFile(t, m.Add, data)
	s := &storetest.Recorder{Blocks: m.Blocks, Budget: budget}
	var files []*ipfs.File
	for range 2 * maxLeaves {
		f, err := ipfs.OpenFile(t.Context(), s, n.CID)
		must.Succeed(t, err)
		defer f.Close()
		files = append(files, f)
	}
	const piece = 300_000
	for from := 0; from < len(data); from += piece {
		want := data[from:min(from+piece, len(data))]
		for i, f := range files {
			got := make([]byte, len(want))
			if n, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("file %d at %d: %d bytes, %v", i, from, n, err)
			}
		}
		if bytes, _ := budget.Used(); bytes != maxHeld<<20 {
			t.Errorf("at %d: %d bytes are in use, want the %d leaves of the crowd", from, bytes, maxHeld)
		}
	}
	if gets := len(s.Asked) / len(files); gets < 8 || gets > 12 {
		t.Errorf("%d blocks requested for each file, want one for each read: a node, and 8 to 10 times a leaf", gets)
	}
}

// Without a directory for the spill file, readers take turns in memory.
func TestCrowdWithoutDiskSharesMemory(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "not there"))
	crowd(t)
	m := newMemory()
	data := storetest.Content(303, 2<<20)
	n := storetest.AddFile(t, m.Add, data)
	var all sync.WaitGroup
	for range 3 * maxLeaves {
		all.Go(func() {
			s := &storetest.Recorder{Blocks: m.Blocks, Budget: budget}
			if got, err := storetest.ReadBlocks(t.Context(), s, n.CID); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	all.Wait()
}

// While a store does not answer, its readers keep the memory for the blocks that they wait for.
// Another reader, which waits for memory, stops when its request ends.
func TestCancelledWhileWaitingForMemory(t *testing.T) {
	m := newMemory()
	n := storetest.AddFile(t, m.Add, storetest.Content(303, 1<<20))
	s := &silent{m, make(chan struct{}), make(chan struct{})}
	var all sync.WaitGroup
	for range maxLeaves {
		all.Go(func() {
			if f, err := ipfs.OpenFile(t.Context(), s, n.CID); err != nil {
				t.Error(err)
			} else {
				f.Close()
			}
		})
		<-s.asked
	}
	gone := errors.New("client gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(300*time.Millisecond, func() { cancel(gone) })
	if _, err := ipfs.OpenFile(ctx, m, n.CID); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
	close(s.answer)
	all.Wait()
}

// silent is a store that does not answer before answer is closed.
type silent struct {
	inMemory
	asked, answer chan struct{}
}

func (s *silent) Get(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	s.asked <- struct{}{}
	<-s.answer
	return append(buf[:0], s.Blocks[c]...), nil
}

// A reader without a budget, for example of a CAR that arrives, may be as slow as it likes.
func TestSlowReaderWithoutABudget(t *testing.T) {
	m := newMemory()
	m.Budget = nil
	data := storetest.Content(305, 2<<20)
	n := storetest.AddFile(t, m.Add, data)
	synctest.Test(t, func(t *testing.T) {
		f, err := ipfs.OpenFile(t.Context(), m, n.CID)
		must.Succeed(t, err)
		defer f.Close()
		m.Asked = nil
		got := make([]byte, len(data))
		for at := 0; at < len(got); at += 1 << 19 {
			_, err := io.ReadFull(f, got[at:at+1<<19])
			must.Succeed(t, err)
			time.Sleep(time.Hour)
		}
		if !bytes.Equal(got, data) || len(m.Asked) != 2 {
			t.Errorf("other bytes, or %d blocks for two leaves", len(m.Asked))
		}
	})
}
