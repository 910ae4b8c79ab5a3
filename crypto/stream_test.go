package crypto

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"math"
	"math/big"
	"os"
	"os/exec"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	must.Succeed(t, err)
	return b
}

// The vectors are NIST SP 800-38A F.5.5 (CTR-AES256.Encrypt) and F.5.6 (Decrypt), read from each
// offset.
func TestStreamIsThatOfTheNISTVectors(t *testing.T) {
	faults.Covers(t, 76)
	key := unhex(t, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
	counter := [16]byte(unhex(t, "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"))
	plain := unhex(t, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"+
		"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	sealed := unhex(t, "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"+
		"2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6")
	for offset := range plain {
		got := make([]byte, len(plain)-offset)
		streamAt(key, counter, int64(offset)).XORKeyStream(got, plain[offset:])
		if !bytes.Equal(got, sealed[offset:]) {
			t.Errorf("F.5.5 from byte %d: got %x, want %x", offset, got, sealed[offset:])
		}
		streamAt(key, counter, int64(offset)).XORKeyStream(got, sealed[offset:])
		if !bytes.Equal(got, plain[offset:]) {
			t.Errorf("F.5.6 from byte %d: got %x, want %x", offset, got, plain[offset:])
		}
	}
}

// reference computes the key stream from one AES block for each counter, counted in math/big.
func reference(t *testing.T, key []byte, counter [16]byte, offset int64, n int) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	must.Succeed(t, err)
	at := new(big.Int).SetBytes(counter[:])
	at.Add(at, big.NewInt(offset/16))
	mod := new(big.Int).Lsh(big.NewInt(1), 128)
	var out []byte
	for len(out) < n+16 {
		var in, enc [16]byte
		at.Mod(at, mod).FillBytes(in[:])
		block.Encrypt(enc[:], in[:])
		out = append(out, enc[:]...)
		at.Add(at, big.NewInt(1))
	}
	return out[offset%16:][:n]
}

func TestStreamBeginsAtAnyByte(t *testing.T) {
	faults.Covers(t, 76)
	k := Key{testSecret(3)}
	const n = 100
	offsets := []int64{math.MaxInt64 - n}
	// The first offsets, those around a chunk of a stored file, and those around every block number
	// at which a narrower counter would wrap. The int64 offsets end at 2^59 blocks.
	for _, around := range []int64{33, 1 << 20, 16 << 16, 16 << 31, 16 << 32, 16 << 33, 16 << 48} {
		for d := int64(-33); d <= 33; d++ {
			offsets = append(offsets, around+d)
		}
	}
	for _, offset := range offsets {
		got := make([]byte, n)
		k.Stream(offset).XORKeyStream(got, got)
		if want := reference(t, k.bytes(), [16]byte{}, offset, n); !bytes.Equal(got, want) {
			t.Errorf("offset %d: got %x, want %x", offset, got, want)
		}
	}
}

// The counter is one number of 128 bits. It carries at 2^32 and 2^64 blocks and wraps at 2^128,
// from every start.
func TestCounterCarriesThrough128Bits(t *testing.T) {
	faults.Covers(t, 76)
	key := testSecret(3).bytes()
	for _, start := range []string{
		"000000000000000000000000ffffffff", "0000000000000000ffffffffffffffff", "0000000000000000fffffffffffffffe",
		"00000000ffffffffffffffffffffffff", "ffffffffffffffffffffffffffffffff", "fffffffffffffffffffffffffffffffe",
		"0000000000000000ffffffff00000000", "0123456789abcdefffffffffffffff00",
	} {
		counter := [16]byte(unhex(t, start))
		block, err := aes.NewCipher(key)
		must.Succeed(t, err)
		whole := make([]byte, 300)
		cipher.NewCTR(block, counter[:]).XORKeyStream(whole, whole)
		for offset := range int64(65) {
			got := make([]byte, len(whole)-int(offset))
			streamAt(key, counter, offset).XORKeyStream(got, got)
			if !bytes.Equal(got, whole[offset:]) {
				t.Errorf("counter %s, offset %d: not what cipher.NewCTR gives", start, offset)
			}
		}
		for _, offset := range []int64{16 << 32, 16<<32 - 1, math.MaxInt64 - 500} {
			got := make([]byte, 100)
			streamAt(key, counter, offset).XORKeyStream(got, got)
			if want := reference(t, key, counter, offset, len(got)); !bytes.Equal(got, want) {
				t.Errorf("counter %s, offset %d: got %x, want %x", start, offset, got, want)
			}
		}
	}
}

func TestOpenSSLDecryptsTheStream(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("openssl is not installed")
	}
	must.Succeed(t, err)
	k := Key{testSecret(11)}
	for _, n := range []int{0, 1, 15, 16, 17, 4096, 1<<20 + 1} {
		plain := bytes.Repeat([]byte("attachment "), n/11+1)[:n]
		sealed := make([]byte, n)
		k.Stream(0).XORKeyStream(sealed, plain)
		cmd := exec.Command(openssl, "enc", "-d", "-aes-256-ctr", "-K", hex.EncodeToString(k.bytes()), "-iv", "0")
		cmd.Stdin = bytes.NewReader(sealed)
		got, err := cmd.Output()
		must.Succeed(t, err)
		if !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: openssl decrypts to other bytes", n)
		}
	}
}

func TestStreamPanicsWithoutAKey(t *testing.T) {
	for name, f := range map[string]func(){
		"absent key":      func() { Key{}.Stream(0) },
		"negative offset": func() { Key{testSecret(1)}.Stream(-1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: got a stream", name)
				}
			}()
			f()
		}()
	}
}

func BenchmarkStream(b *testing.B) {
	buf := make([]byte, 1<<20)
	s := Key{testSecret(1)}.Stream(0)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		s.XORKeyStream(buf, buf)
	}
}
