package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-jose/go-jose/v4"
	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/filename"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

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

// Nothing is served before the commit. After it, every process of the installation serves the
// files.
func TestNothingIsServedBeforeTheCommit(t *testing.T) {
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
		t.Errorf("Commit of a mail whose context has ended: got %v", err)
	}
	for range 2 { // the second adds nothing
		must.Succeed(t, b.Commit(t.Context()))
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

// clientError stands for the error by which the proxy knows that the client failed, and not the
// store.
type clientError struct{ error }

// An attachment whose source fails at any byte leaves nothing, and the error is the source's.
func TestFailingSourceLeavesNothing(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	boom := errors.New("connection reset")
	for _, n := range []int{0, 1, 1000, 1 << 20, 1<<20 + 1, 3 << 20} {
		for _, err := range []error{boom, clientError{boom}, io.ErrUnexpectedEOF, context.Canceled} {
			b := v.Begin()
			_, got := b.Detach(t.Context(), "geheim.pdf", "application/pdf", io.MultiReader(bytes.NewReader(pattern(n)), iotest.ErrReader(err)))
			if !errors.Is(got, err) || errors.Is(got, ErrUnavailable) {
				t.Errorf("after %d bytes: got %v, want %v", n, got, err)
			}
			if _, ok := err.(clientError); ok && !errors.As(got, new(clientError)) {
				t.Errorf("after %d bytes: errors.As does not find the source's error in %v", n, got)
			}
			if got != nil && strings.Contains(got.Error(), "geheim") {
				t.Errorf("the error quotes the file name: %v", got)
			}
			if len(b.CIDs()) != 0 || s.objects(t) != 0 {
				t.Fatalf("after %d bytes: %d objects of %d stay", n, s.objects(t), len(b.CIDs()))
			}
		}
	}
}

// An error of the store is ErrUnavailable, whatever is asked, and an object that it lost is
// ErrNotFound.
func TestStoreErrorsKeepTheirName(t *testing.T) {
	s := newSite(t)
	store := &brokenStore{Store: s.store}
	s.store = store
	v := s.vault(t, nil)
	l := detached(t, v, []byte("x"))
	if got, want := store.names, []string{"detach/v1 2026-11"}; len(got) != 1 || got[0] != want[0] {
		t.Errorf("pin names: got %q, want %q", got, want)
	}
	down := fmt.Errorf("dial: %w", ipfs.ErrUnavailable)
	store.put, store.open = down, down
	b := v.Begin()
	if _, err := b.Detach(t.Context(), "n", "t", strings.NewReader("x")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Detach: got %v, want ErrUnavailable", err)
	}
	for name, route := range routes(v, l) {
		if err := route(t.Context()); name != "ticket" && !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
	}
	store.open = fmt.Errorf("gone: %w", ipfs.ErrNotFound)
	if _, err := v.Object(t.Context(), l.CID); !errors.Is(err, ErrNotFound) {
		t.Errorf("lost by the store: got %v, want ErrNotFound", err)
	}
}

// Without a secret there is no link, and no object.
func TestNothingIsStoredWithoutASecret(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	b := v.Begin()
	b.epoch = "../x"
	if _, err := b.Detach(t.Context(), "n", "t", strings.NewReader("x")); err == nil {
		t.Error("detached without a secret")
	}
	if n := s.objects(t); n != 0 {
		t.Errorf("%d objects stay", n)
	}
}

// If a draw of random bytes fails, for the key, the epoch's secret or the metadata's nonce, there
// is no link, and nothing is stored or committed.
func TestNoRandomBytesNoLink(t *testing.T) {
	faults.Covers(t, 75)
	kernel := rand.Reader
	defer func() { rand.Reader, jose.RandReader = kernel, kernel }()
	enough := 2*crypto.SecretSize + 12
	for _, n := range []int{0, 1, crypto.SecretSize - 1, crypto.SecretSize, crypto.SecretSize + 1, 2*crypto.SecretSize - 1, enough - 1} {
		s := newSite(t)
		v := s.vault(t, nil)
		b := v.Begin()
		failing := io.MultiReader(io.LimitReader(kernel, int64(n)), iotest.ErrReader(errors.New("no entropy")))
		rand.Reader, jose.RandReader = failing, failing
		l, err := b.Detach(t.Context(), "n", "t", strings.NewReader("x"))
		rand.Reader, jose.RandReader = kernel, kernel
		if err == nil || l.Fragment != (crypto.Fragment{}) {
			t.Errorf("%d random bytes: got a link, error %v", n, err)
		}
		if err := errors.Join(b.Commit(t.Context()), b.Close()); err != nil {
			t.Error(err)
		}
		if stay, left := s.objects(t), entries(t, s); stay != 0 || len(left) != 0 {
			t.Errorf("%d random bytes: %d objects and entries %v stay", n, stay, left)
		}
	}
}

func TestBatchReadsAndDropsItsOwn(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	b := v.Begin()
	one, two := detach(t, b, []byte("one")), detach(t, b, []byte("two"))
	r, err := b.Open(t.Context(), one)
	must.Succeed(t, err)
	if got, err := io.ReadAll(r); err != nil || string(got) != "one" {
		t.Errorf("read back: got %q, %v", got, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	must.Succeed(t, b.Drop(t.Context(), one))
	if got := b.CIDs(); len(got) != 1 || got[0] != two.CID || s.objects(t) != 1 {
		t.Errorf("after Drop: %v, %d objects", got, s.objects(t))
	}
	if err := b.Drop(t.Context(), one); err == nil {
		t.Error("dropped twice")
	}
	must.Succeed(t, b.Commit(t.Context()))
	if err := b.Drop(t.Context(), two); err == nil {
		t.Error("dropped after the commit")
	}
	wantAll(t, v, one, ErrNotFound)
	wantAll(t, v, two, nil)
}

func TestDiscardedFilesAreGone(t *testing.T) {
	s := newSite(t)
	store := &brokenStore{Store: s.store}
	s.store = store
	v := s.vault(t, nil)
	for _, commit := range []bool{false, true} {
		b := v.Begin()
		links := []link.Link{detach(t, b, []byte("one")), detach(t, b, []byte("two"))}
		if commit {
			must.Succeed(t, b.Commit(t.Context()))
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel() // the connection that failed
		store.delete = ipfs.ErrUnavailable
		if err := b.Discard(canceled); !errors.Is(err, ErrUnavailable) {
			t.Errorf("store down: got %v, want ErrUnavailable", err)
		}
		store.delete = nil
		if err := b.Discard(canceled); err != nil {
			t.Errorf("again: %v", err)
		}
		if n := s.objects(t); n != 0 || len(b.CIDs()) != 0 {
			t.Errorf("commit %v: %d objects stay", commit, n)
		}
		for _, l := range links {
			if _, err := v.Open(t.Context(), l.CID, l.Fragment); !errors.Is(err, ErrNotFound) {
				t.Errorf("commit %v: got %v, want ErrNotFound", commit, err)
			}
		}
	}
}

// Two attachments of a mail are stored, and the third fails because of its source or the store. No
// object of the mail stays.
func TestThirdFailsAndNoneStays(t *testing.T) {
	faults.Covers(t, 45)
	boom := errors.New("client gone")
	for name, third := range map[string]func(b *Batch, s *brokenStore) error{
		"its source": func(b *Batch, _ *brokenStore) error {
			_, err := b.Detach(t.Context(), "n", "t", io.MultiReader(bytes.NewReader(pattern(2<<20)), iotest.ErrReader(boom)))
			return err
		},
		"the store": func(b *Batch, s *brokenStore) error {
			s.put = ipfs.ErrUnavailable
			_, err := b.Detach(t.Context(), "n", "t", strings.NewReader("three"))
			return err
		},
		"only its answer": func(b *Batch, s *brokenStore) error {
			s.lost = true
			_, err := b.Detach(t.Context(), "n", "t", strings.NewReader("three"))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			store := &brokenStore{Store: s.store}
			s.store = store
			v := s.vault(t, nil)
			b := v.Begin()
			links := []link.Link{detach(t, b, []byte("one")), detach(t, b, []byte("two"))}
			if third(b, store) == nil {
				t.Fatal("the third does not fail")
			}
			must.Succeed(t, errors.Join(b.Discard(t.Context()), b.Close()))
			if n, left := s.objects(t), entries(t, s); n != 0 || len(left) != 0 {
				t.Errorf("%d objects and entries %v stay", n, left)
			}
			for _, l := range links {
				wantAll(t, v, l, ErrNotFound)
			}
		})
	}
}

// Names are of any length and any bytes; a mail is not refused for one.
func TestLongNamesAndTypesAreClipped(t *testing.T) {
	v := newSite(t).vault(t, nil)
	for _, name := range []string{"", "\xff\xfe.pdf", "a\r\nb", strings.Repeat("ü", 100_000), "x" + strings.Repeat("€", 1000)} {
		b := v.Begin()
		l, err := b.Detach(t.Context(), name, name, strings.NewReader("x"))
		must.Succeed(t, err)
		f, err := b.Open(t.Context(), l)
		must.Succeed(t, err)
		defer f.Close()
		meta := f.(*File).Meta
		if want := filename.Clip(name); meta.Name != want || meta.Type != want {
			t.Errorf("%.20q: got %.40q and %.40q", name, meta.Name, meta.Type)
		}
	}
}

// recorder is a store that records the blocks of each object.
type recorder struct {
	ipfs.Store
	objects []map[cid.Cid]int // to its size
}

func (s *recorder) Put(ctx context.Context, name string, build func(ipfs.AddFunc) (cid.Cid, error)) (cid.Cid, error) {
	blocks := map[cid.Cid]int{}
	s.objects = append(s.objects, blocks)
	return s.Store.Put(ctx, name, func(add ipfs.AddFunc) (cid.Cid, error) {
		return build(func(b ipfs.Block) error {
			blocks[b.CID] = len(b.Data)
			return add(b)
		})
	})
}

// The same mail comes again, after a 451 or because it was sent twice. It gets a new key and
// another object, which shares no block with the first. Deleting one leaves the other whole.
func TestSameFileTwiceSharesNothing(t *testing.T) {
	faults.Covers(t, 46, 48)
	empty, err := ipfs.AddFile(func(ipfs.Block) error { return nil }, strings.NewReader(""))
	must.Succeed(t, err)
	for _, mode := range []Mode{Split, LinkOnly} {
		for _, size := range []int{0, 1, 100, 2<<20 + 9} {
			s := newSite(t)
			store := &recorder{Store: s.store}
			s.store = store
			v := s.vault(t, func(c *Config) { c.Mode = mode })
			first := v.Begin()
			gone := detach(t, first, pattern(size))
			must.Succeed(t, errors.Join(first.Discard(t.Context()), first.Close()))
			if n := s.objects(t); n != 0 {
				t.Errorf("%d bytes: %d objects stay of a mail that failed", size, n)
			}
			again, twin := detached(t, v, pattern(size)), v.Begin()
			other := detach(t, twin, pattern(size))
			if gone.CID == again.CID || again.CID == other.CID || gone.Fragment == again.Fragment || again.Fragment == other.Fragment {
				t.Errorf("%d bytes: two objects are alike", size)
			}
			for c := range store.objects[1] {
				if _, shared := store.objects[2][c]; shared && c != empty.CID {
					t.Errorf("%d bytes: two objects have a block in common", size)
				}
			}
			must.Succeed(t, errors.Join(twin.Discard(t.Context()), twin.Close()))
			wantContent(t, v, again, pattern(size))
		}
	}
}

// Errors have the store's reason, for the log, and no name, link or type of the mail.
func TestErrorsSayWhyAndNotWhat(t *testing.T) {
	faults.Covers(t, 43, 82)
	s := newSite(t)
	store := &brokenStore{Store: s.store}
	s.store = store
	v := s.vault(t, nil)
	b := v.Begin()
	l := detach(t, b, []byte("x"))
	down := fmt.Errorf("%w: the node answers 500: no space left", ipfs.ErrUnavailable)
	store.put, store.open, store.delete = down, down, down
	_, err := b.Detach(t.Context(), "geheim.pdf", "application/x-geheim", strings.NewReader("x"))
	_, openErr := b.Open(t.Context(), l)
	for what, err := range map[string]error{
		"Detach": err, "Open": openErr, "Drop": b.Drop(t.Context(), l), "Discard": b.Discard(t.Context()),
	} {
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("%s: got %v, want ErrUnavailable and the reason", what, err)
		}
		for _, secret := range []string{"geheim", l.Fragment.Encode(), "files.example.org"} {
			if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
				t.Errorf("%s: the error tells %q", what, secret)
			}
		}
	}
}

func BenchmarkDetach(b *testing.B) {
	v := newSite(b).vault(b, nil)
	content := pattern(64 << 20)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		batch := v.Begin()
		detach(b, batch, content)
		must.Succeed(b, batch.Discard(b.Context()))
	}
}
