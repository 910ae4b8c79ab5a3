package upkeep

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/clock"
	"github.com/nkirchhoffer/detach-mta/internal/denied"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
)

const day = 24 * time.Hour

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

// process is a process of the installation.
type process struct {
	*vault.Vault
	*Keeper
}

// vault opens the site, like another process of the installation. A changed s.now is time that has
// passed; with clock.MachineUptime it is a clock that was set.
func (s *site) vault(t testing.TB, change func(*vault.Config)) *process {
	t.Helper()
	return s.process(t, s.uptime, change)
}

func (s *site) process(t testing.TB, uptime func() clock.Uptime, change func(*vault.Config)) *process {
	t.Helper()
	cfg := vault.Config{BaseURL: "https://files.example.org/d/", Pending: filepath.Join(s.dir, "pending")}
	if change != nil {
		change(&cfg)
	}
	index, err := ledger.Open(filepath.Join(s.dir, "ledger"))
	must.Succeed(t, err)
	list := denied.New(filepath.Join(s.dir, "denied"), slog.New(slog.DiscardHandler))
	watch := clock.New(filepath.Join(s.dir, "clock"), clock.Config{Now: func() time.Time { return s.now }, Uptime: uptime}, func() (time.Time, error) { return vault.LastKnown(index, s.keys, s.now) })
	v, err := vault.New(cfg, vault.Deps{Store: s.store, Keys: s.keys, Ledger: index, Denied: list, Clock: watch})
	must.Succeed(t, err)
	return &process{v, New(Deps{Vault: v, Store: s.store, Keys: s.keys, Ledger: index, Denied: list, Clock: watch})}
}

func (s *site) uptime() clock.Uptime {
	return clock.Uptime{Boot: "the only one", For: s.now.Sub(time.Unix(0, 0))}
}

func newVault(t testing.TB) (*site, *process) {
	t.Helper()
	s := newSite(t)
	return s, s.vault(t, nil)
}

// newBrokenSite returns a site whose store a test can break.
func newBrokenSite(t testing.TB) (*site, *brokenStore, *process) {
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

func detach(t testing.TB, b *vault.Batch, content []byte) link.Link {
	t.Helper()
	l, err := b.Detach(t.Context(), "Angebot.pdf", "application/pdf", bytes.NewReader(content))
	must.Succeed(t, err)
	return l
}

// detached detaches and commits one attachment, which is kept forever.
func detached(t testing.TB, v *process, content []byte) link.Link {
	t.Helper()
	return kept(t, v, 0, content)
}

// kept is detached for an attachment that is kept for a time.
func kept(t testing.TB, v *process, retention time.Duration, content []byte) link.Link {
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
func opened(t testing.TB, v *process, c cid.Cid) *vault.Object {
	t.Helper()
	o, err := v.Object(t.Context(), c)
	must.Succeed(t, err)
	t.Cleanup(func() { _ = o.Close() })
	return o
}

func shareOf(t testing.TB, o *vault.Object) crypto.Share {
	t.Helper()
	share, err := o.Share()
	must.Succeed(t, err)
	return share
}

// content reads an object to its end or to an error.
func content(t *testing.T, v *process, l link.Link) ([]byte, error) {
	t.Helper()
	f, err := v.Open(t.Context(), l.CID, l.Fragment)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func wantContent(t *testing.T, v *process, l link.Link, want []byte) {
	t.Helper()
	if got, err := content(t, v, l); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
	}
}

// routes are all ways to ask the vault for an object.
func routes(v *process, l link.Link) map[string]func(context.Context) error {
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

func wantAll(t *testing.T, v *process, l link.Link, want error) {
	t.Helper()
	for name, route := range routes(v, l) {
		if err := route(t.Context()); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

func (s *site) keyFile(e crypto.Epoch) string { return filepath.Join(s.dir, "keys", string(e)+".key") }

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

// entries returns the files that record batches.
func entries(t *testing.T, s *site) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "pending", "*"))
	must.Succeed(t, err)
	return names
}

func recovered(t *testing.T, v *process, want int) {
	t.Helper()
	gone, err := v.Recover(t.Context())
	if err != nil || len(gone) != want {
		t.Errorf("recovered %v, %v; want %d objects", gone, err, want)
	}
}

// unknownCID returns the CID of an object that nobody has.
func unknownCID(t *testing.T, n int) cid.Cid {
	t.Helper()
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	mh, err := multihash.Encode(sum[:], multihash.SHA2_256)
	must.Succeed(t, err)
	return cid.NewCidV1(cid.DagProtobuf, mh)
}

// wantProblems wants exactly one problem for each of these texts.
func wantProblems(t *testing.T, v *process, want ...string) {
	t.Helper()
	got := v.Problems()
	for i, p := range got {
		if i >= len(want) || !strings.Contains(p.Err.Error(), want[i]) {
			t.Errorf("problem %d: %s: %v", i, p.Part, p.Err)
		}
	}
	if len(got) < len(want) {
		t.Errorf("%d problems, want %q", len(got), want)
	}
}

// killed ends a batch as a killed process would: its record stays, and nobody has a lock on it.
func killed(t *testing.T, s *site, b *vault.Batch) {
	t.Helper()
	kept := make(map[string]string)
	for _, name := range entries(t, s) {
		kept[name] = filepath.Join(s.dir, filepath.Base(name))
		must.Succeed(t, os.Link(name, kept[name])) // a copy would not count
	}
	must.Succeed(t, b.Close())
	for name, link := range kept {
		must.Succeed(t, os.Rename(link, name)) // does nothing to another batch's record
		must.Succeed(t, durable.Remove(link))
	}
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
