package vault

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
)

// ticketLife is how long after the click a download may begin or resume.
const ticketLife = 8 * time.Hour

// SealTicket returns the ticket that replaces the link's fragment in the address of a download, so
// that an address in a log or a history soon stops working. It does not check the fragment. The
// object must have been opened before, or be in the ledger.
func (v *Vault) SealTicket(c cid.Cid, f crypto.Fragment) (string, error) {
	rec, known, err := v.admit(c)
	if err == nil && !known {
		err = ErrNotFound
	}
	if err != nil {
		return "", err
	}
	now := v.clock.Now()
	plain := binary.BigEndian.AppendUint64(f.Bytes(), uint64(now.Add(ticketLife).Unix()))
	ticket, err := v.keys.SealTicket(rec.Epoch, now, plain, c.Bytes())
	switch {
	case errors.Is(err, keyring.ErrNoEpoch), errors.Is(err, keyring.ErrDamaged):
		return "", v.whyNoEpoch(rec.Epoch)
	case err != nil:
		return "", fmt.Errorf("seal ticket: %w", err)
	}
	return ticket, nil
}

// OpenTicket returns the fragment, or ErrTicket if the ticket is another object's or too old. Its
// other errors are those of Object.
func (v *Vault) OpenTicket(ctx context.Context, c cid.Cid, ticket string) (crypto.Fragment, error) {
	f, err := v.openTicket(c, ticket)
	if errors.Is(err, ErrTicket) {
		// Only for an object that may be served is the ticket to blame.
		o, refused := v.Object(ctx, c)
		if refused != nil {
			return f, refused
		}
		return f, errors.Join(err, o.Close())
	}
	return f, err
}

func (v *Vault) openTicket(c cid.Cid, ticket string) (crypto.Fragment, error) {
	if err := v.refuseDenied(c); err != nil {
		return crypto.Fragment{}, err
	}
	plain, err := v.keys.OpenTicket(ticket, v.clock.Now(), c.Bytes())
	switch {
	case errors.Is(err, keyring.ErrTicket), errors.Is(err, keyring.ErrNoEpoch):
		return crypto.Fragment{}, ErrTicket
	case errors.Is(err, keyring.ErrDamaged):
		return crypto.Fragment{}, keyDamaged(err)
	case err != nil:
		return crypto.Fragment{}, fmt.Errorf("open ticket: %w", err)
	case len(plain) != crypto.SecretSize+8:
		return crypto.Fragment{}, ErrTicket
	}
	until := time.Unix(int64(binary.BigEndian.Uint64(plain[crypto.SecretSize:])), 0)
	if v.expired(until) {
		return crypto.Fragment{}, ErrTicket
	}
	f, err := crypto.FragmentFromBytes(plain[:crypto.SecretSize])
	if err != nil {
		return crypto.Fragment{}, ErrTicket
	}
	return f, nil
}
