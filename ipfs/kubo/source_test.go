package kubo_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// Without a node, Put fails before it reads the source.
func TestNothingIsReadWithoutANode(t *testing.T) {
	faults.Covers(t, 38)
	const addr = "127.0.0.1:1" // the port of tcpmux, on which no machine listens
	for _, api := range []string{"http://" + addr, "https://" + addr, "/unix" + t.TempDir() + "/none.sock"} {
		s := openStore(t, kubo.Config{API: api})
		wantNotRead(t, s)
		if err := s.Check(t.Context()); !errors.Is(err, ipfs.ErrUnavailable) {
			t.Errorf("check: got %v, want ErrUnavailable", err)
		}
	}
}

// The connection closes at any point of an upload.
func TestConnectionClosesDuringUpload(t *testing.T) {
	faults.Covers(t, 39)
	for _, n := range []int64{0, 1, 100, 1000, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 7, 8<<20 - 1} {
		inBubble(t, map[string]http.HandlerFunc{"dag/import": after(n, reset)}, func(t *testing.T, b *bubbled) {
			b.unavailable(b.put(t.Context(), 8<<20), 0)
			b.mustNotCall("pin/add")
		})
	}
}

// When the source fails, Put breaks the request off. The body must not end regularly: otherwise the
// node would take the part for a whole, answer 200 and pin it.
func TestFailedSourceBreaksTheUploadOff(t *testing.T) {
	faults.Covers(t, 44)
	for _, failure := range []error{errors.New("client gone"), io.EOF, io.ErrUnexpectedEOF, context.Canceled} {
		for _, after := range []int64{0, 1, 1<<20 - 1, 1 << 20, 3<<20 + 5} {
			var ended error
			script := map[string]http.HandlerFunc{"dag/import": func(w http.ResponseWriter, r *http.Request) {
				_, ended = io.Copy(io.Discard, r.Body)
				answer(200, goodStats)(w, r)
			}}
			inBubble(t, script, func(t *testing.T, b *bubbled) {
				root, err := b.store.Put(t.Context(), "n", func(add ipfs.AddFunc) (cid.Cid, error) {
					_, err := ipfs.AddFile(add, io.LimitReader(storetest.Chacha(1), after))
					return cid.Undef, errors.Join(err, failure)
				})
				if !errors.Is(err, failure) || errors.Is(err, ipfs.ErrUnavailable) || root.Defined() {
					t.Errorf("%v after %d bytes: got %v", failure, after, err)
				}
				b.checkIdle()
				if ended == nil {
					t.Errorf("%v after %d bytes: the node saw a whole body", failure, after)
				}
				b.mustNotCall("pin/add")
			})
		}
	}
}

// The idle time bounds only the node, not the source.
func TestSlowSourceIsAllowed(t *testing.T) {
	faults.Covers(t, 44)
	inBubble(t, nil, func(t *testing.T, b *bubbled) {
		_, err := b.store.Put(t.Context(), "n", func(add ipfs.AddFunc) (cid.Cid, error) {
			time.Sleep(time.Hour)
			n, err := ipfs.AddFile(add, strings.NewReader("slow"))
			time.Sleep(time.Hour)
			return n.CID, err
		})
		if err != nil || b.pinned() != 1 {
			t.Errorf("got %v, %d pins", err, b.pinned())
		}
	})
}
