package keyring

import (
	"errors"
	"slices"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

const (
	infoExtend = "detach/v1 extend"

	cidSize   = 36
	nonceSize = 12
	tagSize   = 16
)

// MaxExtension bounds the size in bytes of a record in extended. An epoch's name has at most 19
// characters.
const MaxExtension = 256

// extension is a record in extended/NEW/CORE, which gives the object an end in a later epoch:
//
//	CID of the root (36) ‖ length of the old epoch's name (1) ‖ the name ‖
//	mode (1: 0 split, 1 link) ‖ nonce (12) ‖ AES-256-GCM of B (32) ‖ tag (16)
type extension struct {
	root   []byte
	old    crypto.Epoch
	link   bool
	sealed []byte // nonce, ciphertext and tag
}

func (x extension) mode() byte {
	if x.link {
		return 1
	}
	return 0
}

// aad returns root ‖ old epoch ‖ 0 ‖ new epoch ‖ mode.
func (x extension) aad(to crypto.Epoch) []byte {
	return slices.Concat(x.root, []byte(x.old), []byte{0}, []byte(to), []byte{x.mode()})
}

func (x extension) encode() []byte {
	return slices.Concat(x.root, []byte{byte(len(x.old))}, []byte(x.old), []byte{x.mode()}, x.sealed)
}

var errExtension = errors.New("malformed extension record")

func parseExtension(b []byte) (x extension, err error) {
	const sealed = nonceSize + crypto.SecretSize + tagSize
	if len(b) < cidSize+1 || len(b) != cidSize+1+int(b[cidSize])+1+sealed {
		return x, errExtension
	}
	name, rest := b[cidSize+1:len(b)-1-sealed], b[len(b)-1-sealed:]
	if x.old, err = crypto.ParseEpoch(string(name)); err != nil || rest[0] > 1 {
		return x, errExtension
	}
	x.root, x.link, x.sealed = b[:cidSize], rest[0] == 1, rest[1:]
	return x, nil
}
