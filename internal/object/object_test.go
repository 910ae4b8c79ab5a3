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

// carOf stores the content. It returns the sealed object, and a function that makes CARs of data.
func carOf(t *testing.T, key crypto.Key, content []byte) (sealed *Sealed, car func(from int64) *closer) {
	t.Helper()
	store, err := embedded.Open(t.TempDir(), nil)
	must.Succeed(t, err)
	t.Cleanup(func() { _ = store.Close() })
	jwe, err := key.SealMeta(crypto.Meta{Size: int64(len(content)), Created: time.Unix(0, 0)}, crypto.LinkKID)
	must.Succeed(t, err)
	text := bytes.Clone(content)
	key.Stream(0).XORKeyStream(text, text)
	root, err := store.Put(t.Context(), "test", func(add ipfs.AddFunc) (cid.Cid, error) {
		data, err := ipfs.AddFile(add, bytes.NewReader(text))
		if err != nil {
			return cid.Undef, err
		}
		meta, err := ipfs.AddFile(add, bytes.NewReader(jwe))
		if err != nil {
			return cid.Undef, err
		}
		dir, err := ipfs.AddDirectory(add, ipfs.Entry{Name: Data, Node: data}, ipfs.Entry{Name: Meta, Node: meta})
		return dir.CID, err
	})
	must.Succeed(t, err)
	blocks, err := store.Open(t.Context(), root)
	must.Succeed(t, err)
	t.Cleanup(func() { _ = blocks.Close() })
	sealed, err = Read(t.Context(), blocks, root)
	must.Succeed(t, err)
	return sealed, func(from int64) *closer {
		var b bytes.Buffer
		must.Succeed(t, ipfs.ExportCAR(t.Context(), &b, blocks, root, Data, from))
		return &closer{Reader: &b}
	}
}

// closer counts how often it is closed.
type closer struct {
	io.Reader
	closed int
}

func (c *closer) Close() error { c.closed++; return nil }

func TestArrivingFileBeginsAtAnyOffset(t *testing.T) {
	key, err := crypto.NewKey()
	must.Succeed(t, err)
	content := bytes.Repeat([]byte("0123456789abcdef!"), 3<<20/17)
	sealed, car := carOf(t, key, content)
	if _, err := sealed.Unlock(crypto.Fragment{}, crypto.ZeroShare(), time.Now()); !errors.Is(err, crypto.ErrWrongKey) {
		t.Errorf("no fragment: got %v, want ErrWrongKey", err)
	}
	opened, err := sealed.Unlock(key.Split(crypto.ZeroShare()), crypto.ZeroShare(), time.Now())
	must.Succeed(t, err)
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
