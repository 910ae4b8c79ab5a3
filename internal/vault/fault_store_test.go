package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/faults"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
)

// recorder is a store that notes the blocks of each object.
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

// Two of three attachments are stored and the third fails, by its own fault or the store's: none of
// the three stays.
func TestThirdFails(t *testing.T) {
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
			if err := errors.Join(b.Discard(t.Context()), b.Close()); err != nil {
				t.Fatal(err)
			}
			if n, left := s.objects(t), entries(t, s); n != 0 || len(left) != 0 {
				t.Errorf("%d objects and entries %v stay", n, left)
			}
			for _, l := range links {
				wantAll(t, v, l, ErrNotFound)
			}
		})
	}
}

// A real node dies at the third attachment, and so cannot be told to forget the other two. When it
// is back, it is.
func TestNodeDies(t *testing.T) {
	faults.Covers(t, 39, 45, 47)
	node := servers.Kubo(t)
	s := newSite(t)
	s.store = kuboStore(t, node)
	v := s.vault(t, nil)
	before := node.Pins()
	b := v.Begin()
	detach(t, b, []byte("one"))
	detach(t, b, pattern(3<<20))
	if n := len(node.Pins()) - len(before); n != 2 {
		t.Fatalf("%d objects are pinned, want 2", n)
	}
	read := 0
	_, err := b.Detach(t.Context(), "n", "t", readerFunc(func(p []byte) (int, error) {
		if read += len(p); read > 5<<20 && read-len(p) <= 5<<20 {
			node.Kill()
		}
		if read > 100<<20 {
			return 0, errors.New("read to the end of a source after the node had died")
		}
		return len(p), nil
	}))
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("Detach: got %v, want ErrUnavailable", err)
	}
	if err := b.Discard(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Discard: got %v, want ErrUnavailable", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	node.Start()
	recovered(t, v, 2)
	if got := node.Pins(); !slices.Equal(got, before) {
		t.Errorf("pins: got %v, want %v", got, before)
	}
	if left := entries(t, s); len(left) != 0 {
		t.Errorf("entries left: %v", left)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func kuboStore(t *testing.T, node *servers.KuboNode) *kubo.Store {
	t.Helper()
	store, err := kubo.New(kubo.Config{API: node.API()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// The same mail again, after a 451 or because it was sent twice: a new key, and so another object,
// of which no block is the other's. To delete one leaves the other one whole.
func TestSameFileTwice(t *testing.T) {
	faults.Covers(t, 46, 48)
	empty, err := ipfs.AddFile(func(ipfs.Block) error { return nil }, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []Mode{Split, LinkOnly} {
		for _, size := range []int{0, 1, 100, 2<<20 + 9} {
			s := newSite(t)
			store := &recorder{Store: s.store}
			s.store = store
			v := s.vault(t, func(c *Config) { c.Mode = mode })
			first := v.Begin()
			gone := detach(t, first, pattern(size))
			if err := errors.Join(first.Discard(t.Context()), first.Close()); err != nil {
				t.Fatal(err)
			}
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
			if err := errors.Join(twin.Discard(t.Context()), twin.Close()); err != nil {
				t.Fatal(err)
			}
			wantContent(t, v, again, pattern(size))
		}
	}
}

func wantContent(t *testing.T, v *Vault, l link.Link, want []byte) {
	t.Helper()
	if got, err := content(t, v, l); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
	}
}

// content is all that can be read of an object, and the error that ended it.
func content(t *testing.T, v *Vault, l link.Link) ([]byte, error) {
	t.Helper()
	f, err := v.Open(t.Context(), l.CID, l.Fragment)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// Every size at which something begins, through a real node and back, from the start and from
// within.
func TestSizes(t *testing.T) {
	faults.Covers(t, 53)
	s := newSite(t)
	s.store = kuboStore(t, servers.Kubo(t))
	v := s.vault(t, nil)
	for _, size := range []int{0, 1, 15, 16, 17, 31, 32, 33, 1<<20 - 1, 1 << 20, 1<<20 + 1, 2 << 20, 3<<20 + 5} {
		want := pattern(size)
		l := detached(t, v, want)
		wantContent(t, v, l, want)
		f, err := v.Open(t.Context(), l.CID, l.Fragment)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{1, 16, 17, size / 2, size - 1} {
			if at < 0 || at > size {
				continue
			}
			if _, err := f.Seek(int64(at), io.SeekStart); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want[at:]) {
				t.Errorf("%d bytes from %d: got %d, %v", size, at, len(got), err)
			}
		}
		if f.Meta.Size != int64(size) {
			t.Errorf("%d bytes: the metadata says %d", size, f.Meta.Size)
		}
		_ = f.Close()
	}
}

// The store's reason is in the error, for who reads the log; what the mail is called is not.
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
