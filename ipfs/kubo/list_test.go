package kubo_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// pinLine is a line of a node's listing.
func pinLine(seed int, name string) string {
	root := storetest.CIDOf(strings.NewReader(fmt.Sprint(seed)))
	return fmt.Sprintf(`{"Cid":%q,"Type":"recursive","Name":%q}`+"\n", root, name)
}

func (b *bubbled) list() (items []ipfs.Item, err error) {
	err = b.store.List(b.t.Context(), "detach/v1 ", func(i ipfs.Item) error {
		items = append(items, i)
		return nil
	})
	return items, err
}

// A listing that is wrong or ends early is an error, and not a store that has fewer objects.
func TestBadListingIsAnError(t *testing.T) {
	faults.Covers(t, 41)
	good := pinLine(1, "detach/v1 x") + pinLine(2, "other")
	scripts := map[string]http.HandlerFunc{
		"error in the trailer": lateError(good, "datastore: closed"),
		"cut":                  cut(good),
		"cut in a line":        cut(good[:len(good)-5]),
		"no CID":               answer(http.StatusOK, good+`{"Name":"detach/v1 y"}`+"\n"),
		"not a CID":            answer(http.StatusOK, good+`{"Cid":"../etc","Name":"detach/v1 y"}`+"\n"),
		"no stream":            answer(http.StatusOK, `{"Keys":{"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku":{"Type":"recursive","Name":"detach/v1 x"}}}`),
		"long name":            answer(http.StatusOK, good+pinLine(3, strings.Repeat("x", 100<<10))),
	}
	maps.Copy(scripts, wrongAnswers())
	delete(scripts, "no result") // as of a node without pins
	delete(scripts, "204")
	for name, h := range scripts {
		t.Run(name, func(t *testing.T) {
			inBubble(t, map[string]http.HandlerFunc{"pin/ls": h}, func(t *testing.T, b *bubbled) {
				if items, err := b.list(); !errors.Is(err, ipfs.ErrUnavailable) {
					t.Errorf("got %d items, %v, want ErrUnavailable", len(items), err)
				}
				b.mustNotCall("elsewhere")
				b.mustNotRead()
			})
		})
	}
}

// A listing of any length is read pin by pin. The idle time bounds only the node: the caller may
// take hours for an object.
func TestLongListing(t *testing.T) {
	const pins = 30_000 // more bytes than any other answer may have
	sent := func(w http.ResponseWriter, r *http.Request) {
		for i := range pins {
			name := "other"
			if i%3 == 0 {
				name = "detach/v1 x"
			}
			io.WriteString(w, pinLine(i, name))
		}
	}
	inBubble(t, map[string]http.HandlerFunc{"pin/ls": sent}, func(t *testing.T, b *bubbled) {
		n := 0
		err := b.store.List(t.Context(), "detach/v1 ", func(ipfs.Item) error {
			if n++; n%1000 == 0 {
				time.Sleep(time.Hour)
			}
			return nil
		})
		if err != nil || n != pins/3 || b.gave.Load() < kubo.MaxAnswer {
			t.Errorf("%d pins in %d bytes, %v, want %d", n, b.gave.Load(), err, pins/3)
		}
	})
}

// A node that stops in a listing costs the idle time.
func TestNodeHangsInAListing(t *testing.T) {
	faults.Covers(t, 40)
	for name, h := range map[string]http.HandlerFunc{
		"before": hang,
		"within": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, pinLine(1, "detach/v1 x"))
			flush(w)
			hang(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, map[string]http.HandlerFunc{"pin/ls": h}, func(t *testing.T, b *bubbled) {
				start := time.Now()
				_, err := b.list()
				if took := time.Since(start); !errors.Is(err, ipfs.ErrUnavailable) || took != kubo.DefaultIdle {
					t.Errorf("got %v after %v, want ErrUnavailable after %v", err, took, kubo.DefaultIdle)
				}
			})
		})
	}
}
