package crypto

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// MaxEscrow is the size in bytes of the largest escrow.age: see docs/format.md.
const MaxEscrow = 8 << 10

// ErrNoEscrow says that an escrow.age opens with none of the identities, or holds something else
// than a key.
var ErrNoEscrow = errors.New("no escrowed key opens with this identity")

// SealEscrow returns an escrow.age: an age file (age-encryption.org/v1) with the 32 bytes of K, at
// most [MaxEscrow] bytes long. Each recipient alone can open it, and so the file that K encrypts,
// without the link and without the gateway's share.
func (k Key) SealEscrow(recipients ...age.Recipient) ([]byte, error) {
	if k.absent() {
		return nil, errors.New("escrow: there is no key")
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipients...)
	if err == nil {
		_, err = w.Write(k.bytes())
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("escrow: %w", err)
	}
	if sealed.Len() > MaxEscrow {
		return nil, fmt.Errorf("escrow: %d bytes, and an object may have %d: name fewer recipients", sealed.Len(), MaxEscrow)
	}
	return sealed.Bytes(), nil
}

// OpenEscrow returns the key in an escrow.age. The caller must check it against the object's
// origin: anybody can encrypt another key for the recipient. The error is ErrNoEscrow,
// without age's words, which may quote an identity.
func OpenEscrow(sealed []byte, identities ...age.Identity) (Key, error) {
	if len(sealed) > MaxEscrow || len(identities) == 0 {
		return Key{}, ErrNoEscrow
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), identities...)
	if err != nil {
		return Key{}, ErrNoEscrow
	}
	var b [SecretSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Key{}, ErrNoEscrow
	}
	// The last chunk is authenticated when it ends, and a longer one is not a key.
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return Key{}, ErrNoEscrow
	}
	return Key{newSecret(&b)}, nil
}
