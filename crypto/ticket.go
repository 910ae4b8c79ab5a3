package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	infoTicket = "detach/v1 ticket"
	// maxTicket bounds what is decoded. A ticket has about 100 characters.
	maxTicket = 1024
)

// ErrTicket says that a text is not a ticket, was altered, or was sealed for something else.
var ErrTicket = errors.New("invalid ticket")

// SealTicket encrypts a few bytes under the epoch's secret, bound to aad, and returns EPOCH "."
// base64url. Every process with the keyring can open the ticket, so it survives a restart and works
// on every gateway. SealTicket returns ErrNoEpoch if the secret is gone.
func (r *Keyring) SealTicket(e Epoch, plain, aad []byte) (string, error) {
	aead, err := r.ticketAEAD(e)
	if err != nil {
		return "", err
	}
	// Random 96-bit nonces are good for 2^32 tickets of one epoch (SP 800-38D section 8.3).
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	if _, err := io.ReadFull(rand.Reader, nonce); err != nil {
		return "", fmt.Errorf("seal ticket: %w", err)
	}
	sealed := aead.Seal(nonce, nonce, plain, aad)
	return string(e) + "." + base64.RawURLEncoding.EncodeToString(sealed), nil
}

// OpenTicket returns the bytes that were sealed, or ErrTicket, or ErrNoEpoch if the secret is gone.
func (r *Keyring) OpenTicket(ticket string, aad []byte) ([]byte, error) {
	name, encoded, _ := strings.Cut(ticket, ".")
	epoch, err := ParseEpoch(name)
	if err != nil || len(ticket) > maxTicket {
		return nil, ErrTicket
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, ErrTicket
	}
	aead, err := r.ticketAEAD(epoch)
	if err != nil {
		return nil, err
	}
	if len(sealed) < aead.NonceSize() {
		return nil, ErrTicket
	}
	plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], aad)
	if err != nil {
		return nil, ErrTicket
	}
	return plain, nil
}

func (r *Keyring) ticketAEAD(e Epoch) (cipher.AEAD, error) {
	key, err := r.derive(e, infoTicket)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("ticket key: %w", err)
	}
	return cipher.NewGCM(block)
}
