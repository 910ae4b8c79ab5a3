package ipfs_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// What a node gives for a block is bounded, and is what it says it is or an error.
func TestFault42_BlockAnswers(t *testing.T) {
	c := putFile(t, openEmbedded(t, t.TempDir()), strings.NewReader("x"))
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
				if got, err := readFile(t, b.store, c); !errors.Is(err, test.want) || len(got) > 0 {
					t.Errorf("got %q %v, want %v", got, err, test.want)
				}
				b.mustNotCall("elsewhere")
				b.mustNotRead()
			})
		})
	}
}
