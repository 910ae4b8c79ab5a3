package object

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
)

// The vectors of docs/vectors run in internal/vault, through both ways of this package.

// kid is of mode "link", so that the fragment is the key.
var kid = crypto.KID{Epoch: "2026-11.abcdefgh", Link: true}

// testObject is an object that no vault made.
type testObject struct {
	store    ipfs.Store
	root     cid.Cid
	fragment crypto.Fragment
}

// newObject stores an object. change, if it is not nil, may change the entries before they are a
// directory.
func newObject(t *testing.T, key crypto.Key, content []byte, change func(add ipfs.AddFunc, d ipfs.Directory)) testObject {
	t.Helper()
	store, err := embedded.Open(t.TempDir(), nil)
	must.Succeed(t, err)
	t.Cleanup(func() { _ = store.Close() })
	secret, err := crypto.NewServiceSecret()
	must.Succeed(t, err)
	jwe, err := key.SealMeta(crypto.Meta{Size: int64(len(content)), Created: time.Unix(0, 0)}, kid)
	must.Succeed(t, err)
	text := bytes.Clone(content)
	key.Stream(0).XORKeyStream(text, text)
	fragment := key.Split(crypto.ZeroShare())
	root, err := store.Put(t.Context(), "test", func(add ipfs.AddFunc) (cid.Cid, error) {
		d := make(ipfs.Directory)
		d[Data], err = ipfs.AddFile(add, bytes.NewReader(text))
		must.Succeed(t, err)
		d[Meta], err = ipfs.AddLeaf(add, jwe)
		must.Succeed(t, err)
		core, err := d.CID()
		must.Succeed(t, err)
		origin, err := secret.SealOrigin(core, fragment, key)
		must.Succeed(t, err)
		d[Origin], err = ipfs.AddLeaf(add, origin[:])
		must.Succeed(t, err)
		if change != nil {
			change(add, d)
		}
		n, err := d.Add(add)
		return n.CID, err
	})
	must.Succeed(t, err)
	return testObject{store, root, fragment}
}

func (o testObject) read(t *testing.T) (*Sealed, error) {
	t.Helper()
	blocks, err := o.store.Open(t.Context(), o.root)
	must.Succeed(t, err)
	defer blocks.Close()
	return Read(t.Context(), blocks, o.root)
}

// car returns a gateway's answer to /ipfs/CID/ENTRY?format=car&entity-bytes=FROM:*.
func (o testObject) car(t *testing.T, entry string, from int64) *closer {
	t.Helper()
	blocks, err := o.store.Open(t.Context(), o.root)
	must.Succeed(t, err)
	defer blocks.Close()
	var b bytes.Buffer
	must.Succeed(t, ipfs.ExportCAR(t.Context(), &b, blocks, o.root, entry, from))
	return &closer{Reader: &b}
}

func newKey(t *testing.T) crypto.Key {
	t.Helper()
	key, err := crypto.NewKey()
	must.Succeed(t, err)
	return key
}

// closer counts how often it is closed.
type closer struct {
	io.Reader
	closed int
}

func (c *closer) Close() error { c.closed++; return nil }

func TestArrivingFileBeginsAtAnyOffset(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef!"), 3<<20/17)
	o := newObject(t, newKey(t), content, nil)
	sealed, err := ReadCAR(t.Context(), o.car(t, Meta, 0), o.car(t, Origin, 0), o.root)
	must.Succeed(t, err)
	if want, err := o.read(t); err != nil || sealed.Core != want.Core || sealed.Origin != want.Origin || sealed.KID != kid {
		t.Errorf("the CARs give another object than the store: %v", err)
	}
	if _, err := sealed.Unlock(crypto.Fragment{}, crypto.ZeroShare(), time.Time{}, time.Now()); !errors.Is(err, crypto.ErrWrongKey) {
		t.Errorf("no fragment: got %v, want ErrWrongKey", err)
	}
	opened, err := sealed.Unlock(o.fragment, crypto.ZeroShare(), time.Time{}, time.Now())
	must.Succeed(t, err)
	car := func(from int64) *closer { return o.car(t, Data, from) }
	for _, from := range []int64{0, 1, 15, 16, 17, 1<<20 - 1, 1 << 20, 1<<20 + 1, 2<<20 + 5, int64(len(content)) - 1, int64(len(content))} {
		body := car(from)
		f, err := opened.OpenCAR(t.Context(), body, from)
		must.Succeed(t, err)
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, content[from:]) {
			t.Errorf("from %d: got %d bytes, %v, want %d", from, len(got), err, int64(len(content))-from)
		}
		if err := f.Close(); err != nil || body.closed != 1 {
			t.Errorf("from %d: closed %d times, %v", from, body.closed, err)
		}
	}
	// A CAR that breaks off is an error of OpenCAR or of a read, and its body is closed.
	whole, err := io.ReadAll(car(0))
	must.Succeed(t, err)
	for _, cut := range []int{0, 10, 59, 100, 59 + 150, len(whole) / 2} {
		body := &closer{Reader: iotest.HalfReader(bytes.NewReader(whole[:cut]))}
		f, err := opened.OpenCAR(t.Context(), body, 0)
		if err == nil {
			_, err = io.Copy(io.Discard, f)
			_ = f.Close()
		}
		if !errors.Is(err, ipfs.ErrCorrupt) || body.closed != 1 {
			t.Errorf("cut at %d: got %v, closed %d times", cut, err, body.closed)
		}
	}
}

// Only the entries of the format are accepted, and those that are one raw block have its size as
// their Tsize: a link that nothing proves would give the object a second CID.
func TestReadRefusesOtherForms(t *testing.T) {
	leaf := func(add ipfs.AddFunc, n int) ipfs.Node {
		node, err := ipfs.AddLeaf(add, make([]byte, n))
		must.Succeed(t, err)
		return node
	}
	resize := func(d ipfs.Directory, name string, by uint64) {
		n := d[name]
		n.Tsize += by
		d[name] = n
	}
	for name, change := range map[string]func(ipfs.AddFunc, ipfs.Directory){
		"no data":              func(_ ipfs.AddFunc, d ipfs.Directory) { delete(d, Data) },
		"no metadata":          func(_ ipfs.AddFunc, d ipfs.Directory) { delete(d, Meta) },
		"no origin":            func(_ ipfs.AddFunc, d ipfs.Directory) { delete(d, Origin) },
		"another entry":        func(add ipfs.AddFunc, d ipfs.Directory) { d["name"] = leaf(add, 1) },
		"metadata too long":    func(add ipfs.AddFunc, d ipfs.Directory) { d[Meta] = leaf(add, crypto.MaxMeta+1) },
		"metadata not a JWE":   func(add ipfs.AddFunc, d ipfs.Directory) { d[Meta] = leaf(add, 10) },
		"metadata's Tsize":     func(_ ipfs.AddFunc, d ipfs.Directory) { resize(d, Meta, 1) },
		"origin too short":     func(add ipfs.AddFunc, d ipfs.Directory) { d[Origin] = leaf(add, crypto.OriginSize-1) },
		"origin too long":      func(add ipfs.AddFunc, d ipfs.Directory) { d[Origin] = leaf(add, crypto.OriginSize+1) },
		"origin's Tsize":       func(_ ipfs.AddFunc, d ipfs.Directory) { resize(d, Origin, 1) },
		"origin of two blocks": func(add ipfs.AddFunc, d ipfs.Directory) { d[Origin] = d[Data] },
		"escrow too long":      func(add ipfs.AddFunc, d ipfs.Directory) { d[Escrow] = leaf(add, crypto.MaxEscrow+1) },
		"escrow of two blocks": func(_ ipfs.AddFunc, d ipfs.Directory) { d[Escrow] = d[Data] },
	} {
		o := newObject(t, newKey(t), make([]byte, 2<<20), change)
		if _, err := o.read(t); !errors.Is(err, ipfs.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
	o := newObject(t, newKey(t), []byte("x"), func(add ipfs.AddFunc, d ipfs.Directory) { d[Escrow] = leaf(add, crypto.MaxEscrow) })
	if _, err := o.read(t); err != nil {
		t.Errorf("with a small escrow: %v", err)
	}
}

// A key must be the one that ask and commit name, whatever it opens.
func TestUnlockChecksAskAndCommit(t *testing.T) {
	key := newKey(t)
	for name, at := range map[string]int{"ask": 0, "commit": 32} {
		o := newObject(t, key, []byte("x"), nil)
		sealed, err := o.read(t)
		must.Succeed(t, err)
		if _, err := sealed.Unlock(o.fragment, crypto.ZeroShare(), time.Time{}, time.Now()); err != nil {
			t.Errorf("unchanged: %v", err)
		}
		sealed.Origin[at] ^= 1
		if _, err := sealed.Unlock(o.fragment, crypto.ZeroShare(), time.Time{}, time.Now()); !errors.Is(err, crypto.ErrWrongKey) {
			t.Errorf("another %s: got %v, want ErrWrongKey", name, err)
		}
	}
}

func TestLaterEndCounts(t *testing.T) {
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	for _, c := range []struct{ a, b, want time.Time }{
		{early, late, late}, {early, early, early}, {time.Time{}, early, time.Time{}}, {time.Time{}, time.Time{}, time.Time{}},
	} {
		for _, got := range []time.Time{later(c.a, c.b), later(c.b, c.a)} {
			if !got.Equal(c.want) {
				t.Errorf("of %v and %v: got %v", c.a, c.b, got)
			}
		}
	}
}
