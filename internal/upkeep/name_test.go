package upkeep

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/migrate"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
)

// Two installations share a node. One of them moves its objects elsewhere, and those of the other
// stay. Without an epoch's key file nobody can tell whose an object is, so it stays too.
func TestObjectsOfAnotherInstallationDoNotMove(t *testing.T) {
	s, v := newVault(t)
	other := newSite(t)
	other.store = s.store
	theirs := other.vault(t, nil)
	ours, extends := detached(t, v, []byte("ours")), kept(t, v, 2*day, []byte("extended"))
	keyless, strange := kept(t, v, 9*day, []byte("keyless")), detached(t, theirs, []byte("theirs"))
	extended(t, s, v, extends, 30*day)
	must.Succeed(t, s.keys.End(found(t, v, extends).KID.Epoch))
	must.Succeed(t, os.Remove(s.keyFile(found(t, v, keyless).KID.Epoch)))

	to, err := embedded.Open(filepath.Join(t.TempDir(), "objects"), nil)
	must.Succeed(t, err)
	defer to.Close()
	failed := make(map[cid.Cid]error)
	got, err := migrate.Run(t.Context(), migrate.Config{
		From: s.store, To: to, Prefix: vault.PinPrefix, Name: vault.Namer(s.keys), Workers: 1, Delete: true,
		Progress: func(int, int) {}, Failed: func(root cid.Cid, err error) { failed[root] = err },
	})
	must.Succeed(t, err)
	if want := (migrate.Result{Copied: 2, Deleted: 2, Failed: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	wantErr(t, "another installation's", failed[strange.CID], keyring.ErrNoEpoch)
	wantErr(t, "without its key file", failed[keyless.CID], keyring.ErrNoEpoch)
	wantContent(t, theirs, strange, []byte("theirs"))
	s.store = to
	moved := s.vault(t, nil)
	wantContent(t, moved, ours, []byte("ours"))
	wantContent(t, moved, extends, []byte("extended"))
}
