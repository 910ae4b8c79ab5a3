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
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

func TestNewRefuses(t *testing.T) {
	s := newSite(t)
	for name, cfg := range map[string]Config{
		"no URL":             {},
		"a URL with a query": {BaseURL: "https://host/?x"},
	} {
		if _, err := New(cfg, Deps{Store: s.store, Keys: s.keys}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Every process of the installation serves a file from the moment that it is stored, which is
// before anybody has its link. The commit adds it to the ledger, once.
func TestFilesAreServedFromTheirFirstMoment(t *testing.T) {
	s := newSite(t)
	proxy, gateway := s.vault(t, nil), s.vault(t, nil)
	b := proxy.Begin(0)
	one, two := detach(t, b, []byte("one")), detach(t, b, []byte("two"))
	for _, name := range []string{"Object", "Open"} {
		wantErr(t, name, routes(proxy, one)[name](t.Context()), nil)
		wantErr(t, name, routes(gateway, two)[name](t.Context()), nil)
	}
	if got := b.CIDs(); len(got) != 2 || got[0] != one.CID || got[1] != two.CID {
		t.Errorf("CIDs: got %v", got)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, "Commit of a mail whose context has ended", b.Commit(canceled), context.Canceled)
	for range 2 { // the second Commit adds nothing
		must.Succeed(t, b.Commit(t.Context()))
	}
	wantAll(t, proxy, one, nil)
	wantAll(t, gateway, two, nil)
	text, err := os.ReadFile(filepath.Join(s.dir, "ledger", string(b.epoch)+".jsonl"))
	want := ""
	for _, o := range b.objects {
		want += fmt.Sprintf(`{"cid":"%s","core":"%s","size":3,"created":"2026-11-22T20:00:00Z","mail":"%s","kind":"file"}`+"\n", o.entry.CID, o.entry.Core, b.mail)
	}
	if err != nil || string(text) != want {
		t.Errorf("ledger: got %s, %v, want %s", text, err, want)
	}
	wantErr(t, "an empty batch", proxy.Begin(0).Commit(t.Context()), nil)
}

// clientError is an error of the mail's client, which the proxy tells from one of the store.
type clientError struct{ error }

// A source that fails at any byte leaves no object, and Detach returns the source's error.
func TestFailingSourceLeavesNothing(t *testing.T) {
	s, v := newVault(t)
	boom := errors.New("connection reset")
	for _, n := range []int{0, 1, 1000, 1 << 20, 1<<20 + 1, 3 << 20} {
		for _, err := range []error{boom, clientError{boom}, io.ErrUnexpectedEOF, context.Canceled} {
			b := v.Begin(0)
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
				t.Fatalf("after %d bytes: %d objects stay, and CIDs %v", n, s.objects(t), b.CIDs())
			}
		}
	}
}

// Every route returns the store's ErrUnavailable, and ErrNotFound if the store lost the object.
func TestStoreErrorsKeepTheirName(t *testing.T) {
	s, store, v := newBrokenSite(t)
	l := detached(t, v, []byte("x"))
	if got, want := fmt.Sprint(store.names), "[detach/v1 "+string(s.epoch(t))+"]"; got != want {
		t.Errorf("pin names: got %s, want %s", got, want)
	}
	down := fmt.Errorf("dial: %w", ipfs.ErrUnavailable)
	store.put, store.open = down, down
	b := v.Begin(0)
	wantErr(t, "Detach", errOf(b.Detach(t.Context(), "n", "t", strings.NewReader("x"))), ErrUnavailable)
	for _, name := range []string{"Object", "Open"} {
		wantErr(t, name, routes(v, l)[name](t.Context()), ErrUnavailable)
	}
	store.open = fmt.Errorf("gone: %w", ipfs.ErrNotFound)
	wantErr(t, "lost by the store", errOf(v.Object(t.Context(), l.CID)), ErrNotFound)
}

// If the epoch's secret cannot be made, Detach fails and stores no object.
func TestNothingIsStoredWithoutASecret(t *testing.T) {
	s, v := newVault(t)
	b := v.Begin(0)
	b.period = "../x"
	if _, err := b.Detach(t.Context(), "n", "t", strings.NewReader("x")); err == nil {
		t.Error("detached without a secret")
	}
	s.wantNothing(t, "no secret")
}

// If random bytes cannot be read, for the key, the mail's id, the epoch's secrets or the metadata's
// nonce, there is no link, and nothing is stored or committed.
func TestNoRandomBytesNoLink(t *testing.T) {
	faults.Covers(t, 75)
	kernel := rand.Reader
	defer func() { rand.Reader, jose.RandReader = kernel, kernel }()
	enough := 3*crypto.SecretSize + 8 + 12
	for _, n := range []int{0, 1, crypto.SecretSize - 1, crypto.SecretSize, crypto.SecretSize + 1, 2*crypto.SecretSize - 1, 3*crypto.SecretSize - 1, enough - 1} {
		s, v := newVault(t)
		b := v.Begin(0)
		failing := io.MultiReader(io.LimitReader(kernel, int64(n)), iotest.ErrReader(errors.New("no entropy")))
		rand.Reader, jose.RandReader = failing, failing
		l, err := b.Detach(t.Context(), "n", "t", strings.NewReader("x"))
		rand.Reader, jose.RandReader = kernel, kernel
		if err == nil || l.Fragment != (crypto.Fragment{}) {
			t.Errorf("%d random bytes: got a link, error %v", n, err)
		}
		must.Succeed(t, errors.Join(b.Commit(t.Context()), b.Close()))
		s.wantNothing(t, fmt.Sprintf("%d random bytes", n))
	}
}

func TestBatchReadsAndDropsItsOwn(t *testing.T) {
	s, v := newVault(t)
	b := v.Begin(0)
	one, two := detach(t, b, []byte("one")), detach(t, b, []byte("two"))
	r, err := b.Open(t.Context(), one)
	must.Succeed(t, err)
	if got, err := io.ReadAll(r); err != nil || string(got) != "one" {
		t.Errorf("read back: got %q, %v", got, err)
	}
	must.Succeed(t, r.Close())
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
	s, store, v := newBrokenSite(t)
	for _, commit := range []bool{false, true} {
		b := v.Begin(0)
		links := []link.Link{detach(t, b, []byte("one")), detach(t, b, []byte("two"))}
		if commit {
			must.Succeed(t, b.Commit(t.Context()))
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel() // the client has left
		store.delete = ipfs.ErrUnavailable
		wantErr(t, "store down", b.Discard(canceled), ErrUnavailable)
		store.delete = nil
		wantErr(t, "again", b.Discard(canceled), nil)
		if n := s.objects(t); n != 0 || len(b.CIDs()) != 0 {
			t.Errorf("commit %v: %d objects stay", commit, n)
		}
		for _, l := range links {
			wantErr(t, fmt.Sprintf("commit %v", commit), errOf(v.Open(t.Context(), l.CID, l.Fragment)), ErrNotFound)
		}
	}
}

// If the third attachment of a mail fails, by its source or by the store, no object stays.
func TestThirdFailsAndNoneStays(t *testing.T) {
	faults.Covers(t, 45)
	boom := errors.New("client gone")
	for name, third := range map[string]func(b *Batch, s *brokenStore) error{
		"its source": func(b *Batch, _ *brokenStore) error {
			return errOf(b.Detach(t.Context(), "n", "t", io.MultiReader(bytes.NewReader(pattern(2<<20)), iotest.ErrReader(boom))))
		},
		"the store": func(b *Batch, s *brokenStore) error {
			s.put = ipfs.ErrUnavailable
			return errOf(b.Detach(t.Context(), "n", "t", strings.NewReader("three")))
		},
		"its encoded form": func(b *Batch, _ *brokenStore) error {
			return errOf(b.DetachEncoded(t.Context(), "n", "t", strings.NewReader("three"), func() io.Reader { return iotest.ErrReader(boom) }))
		},
		"only the store's answer": func(b *Batch, s *brokenStore) error {
			s.lost = true
			return errOf(b.Detach(t.Context(), "n", "t", strings.NewReader("three")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, store, v := newBrokenSite(t)
			b := v.Begin(0)
			links := []link.Link{detach(t, b, []byte("one")), detach(t, b, []byte("two"))}
			if third(b, store) == nil {
				t.Fatal("Detach of the third succeeds")
			}
			must.Succeed(t, errors.Join(b.Discard(t.Context()), b.Close()))
			s.wantNothing(t, "discarded")
			for _, l := range links {
				wantAll(t, v, l, ErrNotFound)
			}
		})
	}
}

// A decoder takes no longer encoded form than an encoder may write.
func TestLongEncodedFormIsRefused(t *testing.T) {
	_, v := newVault(t)
	for size, want := range map[int]error{transfer.MaxEncoded: nil, transfer.MaxEncoded + 1: ErrCorrupt} {
		b := v.Begin(0)
		content := strings.Repeat("x", size)
		encoded := content
		l, err := b.DetachEncoded(t.Context(), "n", "t", strings.NewReader(content), func() io.Reader { return strings.NewReader(encoded) })
		must.Succeed(t, errors.Join(err, b.Commit(t.Context()), b.Close()))
		r, err := v.OpenPart(t.Context(), l.CID, l.Fragment, true)
		wantErr(t, fmt.Sprint(size, " bytes"), err, want)
		if err == nil {
			if n, err := io.Copy(io.Discard, r); n != int64(size) || err != nil {
				t.Errorf("%d bytes: read %d, %v", size, n, err)
			}
			must.Succeed(t, r.Close())
		}
	}
}

// The encoded form is stored in the attachment's object under another key stream, and only if there
// is one. It is gone with the object.
func TestEncodedFormBelongsToItsAttachment(t *testing.T) {
	const encoded = "=74= \r\nhree and some more"
	content := "three and some more"
	s := newSite(t)
	v := s.vault(t, nil)
	b := v.Begin(0)
	l, err := b.DetachEncoded(t.Context(), "n", "t", strings.NewReader(content), func() io.Reader { return strings.NewReader(encoded) })
	must.Succeed(t, err)
	plain := detach(t, b, []byte(content))
	must.Succeed(t, b.Commit(t.Context()))
	read := func(l link.Link, encoded bool) (string, error) {
		r, err := v.OpenPart(t.Context(), l.CID, l.Fragment, encoded)
		if err != nil {
			return "", err
		}
		defer r.Close()
		got, err := io.ReadAll(r)
		return string(got), err
	}
	for want, isEncoded := range map[string]bool{content: false, encoded: true} {
		if got, err := read(l, isEncoded); err != nil || got != want {
			t.Errorf("encoded %v: got %q, %v, want %q", isEncoded, got, err, want)
		}
	}
	_, err = read(plain, true)
	wantErr(t, "the encoded form of an object that has none", err, ErrCorrupt)
	o, err := v.Object(t.Context(), l.CID)
	must.Succeed(t, err)
	defer o.Close()
	var sealed []string
	for _, name := range []string{object.Data, object.Encoded} {
		f, err := o.Entry(t.Context(), name)
		must.Succeed(t, err)
		got, err := io.ReadAll(f)
		must.Succeed(t, errors.Join(err, f.Close()))
		sealed = append(sealed, string(got))
	}
	for i := range len(content) { // one key stream for both would show their exclusive or
		if sealed[0][i]^sealed[1][i] != content[i]^encoded[i] {
			break
		}
		if i == len(content)-1 {
			t.Error("data and encoded have one key stream")
		}
	}
	must.Succeed(t, errors.Join(b.Discard(t.Context()), b.Close()))
	_, err = read(l, true)
	wantErr(t, "the encoded form of a discarded object", err, ErrNotFound)
}

// A mail is accepted whatever the lengths and bytes of its files' names are.
func TestLongNamesAndTypesAreClipped(t *testing.T) {
	v := newSite(t).vault(t, nil)
	for _, name := range []string{"", "\xff\xfe.pdf", "a\r\nb", strings.Repeat("ü", 100_000), "x" + strings.Repeat("€", 1000)} {
		b := v.Begin(0)
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
	objects []map[cid.Cid]bool
}

func (s *recorder) Put(ctx context.Context, name string, build func(ipfs.AddFunc) (cid.Cid, error)) (cid.Cid, error) {
	blocks := map[cid.Cid]bool{}
	s.objects = append(s.objects, blocks)
	return s.Store.Put(ctx, name, func(add ipfs.AddFunc) (cid.Cid, error) {
		return build(func(b ipfs.Block) error {
			blocks[b.CID] = true
			return add(b)
		})
	})
}

// A mail that comes again, after a 451 or because it was sent twice, gets a new key and another
// object. The two share no block, so deleting one leaves the other whole.
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
			first := v.Begin(0)
			gone := detach(t, first, pattern(size))
			must.Succeed(t, errors.Join(first.Discard(t.Context()), first.Close()))
			if n := s.objects(t); n != 0 {
				t.Errorf("%d bytes: %d objects stay of a mail that failed", size, n)
			}
			again, twin := detached(t, v, pattern(size)), v.Begin(0)
			other := detach(t, twin, pattern(size))
			if gone.CID == again.CID || again.CID == other.CID || gone.Fragment == again.Fragment || again.Fragment == other.Fragment {
				t.Errorf("%d bytes: two objects are alike", size)
			}
			for c := range store.objects[1] {
				if store.objects[2][c] && c != empty.CID {
					t.Errorf("%d bytes: two objects have a block in common", size)
				}
			}
			must.Succeed(t, errors.Join(twin.Discard(t.Context()), twin.Close()))
			wantContent(t, v, again, pattern(size))
		}
	}
}

// An error has the store's reason, for the log, but no name, type or link of the file.
func TestErrorsSayWhyAndNotWhat(t *testing.T) {
	faults.Covers(t, 43, 82)
	_, store, v := newBrokenSite(t)
	b := v.Begin(0)
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
		batch := v.Begin(0)
		detach(b, batch, content)
		must.Succeed(b, batch.Discard(b.Context()))
	}
}

// Each mail has an id of its own in the ledger.
func TestMailIDsDiffer(t *testing.T) {
	one, err := newMailID()
	must.Succeed(t, err)
	if two, err := newMailID(); err != nil || len(one) != 16 || one == two {
		t.Errorf("mail ids %q and %q, %v", one, two, err)
	}
}
