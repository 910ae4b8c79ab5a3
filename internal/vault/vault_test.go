package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
)

// site is one installation: a data directory with its store and keyring, and a clock.
type site struct {
	dir   string
	store ipfs.Store
	keys  *crypto.Keyring
	now   time.Time
}

func newSite(t testing.TB) *site {
	t.Helper()
	dir := t.TempDir()
	store, err := embedded.Open(filepath.Join(dir, "objects"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	keys, err := crypto.OpenKeyring(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	return &site{dir, store, keys, time.Date(2026, 11, 22, 20, 0, 0, 5e8, time.UTC)}
}

// vault opens the site's vault, as each process of it would.
func (s *site) vault(t testing.TB, change func(*Config)) *Vault {
	t.Helper()
	cfg := Config{BaseURL: "https://files.example.org/d/", Now: func() time.Time { return s.now }}
	if change != nil {
		change(&cfg)
	}
	v, err := New(cfg, s.store, s.keys, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (s *site) objects(t *testing.T) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "objects", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func detach(t testing.TB, b *Batch, content []byte) link.Link {
	t.Helper()
	l, err := b.Detach(t.Context(), "Angebot.pdf", "application/pdf", bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// stored detaches and commits one attachment.
func detached(t testing.TB, v *Vault, content []byte) link.Link {
	t.Helper()
	b := v.Begin()
	l := detach(t, b, content)
	if err := b.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
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
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

// routes are all ways to get at something of an object.
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

func TestRoundTrip(t *testing.T) {
	for _, mode := range []Mode{Split, LinkOnly} {
		s := newSite(t)
		v := s.vault(t, func(c *Config) { c.Mode = mode })
		for _, n := range []int{0, 1, 15, 16, 17, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 5} {
			content := pattern(n)
			l := detached(t, v, content)
			if l.Base != "https://files.example.org/d" {
				t.Errorf("base: got %s", l.Base)
			}
			f, err := v.Open(t.Context(), l.CID, l.Fragment)
			if err != nil {
				t.Fatalf("mode %d, %d bytes: %v", mode, n, err)
			}
			if err := iotest.TestReader(f, content); n < 100 && err != nil {
				t.Errorf("mode %d, %d bytes: %v", mode, n, err)
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, content) {
				t.Errorf("mode %d, %d bytes: got %d bytes, %v", mode, n, len(got), err)
			}
			want := crypto.Meta{Name: "Angebot.pdf", Type: "application/pdf", Size: int64(n),
				SHA256: sha256.Sum256(content), Created: s.now.Truncate(time.Second)}
			if f.Meta != want {
				t.Errorf("mode %d: got %+v, want %+v", mode, f.Meta, want)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			o := opened(t, v, l.CID)
			if o.Size != int64(n) || !o.Created.Equal(want.Created) || !o.Expires.IsZero() {
				t.Errorf("the object has %d bytes, of %v until %v", o.Size, o.Created, o.Expires)
			}
		}
	}
}

func TestSeek(t *testing.T) {
	v := newSite(t).vault(t, nil)
	content := pattern(2<<20 + 100)
	l := detached(t, v, content)
	f, err := v.Open(t.Context(), l.CID, l.Fragment)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	offsets := []int64{1<<20 - 1, 1 << 20, 1<<20 + 17, 2 << 20, int64(len(content)) - 1, int64(len(content)), 5}
	for i := range int64(65) {
		offsets = append(offsets, i)
	}
	for _, at := range offsets {
		if got, err := f.Seek(at-int64(len(content)), io.SeekEnd); err != nil || got != at {
			t.Fatalf("Seek to %d: got %d, %v", at, got, err)
		}
		want := content[at:min(at+50, int64(len(content)))]
		got := make([]byte, len(want))
		if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("at %d: got %x, %v, want %x", at, got, err, want)
		}
	}
	if _, err := f.Seek(-1, io.SeekStart); err == nil {
		t.Error("Seek before the start: no error")
	}
	if _, err := f.Seek(7, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, content[7:]) {
		t.Errorf("from 7: got %d bytes, %v", len(got), err)
	}
}

// What lies in the store is openssl's to decrypt.
func TestOpenSSLDecrypts(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is not installed")
		}
		t.Skip("openssl is not installed")
	}
	v := newSite(t).vault(t, nil)
	content := pattern(1<<20 + 33)
	l := detached(t, v, content)
	sealed, err := opened(t, v, l.CID).Entry(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	if sealed.Size() != int64(len(content)) {
		t.Errorf("data has %d bytes, want %d", sealed.Size(), len(content))
	}
	cmd := exec.Command(openssl, "enc", "-d", "-aes-256-ctr", "-K", keyHex(t, v, l), "-iv", "0")
	cmd.Stdin = sealed
	if got, err := cmd.Output(); err != nil || !bytes.Equal(got, content) {
		t.Errorf("openssl: got %d bytes, %v", len(got), err)
	}
}

// keyHex is K = A ⊕ B, computed from what the gateway and the link say.
func keyHex(t testing.TB, v *Vault, l link.Link) string {
	t.Helper()
	key := l.Fragment.Bytes()
	for i, b := range opened(t, v, l.CID).Share().Bytes() {
		key[i] ^= b
	}
	return hex.EncodeToString(key)
}

func TestModes(t *testing.T) {
	s := newSite(t)
	split := s.vault(t, nil)
	linkOnly := s.vault(t, func(c *Config) { c.Mode = LinkOnly })
	old, free := detached(t, split, []byte("split")), detached(t, linkOnly, []byte("link"))
	for name, v := range map[string]*Vault{"split": split, "link": linkOnly} {
		for _, l := range []link.Link{old, free} { // each keeps the mode it was made in
			if f, err := v.Open(t.Context(), l.CID, l.Fragment); err != nil {
				t.Errorf("mode %s: %v", name, err)
			} else {
				_ = f.Close()
			}
		}
	}
	if opened(t, split, free.CID).Share() != crypto.ZeroShare() {
		t.Error("the share of mode link is not 32 zero bytes")
	}
	if opened(t, split, old.CID).Share() == crypto.ZeroShare() {
		t.Error("the share of mode split is 32 zero bytes")
	}
}

// Nothing is served before the commit, and then by every process of the installation.
func TestCommit(t *testing.T) {
	s := newSite(t)
	proxy, gateway := s.vault(t, nil), s.vault(t, nil)
	b := proxy.Begin()
	one, two := detach(t, b, []byte("one")), detach(t, b, []byte("two"))
	wantAll(t, proxy, one, ErrNotFound)
	wantAll(t, gateway, two, ErrNotFound)
	if got := b.CIDs(); len(got) != 2 || got[0] != one.CID || got[1] != two.CID {
		t.Errorf("CIDs: got %v", got)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Commit(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit when it is too late: got %v", err)
	}
	for range 2 { // the second adds nothing
		if err := b.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantAll(t, proxy, one, nil)
	wantAll(t, gateway, two, nil)
	text, err := os.ReadFile(filepath.Join(s.dir, "ledger", "2026-11.jsonl"))
	want := fmt.Sprintf(`{"cid":"%s","size":3,"created":"2026-11-22T20:00:00Z"}`+"\n"+
		`{"cid":"%s","size":3,"created":"2026-11-22T20:00:00Z"}`+"\n", one.CID, two.CID)
	if err != nil || string(text) != want {
		t.Errorf("ledger: got %s, %v, want %s", text, err, want)
	}
	if err := proxy.Begin().Commit(t.Context()); err != nil {
		t.Errorf("an empty batch: %v", err)
	}
}

// An object that someone else put into the same store, in our own form and with a key that its
// maker knows: the gateway must not carry other people's content.
func TestForeignObject(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	elsewhere := newSite(t)
	elsewhere.store = s.store
	for _, mode := range []Mode{Split, LinkOnly} {
		foreign := detached(t, elsewhere.vault(t, func(c *Config) { c.Mode = mode }), []byte("not ours"))
		wantAll(t, v, foreign, ErrNotFound)
		if _, err := v.Begin().Open(t.Context(), foreign); err == nil {
			t.Error("a batch opens what is not its own")
		}
		if err := v.Begin().Drop(t.Context(), foreign); err == nil {
			t.Error("a batch drops what is not its own")
		}
		// Nor by another name of a block that is ours.
		ours := detached(t, v, []byte("ours"))
		ours.CID = cid.NewCidV1(cid.Raw, ours.CID.Hash())
		wantAll(t, v, ours, ErrNotFound)
		ours.CID = cid.Undef
		wantAll(t, v, ours, ErrNotFound)
	}
}

func TestWrongKey(t *testing.T) {
	v := newSite(t).vault(t, nil)
	one, two := detached(t, v, []byte("one")), detached(t, v, []byte("two"))
	for name, f := range map[string]crypto.Fragment{"another's": two.Fragment, "none": {}} {
		if _, err := v.Open(t.Context(), one.CID, f); !errors.Is(err, ErrWrongKey) {
			t.Errorf("%s fragment: got %v, want ErrWrongKey", name, err)
		}
	}
}

func TestExpiry(t *testing.T) {
	s := newSite(t)
	const month = 30 * 24 * time.Hour
	v := s.vault(t, func(c *Config) { c.Retention = month })
	b := v.Begin()
	end := s.now.Truncate(time.Second).Add(month)
	if !b.Expires().Equal(end) {
		t.Errorf("Expires: got %v, want %v", b.Expires(), end)
	}
	l := detached(t, v, []byte("x"))
	if got := opened(t, v, l.CID).Expires; !got.Equal(end) {
		t.Errorf("the object expires at %v, want %v", got, end)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "keys", "2026-11-22.key")); err != nil {
		t.Errorf("with retention an epoch is a day: %v", err)
	}
	s.now = end.Add(-time.Second)
	wantAll(t, v, l, nil)
	s.now = end
	wantAll(t, v, l, ErrExpired)
	// Who prolongs the retention later prolongs nothing for what was sealed with a date.
	forever := s.vault(t, nil)
	if _, err := forever.Open(t.Context(), l.CID, l.Fragment); !errors.Is(err, ErrExpired) {
		t.Errorf("sealed date passed: got %v, want ErrExpired", err)
	}
	if got := forever.Begin().Expires(); !got.IsZero() {
		t.Errorf("for ever: got %v", got)
	}
}

func TestEpochDestroyed(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	l := detached(t, v, []byte("x"))
	ticket, err := v.SealTicket(l.CID, l.Fragment)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir, "keys", "2026-11.key")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Object", "Open"} {
		if err := routes(v, l)[name](t.Context()); !errors.Is(err, ErrExpired) {
			t.Errorf("%s: got %v, want ErrExpired", name, err)
		}
	}
	if _, err := v.OpenTicket(l.CID, ticket); !errors.Is(err, ErrTicket) {
		t.Errorf("ticket: got %v, want ErrTicket", err)
	}
}

func TestTickets(t *testing.T) {
	for _, mode := range []Mode{Split, LinkOnly} {
		s := newSite(t)
		v := s.vault(t, func(c *Config) { c.Mode = mode })
		one, two := detached(t, v, []byte("one")), detached(t, v, []byte("two"))
		ticket, err := v.SealTicket(one.CID, one.Fragment)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(ticket, one.Fragment.Encode()) || strings.ContainsAny(ticket, "/?#%+=") {
			t.Error("the ticket shows its fragment, or does not fit into a path")
		}
		other := s.vault(t, func(c *Config) { c.Mode = mode }) // another gateway, or this one restarted
		if got, err := other.OpenTicket(one.CID, ticket); err != nil || got != one.Fragment {
			t.Errorf("mode %d: another fragment, error %v", mode, err)
		}
		if _, err := v.OpenTicket(two.CID, ticket); !errors.Is(err, ErrTicket) {
			t.Errorf("another object's: got %v, want ErrTicket", err)
		}
		s.now = s.now.Add(ticketLife - time.Second)
		if _, err := v.OpenTicket(one.CID, ticket); err != nil {
			t.Errorf("shortly before its end: %v", err)
		}
		s.now = s.now.Add(time.Second)
		for _, bad := range []string{ticket, "", "x", ticket[:20]} {
			if _, err := v.OpenTicket(one.CID, bad); !errors.Is(err, ErrTicket) {
				t.Errorf("too old, or malformed: got %v, want ErrTicket", err)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	s := newSite(t)
	for name, cfg := range map[string]Config{
		"no URL":             {},
		"a URL with a query": {BaseURL: "https://host/?x"},
		"negative retention": {BaseURL: "https://host", Retention: -1},
	} {
		if _, err := New(cfg, s.store, s.keys, s.dir); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
