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
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if bytes, slots := budget.Used(); bytes+int64(slots) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d bytes and %d slots are still in use: a File was not closed\n", bytes, slots)
		code = 1
	}
	os.Exit(code)
}

// Three times as many files as may be held in memory are all in the middle of a leaf at the same
// time. Each is read right, and each of its blocks is got once.
func TestCrowdGetsEachBlockOnce(t *testing.T) {
	m := newMemory()
	data := storetest.Content(301, 2<<20+5)
	n, err := ipfs.AddFile(m.Add, bytes.NewReader(data))
	must.Succeed(t, err)
	var files []*ipfs.File
	var stores []*tallied
	for range 3 * maxHeld {
		s := &tallied{blocks: m.Blocks}
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
			t.Errorf("%d bytes are held and %d leaves spilled, want %d leaves held and all others spilled", held, slots, maxHeld)
		}
	}
	for i, s := range stores {
		if s.gets != 4 {
			t.Errorf("file %d: %d blocks were got, want a node and three leaves", i, s.gets)
		}
	}
}

// tallied counts what one of many readers gets.
type tallied struct {
	blocks map[cid.Cid][]byte
	gets   int
}

func (c *tallied) Get(_ context.Context, name cid.Cid, buf []byte) ([]byte, error) {
	c.gets++
	return append(buf[:0], c.blocks[name]...), nil
}

func (c *tallied) Memory() *memory.Budget { return budget }

func (c *tallied) Close() error { return nil }

// crowd holds all the memory for leaves that are being read, until the test ends.
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

// A leaf is verified before it is spilled.
func TestSpilledLeafIsVerified(t *testing.T) {
	faults.Covers(t, 77)
	crowd(t)
	m := newMemory()
	data := storetest.Content(302, 3<<20)
	n, err := ipfs.AddFile(m.Add, bytes.NewReader(data))
	must.Succeed(t, err)
	for c, b := range m.Blocks {
		if bytes.Equal(b, data[1<<20:2<<20]) {
			m.Blocks[c] = append([]byte{b[0] ^ 1}, b[1:]...)
		}
	}
	f, err := ipfs.OpenFile(t.Context(), m, n.CID)
	must.Succeed(t, err)
	defer f.Close()
	got, err := io.ReadAll(f)
	if !errors.Is(err, ipfs.ErrCorrupt) || !bytes.Equal(got, data[:1<<20]) {
		t.Errorf("%d bytes, %v; want those of the first leaf, and ErrCorrupt", len(got), err)
	}
}

// Without a directory for temporary files there is only memory, and readers take turns.
func TestCrowdWithoutDiskSharesMemory(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "not there"))
	crowd(t)
	m := newMemory()
	data := storetest.Content(303, 2<<20)
	n, err := ipfs.AddFile(m.Add, bytes.NewReader(data))
	must.Succeed(t, err)
	var all sync.WaitGroup
	for range 3 * maxLeaves {
		all.Go(func() {
			f, err := ipfs.OpenFile(t.Context(), &tallied{blocks: m.Blocks}, n.CID)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	all.Wait()
}

// While a store does not answer, its readers keep the memory that they wait for blocks with. A
// reader that waits for memory stops when its request ends.
func TestCancelledWhileWaitingForMemory(t *testing.T) {
	m := newMemory()
	n, err := ipfs.AddFile(m.Add, bytes.NewReader(storetest.Content(303, 1<<20)))
	must.Succeed(t, err)
	s := &silent{tallied{blocks: m.Blocks}, make(chan struct{}), make(chan struct{})}
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

// silent is a store that answers when answer is closed.
type silent struct {
	tallied
	asked, answer chan struct{}
}

func (s *silent) Get(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	s.asked <- struct{}{}
	<-s.answer
	return append(buf[:0], s.blocks[c]...), nil
}
