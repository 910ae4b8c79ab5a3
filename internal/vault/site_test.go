package vault

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/clock"
	"github.com/nkirchhoffer/detach-mta/internal/denied"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
)

// site is one installation: a data directory with its store, its keyring and a clock.
type site struct {
	dir   string
	store ipfs.Store
	keys  *keyring.Keyring
	now   time.Time
}

func newSite(t testing.TB) *site {
	t.Helper()
	dir := t.TempDir()
	store, err := embedded.Open(filepath.Join(dir, "objects"), nil)
	must.Succeed(t, err)
	t.Cleanup(func() { _ = store.Close() })
	keys, err := keyring.Open(filepath.Join(dir, "keys"))
	must.Succeed(t, err)
	return &site{dir, store, keys, time.Date(2026, 11, 22, 20, 0, 0, 5e8, time.UTC)}
}

// vault opens the site's vault, like another process of the installation. A changed s.now is time
// that has passed.
func (s *site) vault(t testing.TB, change func(*Config)) *Vault {
	t.Helper()
	cfg := Config{BaseURL: "https://files.example.org/d/", Pending: filepath.Join(s.dir, "pending"), Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	index, err := ledger.Open(filepath.Join(s.dir, "ledger"))
	must.Succeed(t, err)
	v, err := New(cfg, Deps{
		Store: s.store, Keys: s.keys, Ledger: index, Denied: denied.New(filepath.Join(s.dir, "denied"), cfg.Log),
		Clock: clock.New(filepath.Join(s.dir, "clock"), clock.Config{Now: func() time.Time { return s.now }, Uptime: s.uptime}, func() (time.Time, error) { return LastKnown(index, s.keys, s.now) }),
	})
	must.Succeed(t, err)
	return v
}

func (s *site) uptime() clock.Uptime {
	return clock.Uptime{Boot: "the only one", For: s.now.Sub(time.Unix(0, 0))}
}

func newVault(t testing.TB) (*site, *Vault) {
	t.Helper()
	s := newSite(t)
	return s, s.vault(t, nil)
}

// newBrokenSite returns a site whose store a test can break.
func newBrokenSite(t testing.TB) (*site, *brokenStore, *Vault) {
	t.Helper()
	s := newSite(t)
	store := &brokenStore{Store: s.store}
	s.store = store
	return s, store, s.vault(t, nil)
}

// wantNothing wants the store to have no object, and no batch to have a record.
func (s *site) wantNothing(t *testing.T, when string) {
	t.Helper()
	if n, left := s.objects(t), entries(t, s); n != 0 || len(left) != 0 {
		t.Errorf("%s: %d objects and records %v stay", when, n, left)
	}
}

func (s *site) objects(t *testing.T) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "objects", "*"))
	must.Succeed(t, err)
	return len(files)
}

func detach(t testing.TB, b *Batch, content []byte) link.Link {
	t.Helper()
	l, err := b.Detach(t.Context(), "Angebot.pdf", "application/pdf", bytes.NewReader(content))
	must.Succeed(t, err)
	return l
}

// detached detaches and commits one attachment, which is kept forever.
func detached(t testing.TB, v *Vault, content []byte) link.Link {
	t.Helper()
	return kept(t, v, 0, content)
}

// kept is detached for an attachment that is kept for a time.
func kept(t testing.TB, v *Vault, retention time.Duration, content []byte) link.Link {
	t.Helper()
	b := v.Begin(retention)
	l := detach(t, b, content)
	must.Succeed(t, errors.Join(b.Commit(t.Context()), b.Close()))
	return l
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

// opened opens an object, and closes it when the test ends.
func opened(t testing.TB, v *Vault, c cid.Cid) *Object {
	t.Helper()
	o, err := v.Object(t.Context(), c)
	must.Succeed(t, err)
	t.Cleanup(func() { _ = o.Close() })
	return o
}

func shareOf(t testing.TB, o *Object) crypto.Share {
	t.Helper()
	share, err := o.Share()
	must.Succeed(t, err)
	return share
}

// content reads an object to its end or to an error.
func content(t *testing.T, v *Vault, l link.Link) ([]byte, error) {
	t.Helper()
	f, err := v.Open(t.Context(), l.CID, l.Fragment)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func wantContent(t *testing.T, v *Vault, l link.Link, want []byte) {
	t.Helper()
	if got, err := content(t, v, l); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
	}
}

// routes are all ways to ask the vault for an object.
func routes(v *Vault, l link.Link) map[string]func(context.Context) error {
	closed := func(c io.Closer, err error) error {
		if err == nil {
			err = c.Close()
		}
		return err
	}
	return map[string]func(context.Context) error{
		"Object": func(ctx context.Context) error { o, err := v.Object(ctx, l.CID); return closed(o, err) },
		"Open":   func(ctx context.Context) error { f, err := v.Open(ctx, l.CID, l.Fragment); return closed(f, err) },
		"ticket": func(context.Context) error { _, err := v.SealTicket(l.CID, l.Fragment); return err },
	}
}

func wantAll(t *testing.T, v *Vault, l link.Link, want error) {
	t.Helper()
	for name, route := range routes(v, l) {
		if err := route(t.Context()); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

// keyHex is K = A ⊕ B, from the fragment of the link and the share of the gateway.
func keyHex(t testing.TB, v *Vault, l link.Link) string {
	t.Helper()
	key := l.Fragment.Bytes()
	for i, b := range shareOf(t, opened(t, v, l.CID)).Bytes() {
		key[i] ^= b
	}
	return hex.EncodeToString(key)
}

// epoch returns the one epoch of the keyring.
func (s *site) epoch(t testing.TB) crypto.Epoch {
	t.Helper()
	epochs, err := s.keys.Epochs()
	must.Succeed(t, err)
	if len(epochs) != 1 {
		t.Fatalf("epochs: %v, want one", epochs)
	}
	return epochs[0]
}

func (s *site) keyFile(e crypto.Epoch) string { return filepath.Join(s.dir, "keys", string(e)+".key") }

// put stores the blocks of an object that the vault itself would never make.
func put(t testing.TB, s *site, entries map[string][]byte) cid.Cid {
	t.Helper()
	return putDirectory(t, s, func(add ipfs.AddFunc) (cid.Cid, error) {
		d := make(ipfs.Directory)
		for name, content := range entries {
			node, err := ipfs.AddFile(add, bytes.NewReader(content))
			if err != nil {
				return cid.Undef, err
			}
			d[name] = node
		}
		n, err := d.Add(add)
		return n.CID, err
	})
}

func putDirectory(t testing.TB, s *site, build func(ipfs.AddFunc) (cid.Cid, error)) cid.Cid {
	t.Helper()
	root, err := s.store.Put(t.Context(), "test", build)
	must.Succeed(t, err)
	return root
}

// index adds an object to the ledger.
func index(t testing.TB, v *Vault, e crypto.Epoch, c cid.Cid) {
	t.Helper()
	must.Succeed(t, v.ledger.Append(ledger.Entry{CID: c, Core: c, KID: crypto.KID{Epoch: e}, Size: 1, Created: v.clock.Now()}))
}

// brokenStore is a store whose methods fail when a test says so.
type brokenStore struct {
	ipfs.Store
	put, open, delete error
	lost              bool   // Put stores, but returns an error
	opening, deleting func() // called before the store does it; may be nil
	names             []string
}

func (s *brokenStore) Put(ctx context.Context, name string, build func(ipfs.AddFunc) (cid.Cid, error)) (cid.Cid, error) {
	s.names = append(s.names, name)
	if s.put != nil {
		return cid.Undef, s.put
	}
	root, err := s.Store.Put(ctx, name, build)
	if err == nil && s.lost {
		err = ipfs.ErrUnavailable
	}
	return root, err
}

func (s *brokenStore) Open(ctx context.Context, c cid.Cid) (ipfs.Blocks, error) {
	if s.open != nil {
		return nil, s.open
	}
	if s.opening != nil {
		s.opening()
	}
	return s.Store.Open(ctx, c)
}

func (s *brokenStore) Delete(ctx context.Context, c cid.Cid) error {
	if s.delete != nil {
		return s.delete
	}
	if s.deleting != nil {
		s.deleting()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.Store.Delete(ctx, c)
}

func kuboStore(t *testing.T, node *servers.KuboNode) *kubo.Store {
	t.Helper()
	store, err := kubo.New(kubo.Config{API: node.API()})
	must.Succeed(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// errOf returns the error of a call, which is its argument.
func errOf[T any](_ T, err error) error { return err }

func (s *site) car(c cid.Cid) string { return filepath.Join(s.dir, "objects", c.String()+".car") }
