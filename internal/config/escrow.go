package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
)

// Escrow is a list of age recipients, as written.
type Escrow []string

const (
	// maxEscrow bounds the recipients. Each adds 100 bytes to every object, or 1.6 KiB if its key
	// is post-quantum (age1pq1…).
	maxEscrow = 4
	// maxEscrowed is the size of escrow.age in an object, in bytes: see docs/format.md.
	maxEscrowed = 8 << 10
	fileKeySize = 32
)

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

// tryEscrow seals as many bytes as a file key has. Recipients with and without post-quantum keys
// cannot be mixed.
func tryEscrow(recipients []age.Recipient) error {
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipients...)
	if err == nil {
		_, err = w.Write(make([]byte, fileKeySize))
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		return fmt.Errorf("these recipients cannot be used together: %w", err)
	}
	if sealed.Len() > maxEscrowed {
		return fmt.Errorf("sealed for these recipients, a file key takes %d bytes, and %d are allowed: write fewer", sealed.Len(), maxEscrowed)
	}
	return nil
}
