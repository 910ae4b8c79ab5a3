package keyring

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// A list says the same as Destroyed, with the marks, without them, and without the key file.
func TestListOfDestroyedObjectsAgreesWithDestroyed(t *testing.T) {
	r, e := newTestKeyring(t)
	cores := []uint64{1, 2, 1 << 63, 5}
	want := func(when string) {
		t.Helper()
		destroyed, err := r.DestroyedIn(e)
		must.Succeed(t, err)
		for _, p := range cores {
			want, err := r.Destroyed(e, coreAt(p))
			if got := destroyed(coreAt(p)); got != want || err != nil {
				t.Errorf("%s: core %d: got %v, want %v, %v", when, p, got, want, err)
			}
		}
	}
	want("new")
	must.Succeed(t, r.Destroy(e, coreAt(2), coreAt(5)))
	want("two destroyed")
	marks := filepath.Join(r.dir, "destroyed")
	must.Succeed(t, os.Rename(marks, marks+".away"))
	want("without the marks")
	must.Succeed(t, os.Rename(marks+".away", marks))
	must.Succeed(t, os.Rename(r.keys.path(e), filepath.Join(r.dir, "away")))
	want("without the key file")
	must.Succeed(t, os.Rename(filepath.Join(r.dir, "away"), r.keys.path(e)))
	must.Succeed(t, r.End(e))
	want("ended")
}
