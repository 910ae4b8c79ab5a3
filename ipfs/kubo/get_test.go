package kubo_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// The answers to block/get and to cat are bounded, and either the bytes or an error. The
// caller of GetPart verifies them.
func TestBadBlockAnswerIsAnError(t *testing.T) {
	faults.Covers(t, 42)
	c := storetest.CIDOf(strings.NewReader("x"))
	for name, test := range map[string]struct {
		h    http.HandlerFunc
		want error
	}{
		"endless":              {endless("0123456789"), ipfs.ErrCorrupt},
		"HTML":                 {typed("text/html", 200, "<html>"), ipfs.ErrUnavailable},
		"redirect":             {redirect(307), ipfs.ErrUnavailable},
		"hangs":                {hang, ipfs.ErrUnavailable},
		"error in the trailer": {lateError("x", "multipart: NextPart: EOF"), ipfs.ErrUnavailable},
		"other block":          {answer(http.StatusOK, "y"), ipfs.ErrCorrupt},
		"no block":             {answer(http.StatusOK, ""), ipfs.ErrCorrupt},
		"500":                  {answer(http.StatusInternalServerError, `{"Message":"x","Code":0,"Type":"error"}`), ipfs.ErrUnavailable},
		"endless 500":          {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500); endless(" ")(w, r) }, ipfs.ErrUnavailable},
		"not found": {answer(http.StatusInternalServerError,
			`{"Message":"block was not found locally (offline): ipld: could not find `+c.String()+`","Code":0,"Type":"error"}`), ipfs.ErrNotFound},
		"hash on read": {answer(http.StatusInternalServerError,
			`{"Message":"block in storage has different hash than requested","Code":0,"Type":"error"}`), ipfs.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, map[string]http.HandlerFunc{"block/get": test.h}, func(t *testing.T, b *bubbled) {
				if got, err := storetest.ReadFile(t, b.store, c); !errors.Is(err, test.want) || len(got) > 0 {
					t.Errorf("got %q %v, want %v", got, err, test.want)
				}
				b.mustNotCall("elsewhere")
				b.mustNotRead()
			})
			script := map[string]http.HandlerFunc{"block/get": answer(http.StatusOK, "x"), "cat": test.h}
			inBubble(t, script, func(t *testing.T, b *bubbled) {
				blocks, err := b.store.Open(t.Context(), c)
				must.Succeed(t, err)
				err = blocks.GetPart(t.Context(), c, 0, make([]byte, 1))
				if !errors.Is(err, test.want) && name != "other block" {
					t.Errorf("part: got %v, want %v", err, test.want)
				}
				must.Succeed(t, blocks.Close())
				b.mustNotCall("elsewhere")
			})
		})
	}
}

// nodeWith is the script of a node that has the blocks.
func nodeWith(m *storetest.Recorder) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{"block/get": func(w http.ResponseWriter, r *http.Request) {
		c, err := cid.Decode(r.URL.Query().Get("arg"))
		if data, ok := m.Blocks[c]; err == nil && ok {
			w.Write(data)
			return
		}
		http.Error(w, `{"Message":"ipld: could not find `+c.String()+`","Code":0,"Type":"error"}`, http.StatusInternalServerError)
	}}
}

// For a reader that goes from front to back, the store requests the next blocks, each of them once.
func TestBlocksAreAskedForAhead(t *testing.T) {
	m, data := storetest.NewRecorder(), storetest.Content(3, 10<<20)
	file := storetest.AddFile(t, m.Add, data)
	inBubble(t, nodeWith(m), func(t *testing.T, b *bubbled) {
		blocks, err := b.store.Open(t.Context(), file.CID)
		must.Succeed(t, err)
		f, err := storetest.OpenFile(t, blocks, file.CID)
		must.Succeed(t, err)
		for _, step := range []struct {
			leaf  int64
			calls int
			why   string
		}{
			{0, 2, "the root and the first leaf"},
			{1, 6, "another leaf, and the three after it"},
			{2, 7, "one more after these"},
			{8, 8, "the reader goes elsewhere"},
			{5, 9, "the reader goes elsewhere again"},
			{6, 13, "the reader reads on from there"},
		} {
			_, err := f.Seek(step.leaf<<20, io.SeekStart)
			must.Succeed(t, err)
			got := make([]byte, 1)
			if _, err := io.ReadFull(f, got); err != nil || got[0] != data[step.leaf<<20] {
				t.Fatalf("leaf %d: got %q, %v", step.leaf, got, err)
			}
			synctest.Wait()
			if calls := b.called("block/get"); calls != step.calls {
				t.Errorf("leaf %d: %d blocks requested so far, want %d: %s", step.leaf, calls, step.calls, step.why)
			}
		}
		must.Succeed(t, blocks.Close())
	})
	inBubble(t, nodeWith(m), func(t *testing.T, b *bubbled) {
		if got, err := storetest.ReadFile(t, b.store, file.CID); err != nil || !bytes.Equal(got, data) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		if calls := b.called("block/get"); calls != 11 {
			t.Errorf("%d blocks requested, want 10 leaves and their root", calls)
		}
	})
}

// A missing block is an error when the reader needs it, not when the store requests it ahead.
func TestMissingBlockAhead(t *testing.T) {
	m, data := storetest.NewRecorder(), storetest.Content(4, 6<<20)
	file := storetest.AddFile(t, m.Add, data)
	delete(m.Blocks, m.Added[3])
	inBubble(t, nodeWith(m), func(t *testing.T, b *bubbled) {
		got, err := storetest.ReadFile(t, b.store, file.CID)
		if !errors.Is(err, ipfs.ErrNotFound) || !bytes.Equal(got, data[:3<<20]) {
			t.Errorf("got %d bytes, %v, want three blocks and %v", len(got), err, ipfs.ErrNotFound)
		}
	})
}

// A reader that opens an object again gets its upper blocks from memory, except the root: only the
// node knows whether it still has the object. The store requests a block again if it did not match
// its CID.
func TestSmallBlocksAreKept(t *testing.T) {
	m, data := storetest.NewRecorder(), storetest.Content(5, 3<<20)
	file := storetest.AddFile(t, m.Add, data)
	root := storetest.AddFile(t, m.Add, []byte("the root of an object")).CID
	good := m.Blocks[file.CID]
	inBubble(t, nodeWith(m), func(t *testing.T, b *bubbled) {
		read := func() error {
			blocks, err := b.store.Open(t.Context(), root)
			must.Succeed(t, err)
			defer blocks.Close()
			f, err := storetest.OpenFile(t, blocks, file.CID)
			if err != nil {
				return err
			}
			_, err = f.Seek(1<<20, io.SeekStart)
			must.Succeed(t, err)
			got := make([]byte, 100)
			if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, data[1<<20:1<<20+100]) {
				t.Errorf("got %x, %v", got, err)
			}
			return nil
		}
		m.Blocks[file.CID] = append(bytes.Clone(good), 0)
		if err := read(); !errors.Is(err, ipfs.ErrCorrupt) {
			t.Errorf("got %v, want %v", err, ipfs.ErrCorrupt)
		}
		m.Blocks[file.CID] = good
		for i, calls := range []int{5, 7, 9} {
			must.Succeed(t, read())
			if got := b.called("block/get"); got != calls {
				t.Errorf("read %d: %d blocks requested so far, want %d", i, got, calls)
			}
		}
		delete(m.Blocks, root)
		if _, err := b.store.Open(t.Context(), root); !errors.Is(err, ipfs.ErrNotFound) {
			t.Errorf("got %v, want %v", err, ipfs.ErrNotFound)
		}
	})
}
