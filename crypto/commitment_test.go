package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// AES-GCM does not commit to its key: someone who chooses two keys can make one ciphertext that is
// authentic under both (https://eprint.iacr.org/2020/1456). This test makes such a meta.jwe. It
// shows, and we guarantee:
//
//   - Authentic is not enough. The plaintext must be metadata, and under the second key it is noise,
//     which OpenMeta refuses. To get metadata under both keys, an attacker must search for a text
//     whose bytes suit two key streams. That is hard, and this package does not rely on it.
//   - An installation opens only objects that it made itself, and those have one key: K is random,
//     so no sender can prepare a second one, and to find a second one for a given ciphertext takes
//     2^128 tries. (internal/vault tests an object that somebody else made.)
//   - CID and fragment of a link always give one content. Two links with one CID and two contents
//     need an installation that chose both keys, so a dishonest one. The SHA-256 in the metadata
//     tells the two contents apart; `detach get` prints it.
func TestAuthenticUnderTwoKeys(t *testing.T) {
	faults.Covers(t, 79)
	k1, k2 := Key{testSecret(1)}, Key{testSecret(101)}
	var jwe []byte
	var meta Meta
	var err error = errMetaForm
	for nonce := byte(0); err != nil; nonce++ { // noise in a name is rarely JSON
		jwe = twoKeys(t, k1, k2, nonce)
		meta, err = k1.OpenMeta(jwe)
	}
	if meta.Type != "text/plain" {
		t.Fatalf("under the first key: %+v", meta)
	}
	for _, k := range []Key{k1, k2} {
		obj, err := jose.ParseEncryptedCompact(string(jwe), []jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256GCM})
		must.Succeed(t, err)
		if _, err := obj.Decrypt(k.metaKey()); err != nil {
			t.Fatal("not authentic under both keys, so this test shows nothing")
		}
	}
	if m, err := k2.OpenMeta(jwe); !errors.Is(err, errMetaForm) {
		t.Errorf("under the second key: got %+v, %v; want it refused", m, err)
	}
	if _, err := (Key{testSecret(55)}).OpenMeta(jwe); !errors.Is(err, ErrWrongKey) {
		t.Errorf("under a third key: got %v, want ErrWrongKey", err)
	}
}

// twoKeys makes a meta.jwe that opens under k1 and is authentic under k2: one block of its
// ciphertext, in the middle of the name, is chosen so that the two tags are equal.
func twoKeys(t *testing.T, k1, k2 Key, first byte) []byte {
	t.Helper()
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"dir","enc":"A256GCM","kid":"2026-11.aaaa2345"}`))
	nonce := []byte{first, 11: 0}
	const free = 2 // the block that is chosen, within the name
	plain := []byte(`{"name":"` + strings.Repeat("n", 39) + `","type":"text/plain","size":0,"sha256":"` +
		strings.Repeat("00", 32) + `","created":"2026-11-22T20:00:00Z","expires":null}`)
	if !json.Valid(plain) {
		t.Fatal("malformed metadata")
	}
	one, two := newGCM(t, k1, nonce), newGCM(t, k2, nonce)
	sealed, counter := make([]byte, len(plain)), addBlocks(one.j0, 1)
	cipher.NewCTR(one.block, counter[:]).XORKeyStream(sealed, plain)
	clear(sealed[free*16 : (free+1)*16])
	// With a zero block the tags differ by some d. A block x adds x·H^n to each tag, where n is its
	// distance from the end. The tags are equal for x = d / (H1^n + H2^n).
	d := xor(one.tag(header, sealed), two.tag(header, sealed))
	n := (len(sealed)+15)/16 - free + 1
	x := mul(d, inverse(xor(power(one.h, n), power(two.h, n))))
	x.put(sealed[free*16:])
	tag := one.tag(header, sealed)
	if tag != two.tag(header, sealed) {
		t.Fatal("the tags differ")
	}
	var raw [16]byte
	tag.put(raw[:])
	enc := base64.RawURLEncoding.EncodeToString
	return []byte(header + ".." + enc(nonce) + "." + enc(sealed) + "." + enc(raw[:]))
}

// gcm is NIST SP 800-38D, with access to its parts.
type gcm struct {
	block cipher.Block
	j0    [16]byte
	h     element
}

func newGCM(t *testing.T, k Key, nonce []byte) gcm {
	t.Helper()
	block, err := aes.NewCipher(k.metaKey())
	must.Succeed(t, err)
	g := gcm{block: block}
	copy(g.j0[:], nonce)
	g.j0[15] = 1
	var zero [16]byte
	block.Encrypt(zero[:], zero[:])
	g.h = toElement(zero[:])
	return g
}

func (g gcm) tag(header string, sealed []byte) element {
	var y element
	for _, part := range [][]byte{[]byte(header), sealed} {
		for ; len(part) > 0; part = part[min(16, len(part)):] {
			var b [16]byte
			copy(b[:], part)
			y = mul(xor(y, toElement(b[:])), g.h)
		}
	}
	lengths := element{uint64(len(header)) * 8, uint64(len(sealed)) * 8}
	var mask [16]byte
	g.block.Encrypt(mask[:], g.j0[:])
	return xor(mul(xor(y, lengths), g.h), toElement(mask[:]))
}

// element is an element of GF(2^128), in GCM's order of bits.
type element [2]uint64

func toElement(b []byte) element {
	return element{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

func (e element) put(b []byte) {
	binary.BigEndian.PutUint64(b, e[0])
	binary.BigEndian.PutUint64(b[8:], e[1])
}

func xor(a, b element) element { return element{a[0] ^ b[0], a[1] ^ b[1]} }

func mul(a, b element) (z element) {
	for i := range 128 {
		if a[i/64]>>(63-i%64)&1 == 1 {
			z = xor(z, b)
		}
		carry := b[1] & 1
		b = element{b[0] >> 1, b[1]>>1 | b[0]<<63}
		b[0] ^= carry * 0xe1 << 56
	}
	return z
}

func power(a element, n int) element {
	z := element{1 << 63, 0} // one
	for range n {
		z = mul(z, a)
	}
	return z
}

// inverse returns a^(2^128-2).
func inverse(a element) element {
	z := element{1 << 63, 0}
	for range 127 {
		a = mul(a, a)
		z = mul(z, a)
	}
	return z
}
