package crypto

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"unique"

	"github.com/mr-tron/base58"
)

// SecretSize is the length in bytes of keys, shares, fragments, proofs and an epoch's secrets alike.
const SecretSize = 32

// maxEncoded is the length of the longest multibase form of a secret: "z" and 44 base58 digits. The
// decoder gets nothing longer, since its time grows with the square of the length.
const maxEncoded = 1 + 44

var (
	// ErrFragmentIncomplete says that the fragment is missing, or was cut short on its way. A
	// fragment that lost only its last digit usually still decodes to 32 bytes, and gives
	// ErrWrongKey later.
	ErrFragmentIncomplete = errors.New("link fragment is incomplete")
	// ErrFragmentInvalid says that a fragment is neither the multibase base58btc form of 32 bytes
	// nor the beginning of such a form.
	ErrFragmentInvalid = errors.New("link fragment is invalid")
)

// secret is 32 bytes that do not print. Its methods answer every verb of fmt. For an unexported
// field fmt cannot call methods and prints the memory instead, where the handle shows as an
// address. The handle is of a string, because with an unsuitable verb fmt prints the array that a
// pointer points to, but never a string. Comparing two handles compares one pointer, in constant
// time.
//
// The zero secret stands for the absence of a secret. It has no bytes, and everything derived from
// it is absent too. It is not a secret of 32 zero bytes.
type secret struct {
	h unique.Handle[string]
}

const redacted = "[redacted]"

// newSecret takes an address, because a crash prints the arguments of every function on the stack,
// and the bytes of an array that is passed by value.
func newSecret(b *[SecretSize]byte) secret { return secret{unique.Make(string(b[:]))} }

// randomSecret reads a secret from a CSPRNG. On an error the secret is absent.
func randomSecret(random io.Reader) (secret, error) {
	var b [SecretSize]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return secret{}, fmt.Errorf("draw random bytes: %w", err)
	}
	return newSecret(&b), nil
}

func (s secret) absent() bool { return s == secret{} }

func (s secret) bytes() []byte {
	if s.absent() {
		return nil
	}
	return []byte(s.h.Value())
}

// encode returns multibase base58btc: "z" and then only letters and digits, since mail scanners
// re-encode everything else.
func (s secret) encode() string {
	if s.absent() {
		return ""
	}
	return "z" + base58.Encode(s.bytes())
}

func (s secret) xor(t secret) secret {
	if s.absent() || t.absent() {
		return secret{}
	}
	var x [SecretSize]byte
	subtle.XORBytes(x[:], s.bytes(), t.bytes())
	return newSecret(&x)
}

// derive returns 32 bytes of HKDF-SHA256 (RFC 5869) of the secret, with an empty salt. Of an absent
// secret it returns nil.
func (s secret) derive(info string) []byte {
	if s.absent() {
		return nil
	}
	b, err := hkdf.Key(sha256.New, s.bytes(), nil, info, SecretSize)
	if err != nil {
		panic(err) // only for more than 255 * 32 bytes
	}
	return b
}

func (s secret) deriveSecret(info string) secret {
	if s.absent() {
		return secret{}
	}
	return newSecret((*[SecretSize]byte)(s.derive(info)))
}

// Format is needed beside String: only Format answers every verb, %d and %x among them.
func (s secret) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (s secret) String() string               { return redacted }
func (s secret) GoString() string             { return redacted }
func (s secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (s secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func parseSecret(s string) (secret, error) {
	switch {
	case s == "" || s == "z":
		return secret{}, ErrFragmentIncomplete
	case s[0] != 'z' || len(s) > maxEncoded:
		return secret{}, ErrFragmentInvalid
	}
	// The decoder's error is not returned: it quotes its input.
	raw, err := base58.Decode(s[1:])
	switch {
	case err != nil || len(raw) > SecretSize:
		return secret{}, ErrFragmentInvalid
	case len(raw) < SecretSize:
		return secret{}, ErrFragmentIncomplete
	}
	return newSecret((*[SecretSize]byte)(raw)), nil
}

// Key is the AES-256 key K of one attachment. It never leaves the process whole, so no method
// returns its bytes.
type Key struct{ secret }

// Share is B, the gateway's part of a key.
type Share struct{ secret }

// Fragment is A, the recipient's part of a key, which stands in the link.
type Fragment struct{ secret }

// NewKey returns a new random key.
func NewKey() (Key, error) {
	s, err := randomSecret(rand.Reader)
	return Key{s}, err
}

// ZeroShare returns the share of mode "link": 32 zero bytes, so that the fragment is the key.
func ZeroShare() Share { return Share{newSecret(new([SecretSize]byte))} }

// Split returns A = K ⊕ B.
func (k Key) Split(s Share) Fragment { return Fragment{k.xor(s.secret)} }

// Join returns K = A ⊕ B. Any fragment joins to a key; OpenMeta proves whether it is the right one.
func Join(f Fragment, s Share) Key { return Key{f.xor(s.secret)} }

// Bytes returns a copy of the 32 bytes.
func (s Share) Bytes() []byte { return s.bytes() }

// Encode returns the share as the gateway serves it.
func (s Share) Encode() string { return s.encode() }

// ShareFromBytes returns the share with these 32 bytes, which a key tree derives.
func ShareFromBytes(b []byte) (Share, error) {
	if len(b) != SecretSize {
		return Share{}, errors.New("a share has 32 bytes")
	}
	return Share{newSecret((*[SecretSize]byte)(b))}, nil
}

// Bytes returns a copy of the 32 bytes.
func (f Fragment) Bytes() []byte { return f.bytes() }

// Encode returns the fragment as it stands in a link.
func (f Fragment) Encode() string { return f.encode() }

// ParseShare reads the form that Encode writes.
func ParseShare(s string) (Share, error) {
	v, err := parseSecret(s)
	return Share{v}, err
}

// ParseFragment reads the form that Encode writes. For anything else it returns
// ErrFragmentIncomplete or ErrFragmentInvalid.
func ParseFragment(s string) (Fragment, error) {
	v, err := parseSecret(s)
	return Fragment{v}, err
}

// FragmentFromBytes returns the fragment with these 32 bytes, which a ticket carries.
func FragmentFromBytes(b []byte) (Fragment, error) {
	if len(b) != SecretSize {
		return Fragment{}, ErrFragmentInvalid
	}
	return Fragment{newSecret((*[SecretSize]byte)(b))}, nil
}
