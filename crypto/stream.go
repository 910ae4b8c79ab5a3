package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"math/bits"
)

// Stream returns the AES-256-CTR key stream of the file, positioned at a byte offset. The counter
// block of byte 0 is all zero, which is safe because no key is used for two files. Stream panics if
// the offset is negative or the key absent.
func (k Key) Stream(offset int64) cipher.Stream {
	if k.absent() {
		panic("crypto: Stream of an absent key")
	}
	return streamAt(k.bytes(), [aes.BlockSize]byte{}, offset)
}

// EncodedStream returns the AES-256-CTR key stream of the file's encoded form, from its first byte.
// Its key is derived, because two texts under one key stream would show each other.
func (k Key) EncodedStream() (cipher.Stream, error) {
	if k.absent() {
		return nil, errors.New("encoded stream of an absent key")
	}
	return streamAt(k.derive("detach/v1 encoded"), [aes.BlockSize]byte{}, 0), nil
}

// streamAt returns a stream that starts at any counter block, as the vectors of NIST SP 800-38A F.5
// do.
func streamAt(key []byte, counter [aes.BlockSize]byte, offset int64) cipher.Stream {
	if offset < 0 {
		panic("crypto: negative stream offset")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // only for a key of another length than SecretSize
	}
	counter = addBlocks(counter, uint64(offset)/aes.BlockSize)
	stream := cipher.NewCTR(block, counter[:])
	var skip [aes.BlockSize]byte
	within := skip[:offset%aes.BlockSize]
	stream.XORKeyStream(within, within)
	return stream
}

// addBlocks adds n to the counter block as one 128-bit big-endian number (SP 800-38A B.1 with m =
// 128), as cipher.NewCTR and OpenSSL do.
func addBlocks(counter [aes.BlockSize]byte, n uint64) [aes.BlockSize]byte {
	low, carry := bits.Add64(binary.BigEndian.Uint64(counter[8:]), n, 0)
	high, _ := bits.Add64(binary.BigEndian.Uint64(counter[:8]), 0, carry)
	binary.BigEndian.PutUint64(counter[8:], low)
	binary.BigEndian.PutUint64(counter[:8], high)
	return counter
}
