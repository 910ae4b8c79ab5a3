package export

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
)

// MinPassphrase is how many characters a passphrase must have. An export may be tried offline, for
// as long as its thief likes.
const MinPassphrase = 12

// NeedsPassphrase reports whether an export opens with a passphrase and not with an identity. It
// reports false for other files.
func NeedsPassphrase(src io.Reader) bool {
	header, err := age.ExtractHeader(src)
	return err == nil && bytes.Contains(header, []byte("\n-> scrypt "))
}

// PassphraseRecipient returns the recipient that an export for this passphrase is written for.
func PassphraseRecipient(passphrase string) (age.Recipient, error) {
	if n := len([]rune(passphrase)); n < MinPassphrase {
		return nil, fmt.Errorf("the passphrase has %d characters: take at least %d, such as five random words", n, MinPassphrase)
	}
	return age.NewScryptRecipient(passphrase)
}

// PassphraseIdentity returns the identity that opens such an export.
func PassphraseIdentity(passphrase string) (age.Identity, error) {
	if passphrase == "" {
		return nil, errors.New("the passphrase is empty")
	}
	return age.NewScryptIdentity(passphrase)
}

// ReadRecipients reads a file of age recipients, one a line. Its errors do not quote the file, which
// may be one of secret keys.
func ReadRecipients(path string) ([]age.Recipient, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := age.ParseRecipients(f)
	if err != nil {
		return nil, fmt.Errorf("%s is not a file of age recipients: write one public key a line, age1…, as age-keygen -y prints it", path)
	}
	return all, nil
}

// ParseRecipient reads one age recipient. Its error does not quote the text, which may be a secret
// key.
func ParseRecipient(text string) ([]age.Recipient, error) {
	all, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil || len(all) != 1 {
		return nil, errors.New("not an age recipient: give the public key, age1…, as age-keygen -y prints it")
	}
	return all, nil
}

// ReadIdentities reads a file of age identities, as age-keygen writes it. Its errors do not quote
// the file.
func ReadIdentities(path string) ([]age.Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := age.ParseIdentities(f)
	if err != nil {
		return nil, fmt.Errorf("%s is not a file of age identities, AGE-SECRET-KEY-1…, as age-keygen writes it; "+
			"if the file itself is encrypted, decrypt it first: age -d %[1]s > FILE", path)
	}
	return all, nil
}
