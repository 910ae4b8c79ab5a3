package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

// ticketLife is how long after the click a download may begin or resume.
const ticketLife = 8 * time.Hour

// SealTicket returns the ticket that replaces the link's fragment in the address of a download, so
// that an address in a log or a history soon stops working. It does not check the fragment.
func (v *Vault) SealTicket(c cid.Cid, f crypto.Fragment) (string, error) {
	rec, err := v.admit(c)
	if err != nil {
		return "", err
	}
	until := v.cfg.Now().Add(ticketLife).Unix()
	plain := binary.BigEndian.AppendUint64(f.Bytes(), uint64(until))
	// The object's own epoch comes first: it works with a read-only keyring too.
	ticket, err := v.keys.SealTicket(rec.epoch, plain, c.Bytes())
	if errors.Is(err, crypto.ErrNoEpoch) { // an epoch of mode "link" may have no secret
		epoch := v.epoch(v.cfg.Now())
		if err = v.ensure(epoch); err == nil {
			ticket, err = v.keys.SealTicket(epoch, plain, c.Bytes())
		}
	}
	if err != nil {
		return "", fmt.Errorf("seal ticket: %w", err)
	}
	return ticket, nil
}

// OpenTicket returns the fragment, or ErrTicket if the ticket is another object's or too old.
func (v *Vault) OpenTicket(c cid.Cid, ticket string) (crypto.Fragment, error) {
	if _, err := v.admit(c); err != nil {
		return crypto.Fragment{}, err
	}
	plain, err := v.keys.OpenTicket(ticket, c.Bytes())
	if errors.Is(err, crypto.ErrTicket) || errors.Is(err, crypto.ErrNoEpoch) {
		return crypto.Fragment{}, ErrTicket
	} else if err != nil {
		return crypto.Fragment{}, fmt.Errorf("open ticket: %w", err)
	}
	if len(plain) != crypto.SecretSize+8 {
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
