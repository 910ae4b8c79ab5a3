package object

import (
	"errors"
	"io"
	"testing"

	"filippo.io/age"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// escrowed stores an object of one key, in which another key, perhaps the same, is escrowed.
func escrowed(t *testing.T, key, inEscrow crypto.Key, r age.Recipient) testObject {
	t.Helper()
	return newObject(t, key, []byte("content"), func(add ipfs.AddFunc, d ipfs.Directory) {
		sealed, err := inEscrow.SealEscrow(r)
		must.Succeed(t, err)
		delete(d, Origin)
		d[Escrow], err = ipfs.AddLeaf(add, sealed)
		must.Succeed(t, err)
		core, err := d.CID()
		must.Succeed(t, err)
		secret, err := crypto.NewServiceSecret()
		must.Succeed(t, err)
		origin, err := secret.SealOrigin(core, key.Split(crypto.ZeroShare()), key)
		must.Succeed(t, err)
		d[Origin], err = ipfs.AddLeaf(add, origin[:])
		must.Succeed(t, err)
	})
}

func (o testObject) unlockEscrowed(t *testing.T, ids ...age.Identity) (*Opened, error) {
	t.Helper()
	blocks, err := o.store.Open(t.Context(), o.root)
	must.Succeed(t, err)
	defer blocks.Close()
	s, err := Read(t.Context(), blocks, o.root)
	must.Succeed(t, err)
	return s.UnlockEscrowed(t.Context(), blocks, ids...)
}

func TestEscrowOpensWithoutTheLink(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	must.Succeed(t, err)
	stranger, err := age.GenerateX25519Identity()
	must.Succeed(t, err)
	key := newKey(t)
	o := escrowed(t, key, key, id.Recipient())
	opened, err := o.unlockEscrowed(t, stranger, id)
	must.Succeed(t, err)
	blocks, err := o.store.Open(t.Context(), o.root)
	must.Succeed(t, err)
	f, err := opened.Open(t.Context(), blocks)
	must.Succeed(t, err)
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != "content" {
		t.Errorf("got %q, %v", got, err)
	}

	if _, err := o.unlockEscrowed(t, stranger); !errors.Is(err, crypto.ErrNoEscrow) {
		t.Errorf("a stranger: %v", err)
	}
	// Anybody who stores an object can seal any key for the escrow.
	if _, err := escrowed(t, key, newKey(t), id.Recipient()).unlockEscrowed(t, id); !errors.Is(err, crypto.ErrWrongKey) {
		t.Errorf("another key in the escrow: %v", err)
	}
	if _, err := newObject(t, key, []byte("x"), nil).unlockEscrowed(t, id); !errors.Is(err, ErrNotEscrowed) {
		t.Errorf("without an escrow: %v", err)
	}
}
