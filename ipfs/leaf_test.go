package ipfs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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

// maxLeaves is how many leaves are in memory at the same time.
const maxLeaves = 48

// budget is shared by all tests of this package. TestMain checks that they gave all of it back.
var budget = memory.New(maxLeaves << 20)

func TestMain(m *testing.M) {
	code := m.Run()
	if bytes := budget.Used(); bytes > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d bytes are still in use: a File was not closed\n", bytes)
		code = 1
	}
	os.Exit(code)
}

// crowd opens files until every block in memory was read after those that were opened before.
func crowd(t *testing.T) {
	t.Helper()
	m := newMemory()
	n := m.leaf("of a crowd")
	for range maxLeaves {
		f, err := ipfs.OpenFile(t.Context(), m, n.CID)
		must.Succeed(t, err)
		t.Cleanup(func() { f.Close() })
	}
}

// Three times as many files as have memory are all in the middle of a leaf at the same time. Each
// reads back. A block is requested once more for a reader whose memory was taken, and then only
// what is read of it.
func TestCrowdReadsEachByteAFewTimes(t *testing.T) {
	m := newMemory()
	data := storetest.Content(301, 2<<20+5)
	n := storetest.AddFile(t, m.Add, data)
	var files []*ipfs.File
	var stores []*storetest.Recorder
	for range 3 * maxLeaves {
		s := &storetest.Recorder{Blocks: m.Blocks, Budget: budget}
		f, err := ipfs.OpenFile(t.Context(), s, n.CID)
		must.Succeed(t, err)
		defer f.Close()
		files, stores = append(files, f), append(stores, s)
	}
	const piece = 100_000
	for from := 0; from < len(data); from += piece {
		want := data[from:min(from+piece, len(data))]
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
	}
	for i, s := range stores {
		// A read of 100,000 bytes touches up to five pieces of 32 KiB.
		if gets := len(s.Asked); gets < 4 || gets > 1+2*3 || s.Parts > 5*len(data)/piece {
			t.Errorf("file %d: %d blocks and %d parts requested, want a node, and three leaves at most twice", i, gets, s.Parts)
		}
	}
}

// A reader that reads on keeps its block in a crowd of slow ones.
func TestFastReaderKeepsItsBlock(t *testing.T) {
	m := newMemory()
	data := storetest.Content(306, 1<<20)
	s := &storetest.Recorder{Blocks: m.Blocks, Budget: budget}
	crowd(t)
	f, err := ipfs.OpenFile(t.Context(), s, storetest.AddFile(t, m.Add, data).CID)
	must.Succeed(t, err)
	defer f.Close()
	var got []byte
	for range 4 {
		piece := make([]byte, 1<<18)
		_, err := io.ReadFull(f, piece)
		must.Succeed(t, err)
		got = append(got, piece...)
		newcomer, err := ipfs.OpenFile(t.Context(), m, m.leaf("of a crowd").CID)
		must.Succeed(t, err)
		defer newcomer.Close()
	}
	if !bytes.Equal(got, data) || len(s.Asked) != 1 || s.Parts != 0 {
		t.Errorf("%d blocks and %d parts requested, want one block", len(s.Asked), s.Parts)
	}
}

// A block that a reader gets again is verified again.
func TestBlockThatChangesInACrowdIsNotRead(t *testing.T) {
	faults.Covers(t, 77)
	const size, read = 1 << 20, 40_000
	for name, test := range map[string]struct {
		first bool // the change is before the first read in the crowd
		at    int
		want  int // bytes that may be read
	}{
		"before the block is verified again": {true, size - 1, read},
		"in the same piece":                  {false, 2*read + 1, 2 * read},
		"in a later piece":                   {false, size - 1, size - 32<<10},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			data := storetest.Content(302, size)
			n := storetest.AddFile(t, m.Add, data)
			f, err := ipfs.OpenFile(t.Context(), m, n.CID)
			must.Succeed(t, err)
			defer f.Close()
			got := make([]byte, read)
			_, err = io.ReadFull(f, got)
			must.Succeed(t, err)
			crowd(t)
			if !test.first {
				got = append(got, got...)
				_, err := io.ReadFull(f, got[read:])
				must.Succeed(t, err)
			}
			m.Blocks[n.CID][test.at] ^= 1
			rest, err := io.ReadAll(f)
			got = append(got, rest...)
			if !errors.Is(err, ipfs.ErrCorrupt) || len(got) > test.want || !bytes.HasPrefix(data, got) {
				t.Errorf("%d bytes, %v; want at most %d and ErrCorrupt", len(got), err, test.want)
			}
		})
	}
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
