package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/filename"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// clientError is how the proxy knows that the client failed and not the store.
type clientError struct{ error }

// An attachment whose source fails at any point leaves nothing, and the error says whose it was.
func TestSourceFails(t *testing.T) {
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

// brokenStore fails where it is told to.
type brokenStore struct {
	ipfs.Store
	put, open, delete error
	lost              bool // Put stores, and only its answer is lost
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
	return s.Store.Open(ctx, c)
}

func (s *brokenStore) Delete(ctx context.Context, c cid.Cid) error {
	if s.delete != nil {
		return s.delete
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.Store.Delete(ctx, c)
}

func TestStoreFails(t *testing.T) {
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

// Without the keyring there is no link, and then there must be no object either.
func TestKeyringFails(t *testing.T) {
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

func TestOpenAndDrop(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	b := v.Begin()
	one, two := detach(t, b, []byte("one")), detach(t, b, []byte("two"))
	r, err := b.Open(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "one" {
		t.Errorf("read back: got %q, %v", got, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Drop(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if got := b.CIDs(); len(got) != 1 || got[0] != two.CID || s.objects(t) != 1 {
		t.Errorf("after Drop: %v, %d objects", got, s.objects(t))
	}
	if err := b.Drop(t.Context(), one); err == nil {
		t.Error("dropped twice")
	}
	if err := b.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Drop(t.Context(), two); err == nil {
		t.Error("dropped after the commit")
	}
	wantAll(t, v, one, ErrNotFound)
	wantAll(t, v, two, nil)
}

func TestDiscard(t *testing.T) {
	s := newSite(t)
	store := &brokenStore{Store: s.store}
	s.store = store
	v := s.vault(t, nil)
	for _, commit := range []bool{false, true} {
		b := v.Begin()
		links := []link.Link{detach(t, b, []byte("one")), detach(t, b, []byte("two"))}
		if commit {
			if err := b.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
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

// Names are of any length and any bytes; a mail is not refused for one.
func TestLongNamesAndTypesAreClipped(t *testing.T) {
	v := newSite(t).vault(t, nil)
	for _, name := range []string{"", "\xff\xfe.pdf", "a\r\nb", strings.Repeat("ü", 100_000), "x" + strings.Repeat("€", 1000)} {
		b := v.Begin()
		l, err := b.Detach(t.Context(), name, name, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		f, err := b.Open(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		meta := f.(*File).Meta
		if want := filename.Clip(name); meta.Name != want || meta.Type != want {
			t.Errorf("%.20q: got %.40q and %.40q", name, meta.Name, meta.Type)
		}
	}
}

// put stores an object that no vault would make, and enters it into the ledger.
func put(t *testing.T, s *site, v *Vault, entries map[string][]byte) cid.Cid {
	t.Helper()
	root, err := s.store.Put(t.Context(), "test", func(add ipfs.AddFunc) (cid.Cid, error) {
		var list []ipfs.Entry
		for name, content := range entries {
			node, err := ipfs.AddFile(add, bytes.NewReader(content))
			if err != nil {
				return cid.Undef, err
			}
			list = append(list, ipfs.Entry{Name: name, Node: node})
		}
		dir, err := ipfs.AddDirectory(add, list...)
		return dir.CID, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.ledger.append("2026-11", s.now, []stored{{root, 1}}); err != nil {
		t.Fatal(err)
	}
	return root
}

// Even an object in the ledger is only what its bytes say.
func TestMalformedObjects(t *testing.T) {
	s := newSite(t)
	v := s.vault(t, nil)
	key, err := crypto.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	fragment := key.Split(crypto.ZeroShare())
	meta := crypto.Meta{Size: 4, Created: s.now}
	jwe, err := key.SealMeta(meta, crypto.LinkKID)
	if err != nil {
		t.Fatal(err)
	}
	otherEpoch, err := key.SealMeta(meta, "2026-10")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]map[string][]byte{
		"data too short":      {"data": []byte("123"), "meta.jwe": jwe},
		"data too long":       {"data": []byte("12345"), "meta.jwe": jwe},
		"no data":             {"meta.jwe": jwe},
		"no metadata":         {"data": []byte("1234")},
		"a third entry":       {"data": []byte("1234"), "meta.jwe": jwe, "x": nil},
		"another epoch":       {"data": []byte("1234"), "meta.jwe": otherEpoch},
		"metadata too long":   {"data": []byte("1234"), "meta.jwe": make([]byte, crypto.MaxMeta+1)},
		"metadata not a JWE":  {"data": []byte("1234"), "meta.jwe": []byte("{}")},
		"kid leads elsewhere": {"data": []byte("1234"), "meta.jwe": []byte("eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwia2lkIjoiLi4veCJ9..AAAAAAAAAAAAAAAA.AA.AAAAAAAAAAAAAAAAAAAAAA")},
	}
	for name, entries := range tests {
		c := put(t, s, v, entries)
		if _, err := v.Open(t.Context(), c, fragment); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
	c := put(t, s, v, map[string][]byte{"data": []byte("1234"), "meta.jwe": jwe})
	o := opened(t, v, c)
	if _, err := o.Entry(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("another entry: got %v, want ErrNotFound", err)
	}
	f, err := o.Open(t.Context(), fragment)
	if err != nil {
		t.Fatalf("the well-formed one: %v", err)
	}
	if err := errors.Join(f.Close(), o.Close()); err != nil {
		t.Error(err)
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
		if err := batch.Discard(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	v := newSite(b).vault(b, nil)
	content := pattern(64 << 20)
	l := detached(b, v, content)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		f, err := v.Open(b.Context(), l.CID, l.Fragment)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, f); err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
	}
}
