package vectors

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"time"
)

// have returns v. An error here is a mistake in this package.
func have[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func appendHex(b []byte) []byte { return hex.AppendEncode(nil, b) }

func parseHex(digits []byte, into *Hex) error {
	b, err := hex.AppendDecode(nil, digits)
	*into = b
	return err
}

// sequence returns n bytes that count up.
func sequence(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// join is the ‖ of docs/format.md.
func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

func xor(a, b []byte) []byte {
	x := make([]byte, len(a))
	for i := range a {
		x[i] = a[i] ^ b[i]
	}
	return x
}

// derive is the HKDF of docs/format.md. The parts of info are joined.
func derive(secret []byte, label string, info ...[]byte) []byte {
	return have(hkdf.Key(sha256.New, secret, nil, label+string(join(info...)), 32))
}

func sum(b []byte) []byte {
	digest := sha256.Sum256(b)
	return digest[:]
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}

func gcm(key []byte) cipher.AEAD { return have(cipher.NewGCM(have(aes.NewCipher(key)))) }

// ctr encrypts with AES-256-CTR, the counter zero.
func ctr(key, plain []byte) []byte {
	out := make([]byte, len(plain))
	cipher.NewCTR(have(aes.NewCipher(key)), make([]byte, aes.BlockSize)).XORKeyStream(out, plain)
	return out
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func b32(b []byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// multibase is "z" and base58btc.
func multibase(b []byte) string {
	const digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	var out []byte
	for n, base, d := new(big.Int).SetBytes(b), big.NewInt(58), new(big.Int); n.Sign() > 0; {
		n.DivMod(n, base, d)
		out = append(out, digits[d.Int64()])
	}
	for i := 0; i < len(b) && b[i] == 0; i++ {
		out = append(out, digits[0])
	}
	slices.Reverse(out)
	return "z" + string(out)
}

func header(kid string) string {
	return `{"alg":"dir","enc":"A256GCM","kid":` + string(have(json.Marshal(kid))) + `}`
}

// sealJWE follows RFC 7516 by hand.
func sealJWE(key []byte, header string, plain []byte) string {
	iv, protected := sequence(0xa0, 12), b64([]byte(header))
	sealed := gcm(derive(key, "detach/v1 meta")).Seal(nil, iv, plain, []byte(protected))
	at := len(sealed) - 16
	return strings.Join([]string{protected, "", b64(iv), b64(sealed[:at]), b64(sealed[at:])}, ".")
}

// now is the time at which all objects were made.
var now = time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)
