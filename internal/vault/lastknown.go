package vault

import (
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

// LastKnown returns the time that stands for a recorded time that is missing: when the newest object
// in the ledger was stored or, without a ledger, the end of the first epoch that was not swept
// although it seems to be over. It is zero if there is neither.
func LastKnown(index interface{ Newest() (time.Time, error) }, keys interface {
	Epochs() ([]crypto.Epoch, error)
}, now time.Time) (time.Time, error) {
	newest, err := index.Newest()
	if err != nil || !newest.IsZero() {
		return newest, err
	}
	epochs, err := keys.Epochs() // sorted
	if err != nil {
		return time.Time{}, err
	}
	for _, e := range epochs {
		if end := e.End(); !end.IsZero() && !now.Before(end) {
			return end, nil
		}
	}
	return time.Time{}, nil
}
