package crypto

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func newIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	must.Succeed(t, err)
	return id
}

func TestEscrowedKeyOpensForEachRecipient(t *testing.T) {
	alice, bob := newIdentity(t), newIdentity(t)
	k, err := NewKey()
	must.Succeed(t, err)
	sealed, err := k.SealEscrow(alice.Recipient(), bob.Recipient())
	must.Succeed(t, err)
	for _, id := range []age.Identity{alice, bob} {
		if got, err := OpenEscrow(sealed, newIdentity(t), id); err != nil || got != k {
			t.Errorf("got the same key: %v, error %v", got == k, err)
		}
	}
	if _, err := OpenEscrow(sealed, newIdentity(t)); !errors.Is(err, ErrNoEscrow) {
		t.Errorf("a stranger's identity: %v", err)
	}
	if _, err := OpenEscrow(sealed); !errors.Is(err, ErrNoEscrow) {
		t.Errorf("no identity: %v", err)
	}
}

func TestPostQuantumEscrowFitsIntoAnObject(t *testing.T) {
	id, err := age.GenerateHybridIdentity()
	must.Succeed(t, err)
	k, err := NewKey()
	must.Succeed(t, err)
	four := []age.Recipient{id.Recipient(), id.Recipient(), id.Recipient(), id.Recipient()}
	sealed, err := k.SealEscrow(four...)
	must.Succeed(t, err)
	if got, err := OpenEscrow(sealed, id); err != nil || got != k {
		t.Errorf("got the same key: %v, error %v", got == k, err)
	}
	if _, err := k.SealEscrow(append(four, four...)...); err == nil {
		t.Errorf("eight recipients make more than %d bytes, and were accepted", MaxEscrow)
	}
}

func TestDamagedEscrowIsRefused(t *testing.T) {
	id := newIdentity(t)
	k, err := NewKey()
	must.Succeed(t, err)
	sealed, err := k.SealEscrow(id.Recipient())
	must.Succeed(t, err)
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := OpenEscrow(changed, id); !errors.Is(err, ErrNoEscrow) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := OpenEscrow(sealed[:i], id); !errors.Is(err, ErrNoEscrow) {
			t.Errorf("cut after %d bytes: %v", i, err)
		}
	}
	for _, text := range [][]byte{nil, make([]byte, SecretSize-1), make([]byte, SecretSize+1)} {
		if _, err := OpenEscrow(seal(t, text, id.Recipient()), id); !errors.Is(err, ErrNoEscrow) {
			t.Errorf("%d bytes in place of a key: %v", len(text), err)
		}
	}
	if _, err := OpenEscrow(append(sealed, make([]byte, MaxEscrow)...), id); !errors.Is(err, ErrNoEscrow) {
		t.Errorf("too long: %v", err)
	}
}

func TestAbsentKeyIsNotEscrowed(t *testing.T) {
	if _, err := (Key{}).SealEscrow(newIdentity(t).Recipient()); err == nil {
		t.Error("the absent key was sealed")
	}
}

func TestEscrowedKeyDoesNotPrint(t *testing.T) {
	id := newIdentity(t)
	sealed := seal(t, bytes.Repeat([]byte("K"), SecretSize), id.Recipient())
	k, err := OpenEscrow(sealed, id)
	if got := fmt.Sprintf("%v %+v %#v %s %x %d %v", k, k, k, k, k, k, err); strings.Contains(got, "KK") || strings.Contains(got, "4b4b") {
		t.Errorf("printed: %s", got)
	}
}

// A key that somebody else sealed for the escrow's recipient is not the object's.
func TestOriginCommitsToOneKey(t *testing.T) {
	service, err := NewServiceSecret()
	must.Succeed(t, err)
	k, err := NewKey()
	must.Succeed(t, err)
	other, err := NewKey()
	must.Succeed(t, err)
	core := cid.NewCidV1(cid.DagProtobuf, coreSum(t))
	o, err := service.SealOrigin(core, k.Split(ZeroShare()), k)
	must.Succeed(t, err)
	if !o.Commits(core, k) {
		t.Error("the object's key was refused")
	}
	if o.Commits(core, other) || o.Commits(core, Key{}) || o.Commits(cid.NewCidV1(cid.Raw, coreSum(t)), k) {
		t.Error("another key, or that of another object, was accepted")
	}
}

func seal(t *testing.T, text []byte, r age.Recipient) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := age.Encrypt(&b, r)
	must.Succeed(t, err)
	_, err = w.Write(text)
	must.Succeed(t, errors.Join(err, w.Close()))
	return b.Bytes()
}

func coreSum(t *testing.T) multihash.Multihash {
	t.Helper()
	sum, err := multihash.Sum([]byte("core"), multihash.SHA2_256, -1)
	must.Succeed(t, err)
	return sum
}
