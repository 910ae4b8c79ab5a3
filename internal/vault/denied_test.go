package vault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// An entry of the deny list takes effect immediately. With a malformed line only New fails. While
// the list cannot be read, nothing is served.
func TestDenyListTakesEffectImmediately(t *testing.T) {
	s, v := newVault(t)
	one, two := detached(t, v, []byte("one")), detached(t, v, []byte("two"))
	write := func(text string) {
		t.Helper()
		must.Succeed(t, os.WriteFile(filepath.Join(s.dir, "denied"), []byte(text), 0o600))
	}
	write("# revoked\n\n  " + one.CID.String() + "  # sent by mistake\r\n")
	wantAll(t, v, one, ErrRevoked)
	wantAll(t, v, two, nil)
	s.vault(t, nil)
	write("oops\n" + two.CID.String())
	wantAll(t, v, two, ErrRevoked)
	wantAll(t, v, one, nil)
	if _, err := New(v.cfg, s.store, s.keys, s.dir); err == nil || !strings.Contains(err.Error(), "denied, line 1") {
		t.Errorf("New with a bad line: got %v", err)
	}
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "denied")))
	wantAll(t, v, two, nil)
	must.Succeed(t, os.Mkdir(filepath.Join(s.dir, "denied"), 0o700))
	for name, route := range routes(v, one) {
		if err := route(t.Context()); err == nil {
			t.Errorf("%s: served although the deny list cannot be read", name)
		}
	}
}
