package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

const (
	infoTicket = "detach/v1 ticket"
	dayLayout  = "2006-01-02"
	// maxTicket bounds what is decoded. A ticket has about 140 characters.
	maxTicket = 1024
)

// ErrTicket says that a text is not a ticket, is too old, was altered, or was sealed for something
// else.
var ErrTicket = errors.New("invalid ticket")

// SealTicket encrypts a few bytes under the epoch's key for the UTC day of now, bound to aad, and
// returns EPOCH "." DAY "." base64url. Every process with the keyring can open the ticket, so it
// survives a restart and works on every gateway. SealTicket returns ErrNoEpoch if the secret is
// gone.
func (r *Keyring) SealTicket(e crypto.Epoch, now time.Time, plain, aad []byte) (string, error) {
	day := now.UTC().Format(dayLayout)
	aead, err := r.keys.ticketAEAD(e, day)
	if err != nil {
		return "", err
	}
	// Random 96-bit nonces are good for 2^32 tickets of one key (SP 800-38D section 8.3).
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	if _, err := io.ReadFull(rand.Reader, nonce); err != nil {
		return "", fmt.Errorf("seal ticket: %w", err)
	}
	sealed := aead.Seal(nonce, nonce, plain, aad)
	return string(e) + "." + day + "." + base64.RawURLEncoding.EncodeToString(sealed), nil
}

// OpenTicket returns the bytes that were sealed, or ErrTicket, or ErrNoEpoch if the secret is gone.
// The ticket's day may be today's, yesterday's, or tomorrow's, for gateways whose clocks differ.
func (r *Keyring) OpenTicket(ticket string, now time.Time, aad []byte) ([]byte, error) {
	parts := strings.Split(ticket, ".")
	if len(ticket) > maxTicket || len(parts) != 4 {
		return nil, ErrTicket
	}
	epoch, err := crypto.ParseEpoch(parts[0] + "." + parts[1])
	if err != nil || !near(parts[2], now) {
		return nil, ErrTicket
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(parts[3])
	if err != nil {
		return nil, ErrTicket
	}
	aead, err := r.keys.ticketAEAD(epoch, parts[2])
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

func near(day string, now time.Time) bool {
	for days := -1; days <= 1; days++ {
		if now.UTC().AddDate(0, 0, days).Format(dayLayout) == day {
			return true
		}
	}
	return false
}

func (ks *keys) ticketAEAD(e crypto.Epoch, day string) (cipher.AEAD, error) {
	k, err := ks.open(e)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	block, err := aes.NewCipher(k.service.Derive(infoTicket + day))
	if err != nil {
		return nil, fmt.Errorf("ticket key: %w", err)
	}
	return cipher.NewGCM(block)
}
