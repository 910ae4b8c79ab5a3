package crypto

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"strings"

	"github.com/ipfs/go-cid"
)

const (
	// OriginSize is the length in bytes of an object's entry "origin".
	OriginSize = 3 * sha256.Size

	infoAsk     = "detach/v1 ask"
	infoCommit  = "detach/v1 commit"
	infoOrigin  = "detach/v1 origin"
	infoEpochID = "detach/v1 epoch id"
)

var errOriginForm = errors.New("malformed origin (want 96 bytes)")

// Origin is an object's entry "origin": ask ‖ commit ‖ mac, 32 bytes each. The mac shows that the
// installation made this object. Ask and commit bind the object to its link and to its key. All of
// them cover core, the CID of the object's directory without this entry.
type Origin [OriginSize]byte

// ParseOrigin takes exactly 96 bytes.
func ParseOrigin(b []byte) (Origin, error) {
	if len(b) != OriginSize {
		return Origin{}, errOriginForm
	}
	return Origin(b), nil
}

func (o *Origin) ask() []byte    { return o[:32] }
func (o *Origin) commit() []byte { return o[32:64] }
func (o *Origin) mac() []byte    { return o[64:] }

// Proof is p, which shows that its owner has the link of an object, without showing the link. The
// gateway gives the share only to a client that sends it.
type Proof struct{ secret }

// Proof derives p for the object with this core. An absent fragment has an absent proof.
func (f Fragment) Proof(core cid.Cid) Proof { return Proof{f.deriveSecret(infoAsk + core.KeyString())} }

// ParseProof reads the form that Encode writes. For anything else it returns ErrFragmentIncomplete
// or ErrFragmentInvalid.
func ParseProof(s string) (Proof, error) {
	v, err := parseSecret(s)
	return Proof{v}, err
}

// Encode returns the proof as it stands in an Authorization field.
func (p Proof) Encode() string { return p.encode() }

// Asked reports whether p is the proof of this object's link. It takes the same time for each p.
func (o Origin) Asked(p Proof) bool {
	ask := askOf(p)
	return !p.absent() && subtle.ConstantTimeCompare(ask[:], o.ask()) == 1
}

func askOf(p Proof) [sha256.Size]byte { return sha256.Sum256(p.bytes()) }

// CheckKey returns nil if the fragment is the one of this object's link, and the key is the
// object's key, and otherwise ErrWrongKey. A decoder calls it before it uses the key.
func (o Origin) CheckKey(core cid.Cid, f Fragment, k Key) error {
	if !o.Asked(f.Proof(core)) || !o.Commits(core, k) {
		return ErrWrongKey
	}
	return nil
}

// Commits reports whether k is the object's key. It is what CheckKey checks of a key that an escrow
// has given, without the link's fragment.
func (o Origin) Commits(core cid.Cid, k Key) bool {
	commit := k.derive(infoCommit + core.KeyString())
	return !k.absent() && subtle.ConstantTimeCompare(commit, o.commit()) == 1
}

// ServiceSecret is one of an epoch's two secrets. It makes origins and tickets, and names the
// epoch. The other one, the root of the key tree, makes shares.
type ServiceSecret struct{ secret }

// NewServiceSecret returns a new random secret.
func NewServiceSecret() (ServiceSecret, error) {
	s, err := randomSecret(rand.Reader)
	return ServiceSecret{s}, err
}

// ServiceSecretFromBytes returns the secret with these 32 bytes, which a key file has.
func ServiceSecretFromBytes(b []byte) (ServiceSecret, error) {
	if len(b) != SecretSize {
		return ServiceSecret{}, errors.New("a service secret has 32 bytes")
	}
	return ServiceSecret{newSecret((*[SecretSize]byte)(b))}, nil
}

// Bytes returns a copy of the 32 bytes.
func (s ServiceSecret) Bytes() []byte { return s.bytes() }

// ID returns the second part of the epoch's name: 8 characters of lower-case base32.
func (s ServiceSecret) ID() string {
	return strings.ToLower(base32.StdEncoding.EncodeToString(s.derive(infoEpochID)[:5]))
}

// Derive returns 32 bytes of HKDF-SHA256 (RFC 5869) of the secret, with an empty salt.
func (s ServiceSecret) Derive(info string) []byte { return s.derive(info) }

// SealOrigin returns the origin of the object with this core, fragment and key.
func (s ServiceSecret) SealOrigin(core cid.Cid, f Fragment, k Key) (Origin, error) {
	if s.absent() || f.absent() || k.absent() || !core.Defined() {
		return Origin{}, errors.New("seal origin: the secret, the core or the key is absent")
	}
	var o Origin
	ask := askOf(f.Proof(core))
	copy(o.ask(), ask[:])
	copy(o.commit(), k.derive(infoCommit+core.KeyString()))
	copy(o.mac(), s.OriginKey().mac(core, &o))
	return o, nil
}

// OriginKey checks the origins that a service secret has sealed.
type OriginKey struct{ secret }

// OriginKey derives the key.
func (s ServiceSecret) OriginKey() OriginKey { return OriginKey{s.deriveSecret(infoOrigin)} }

// Made reports whether the secret sealed the origin for the object with this core.
func (k OriginKey) Made(core cid.Cid, o Origin) bool {
	return !k.absent() && core.Defined() && hmac.Equal(k.mac(core, &o), o.mac())
}

func (k OriginKey) mac(core cid.Cid, o *Origin) []byte {
	mac := hmac.New(sha256.New, k.bytes())
	mac.Write(core.Bytes())
	mac.Write(o[:64])
	return mac.Sum(nil)
}
