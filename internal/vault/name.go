package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// PinPrefix begins the name of every pin that Detach sets on a node.
const PinPrefix = "detach/v1 "

// PinName returns the name of the pin of an object that is stored in this epoch.
func PinName(e crypto.Epoch) string { return PinPrefix + string(e) }

// Namer returns a function that names the pin of an object in a store. The function returns an
// error for an object that this keyring does not prove to be ours: several installations may share
// a node, and their pins have the same prefix.
func Namer(keys Keyring) func(context.Context, ipfs.Blocks, cid.Cid) (string, error) {
	return func(ctx context.Context, blocks ipfs.Blocks, root cid.Cid) (string, error) {
		sealed, err := object.Read(ctx, blocks, root)
		if err != nil {
			return "", err
		}
		if err := proveOurs(keys, sealed); err != nil {
			return "", err
		}
		return PinName(sealed.KID.Epoch), nil
	}
}

func proveOurs(keys Keyring, s *object.Sealed) error {
	err := keys.CheckOrigin(s.KID.Epoch, s.Core, s.Origin)
	if errors.Is(err, keyring.ErrNoEpoch) {
		if _, _, _, extended := keys.Extension(s.Root, s.Core, s.KID.Epoch); extended == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("the keyring does not show that it is ours: epoch %s: %w", s.KID.Epoch, err)
	}
	return nil
}
