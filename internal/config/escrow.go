package config

import (
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

// Escrow is a list of age recipients, as written.
type Escrow []string

// maxEscrow bounds the recipients. Each adds 100 bytes to every object, or 1.6 KiB if its key is
// post-quantum (age1pq1…).
const maxEscrow = 4

// UnmarshalText reads recipients that are separated by blanks or commas.
func (e *Escrow) UnmarshalText(text []byte) error {
	*e = nil
	for _, r := range strings.FieldsFunc(string(text), func(r rune) bool { return strings.ContainsRune(" ,\t\r\n", r) }) {
		*e = append(*e, r)
	}
	return nil
}

// Recipients returns the recipients, after a file key was sealed for them in a trial. The error
// never quotes the text, which may be a secret key that was pasted here by mistake.
func (e Escrow) Recipients() ([]age.Recipient, error) {
	if len(e) == 0 {
		return nil, nil
	}
	if len(e) > maxEscrow {
		return nil, fmt.Errorf("%d recipients: write at most %d", len(e), maxEscrow)
	}
	var all []age.Recipient
	for i, text := range e {
		if strings.HasPrefix(text, "AGE-SECRET-KEY-") {
			return nil, errors.New("this is a secret key: write the public key, age1…, which age-keygen -y prints, and keep the secret key elsewhere")
		}
		one, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("recipient %d is not an age recipient: write the public key that age-keygen prints, age1…", i+1)
		}
		all = append(all, one...)
	}
	return all, tryEscrow(all)
}

// tryEscrow seals a key for the recipients. Those with and without post-quantum keys cannot be
// mixed, and together they must fit into an object.
func tryEscrow(recipients []age.Recipient) error {
	k, err := crypto.NewKey()
	if err == nil {
		_, err = k.SealEscrow(recipients...)
	}
	if err != nil {
		return fmt.Errorf("these recipients cannot be used together: %w", err)
	}
	return nil
}
