package crypto

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"unique"

	"github.com/mr-tron/base58"
)

// SecretSize is the length in bytes of keys, shares, fragments and epoch secrets alike.
const SecretSize = 32

// maxEncoded is the longest multibase form of a secret: "z" and 44 base58 digits. Nothing
// longer is handed to the decoder, whose time grows with the square of the length.
const maxEncoded = 1 + 44

var (
	// ErrFragmentIncomplete: the fragment is missing, or was cut short on its way. A fragment
	// that lost only its last digit mostly still decodes to 32 bytes: that one is ErrWrongKey.
	ErrFragmentIncomplete = errors.New("link fragment is incomplete")
	// ErrFragmentInvalid: not the multibase base58btc form of 32 bytes, and no beginning of one.
	ErrFragmentInvalid = errors.New("link fragment is invalid")
)

// secret is 32 bytes that do not print. Its methods cover whoever asks it; where it stands in
// an unexported field of a struct that is printed, fmt may not call methods and walks the
// memory instead: there the handle shows as an address. (That of a string, of all types: with
// a verb that suits no pointer, fmt shows what a pointer to an array points at.) The handle
// also keeps secrets comparable, by one pointer and so in constant time.
//
// The zero secret is no key of zeros but the absence of one: it has no bytes, and what is
// derived from it is absent too.
type secret struct {
	h unique.Handle[string]
}

const redacted = "[redacted]"

// newSecret takes an address: a crash prints the arguments of every function on the stack, and of
// an array passed by value its bytes.
func newSecret(b *[SecretSize]byte) secret { return secret{unique.Make(string(b[:]))} }

// randomSecret reads from a CSPRNG; on an error there is no secret, rather than one of zeros.
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

// encode writes multibase base58btc: "z", then letters and digits only, since mail scanners
// re-encode anything else.
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

// Format, and not only String: it alone answers every verb, %d and %x among them.
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
	// The decoder's error quotes its input, so it goes no further.
	raw, err := base58.Decode(s[1:])
	switch {
	case err != nil || len(raw) > SecretSize:
		return secret{}, ErrFragmentInvalid
	case len(raw) < SecretSize:
		return secret{}, ErrFragmentIncomplete
	}
	return newSecret((*[SecretSize]byte)(raw)), nil
}

// Key is the AES-256 key K of one attachment. It never leaves the process whole, so nothing
// here returns its bytes.
type Key struct{ secret }

// Share is B, the gateway's part of a key.
type Share struct{ secret }

// Fragment is A, the recipient's part of a key, which stands in the link.
type Fragment struct{ secret }

// NewKey draws a key.
func NewKey() (Key, error) {
	s, err := randomSecret(rand.Reader)
	return Key{s}, err
}

// ZeroShare is the share of mode "link": 32 zero bytes, so that the fragment is the key.
func ZeroShare() Share { return Share{newSecret(new([SecretSize]byte))} }

// Split returns A = K ⊕ B.
func (k Key) Split(s Share) Fragment { return Fragment{k.xor(s.secret)} }

// Join returns K = A ⊕ B. Any fragment joins to a key: whether it is the right one, OpenMeta says.
func Join(f Fragment, s Share) Key { return Key{f.xor(s.secret)} }

// Bytes returns a copy of the 32 bytes.
func (s Share) Bytes() []byte { return s.bytes() }

// Encode returns the share as the gateway serves it.
func (s Share) Encode() string { return s.encode() }

// Bytes returns a copy of the 32 bytes.
func (f Fragment) Bytes() []byte { return f.bytes() }

// Encode returns the fragment as it stands in a link.
func (f Fragment) Encode() string { return f.encode() }

// ParseShare reads the form that Encode writes.
func ParseShare(s string) (Share, error) {
	v, err := parseSecret(s)
	return Share{v}, err
}

// ParseFragment reads the form that Encode writes: ErrFragmentIncomplete, ErrFragmentInvalid.
func ParseFragment(s string) (Fragment, error) {
	v, err := parseSecret(s)
	return Fragment{v}, err
}

// FragmentFromBytes makes a fragment of exactly 32 bytes, as a ticket carries it.
func FragmentFromBytes(b []byte) (Fragment, error) {
	if len(b) != SecretSize {
		return Fragment{}, ErrFragmentInvalid
	}
	return Fragment{newSecret((*[SecretSize]byte)(b))}, nil
}
