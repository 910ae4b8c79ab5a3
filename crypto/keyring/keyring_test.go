package keyring

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

const testPeriod crypto.Period = "2027-02-28"

// coreAt returns a CID whose digest begins with these bits.
func coreAt(p uint64) cid.Cid {
	var digest [sha256.Size]byte
	binary.BigEndian.PutUint64(digest[:], p)
	hash, err := multihash.Encode(digest[:], multihash.SHA2_256)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.DagProtobuf, hash)
}

func newTestKeyring(t testing.TB) (*Keyring, crypto.Epoch) {
	t.Helper()
	r, err := Open(filepath.Join(t.TempDir(), "keys"))
	must.Succeed(t, err)
	e, err := r.Writer(testPeriod)
	must.Succeed(t, err)
	return r, e
}

func TestDestroyedShareIsGoneAndItsNeighboursStay(t *testing.T) {
	r, e := newTestKeyring(t)
	const victim = 0x5a5a_0000_ffff_1234
	neighbours := []uint64{victim ^ 1, victim - 1, victim + 1, victim ^ 1<<63, 0, 1<<64 - 1}
	want := make(map[uint64]crypto.Share)
	for _, p := range neighbours {
		share, err := r.Share(e, coreAt(p))
		must.Succeed(t, err)
		want[p] = share
	}
	must.Succeed(t, r.Destroy(e, coreAt(victim)))
	for range 2 {
		if _, err := r.Share(e, coreAt(victim)); !errors.Is(err, ErrDestroyed) {
			t.Errorf("destroyed: got %v, want ErrDestroyed", err)
		}
		for p, share := range want {
			if got, err := r.Share(e, coreAt(p)); err != nil || got != share {
				t.Errorf("%016x: another share, error %v", p, err)
			}
		}
		// Without the mark, the key file itself does not have it.
		must.Succeed(t, os.RemoveAll(filepath.Join(r.dir, destroyedDir)))
	}
}
