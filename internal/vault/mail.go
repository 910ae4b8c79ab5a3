package vault

import (
	"crypto/rand"
	"encoding/hex"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
)

// kindOf returns the kind of an object whose metadata has this media type.
func kindOf(mediaType string) ledger.Kind {
	switch mediaType {
	case filelist.Type:
		return ledger.KindList
	case skeleton.Type:
		return ledger.KindOriginal
	}
	return ledger.KindFile
}

// newMailID returns the id that the objects of one mail share in the ledger.
func newMailID() (string, error) {
	var id [8]byte
	_, err := io.ReadFull(rand.Reader, id[:]) // unlike rand.Read, it returns the error of a test's reader
	return hex.EncodeToString(id[:]), err
}
