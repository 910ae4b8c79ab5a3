package object

import (
	"context"
	"errors"
	"fmt"

	"filippo.io/age"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// ErrNotEscrowed means that the object has no entry escrow.age.
var ErrNotEscrowed = errors.New("the key of this object was not escrowed")

// UnlockEscrowed opens the object with the key that is sealed in it for an escrow, and proves the
// key right. It needs neither the link's fragment nor a share, and it opens objects that were
// revoked, destroyed or are past their end: Meta.Expires is the end that the metadata states.
// Errors: those of blocks, ErrNotEscrowed, crypto.ErrNoEscrow, crypto.ErrWrongKey, ipfs.ErrCorrupt.
func (s *Sealed) UnlockEscrowed(ctx context.Context, blocks ipfs.Blocks, identities ...age.Identity) (*Opened, error) {
	entry, ok := s.Entries[Escrow]
	if !ok {
		return nil, ErrNotEscrowed
	}
	file, err := readSmall(ctx, blocks, entry, crypto.MaxEscrow)
	if err != nil {
		return nil, fmt.Errorf("open escrow: %w", err)
	}
	key, err := crypto.OpenEscrow(file, identities...)
	if err != nil {
		return nil, err
	}
	if !s.Origin.Commits(s.Core, key) {
		return nil, crypto.ErrWrongKey
	}
	meta, err := key.OpenMeta(s.Meta)
	switch {
	case errors.Is(err, crypto.ErrWrongKey):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ipfs.ErrCorrupt, err)
	}
	return &Opened{Meta: meta, sealed: s, key: key}, nil
}
