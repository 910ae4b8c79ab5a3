package vault

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/faults"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/object"
)

func isWrongKey(err error) bool { return errors.Is(err, ErrWrongKey) }

// Whichever draw of random bytes fails (the key, the epoch's secret, the metadata's nonce), there is
// no link, and nothing is stored or promised.
func TestNoRandomBytesNoLink(t *testing.T) {
	faults.Covers(t, 75)
	kernel := rand.Reader
	defer func() { rand.Reader, jose.RandReader = kernel, kernel }()
	enough := 2*crypto.SecretSize + 12
	for _, n := range []int{0, 1, crypto.SecretSize - 1, crypto.SecretSize, crypto.SecretSize + 1, 2*crypto.SecretSize - 1, enough - 1} {
		s := newSite(t)
		v := s.vault(t, nil)
		b := v.Begin()
		failing := io.MultiReader(io.LimitReader(kernel, int64(n)), iotest.ErrReader(errors.New("no entropy")))
		rand.Reader, jose.RandReader = failing, failing
		l, err := b.Detach(t.Context(), "n", "t", strings.NewReader("x"))
		rand.Reader, jose.RandReader = kernel, kernel
		if err == nil || l.Fragment != (crypto.Fragment{}) {
			t.Errorf("%d random bytes: got a link, error %v", n, err)
		}
		if err := errors.Join(b.Commit(t.Context()), b.Close()); err != nil {
			t.Error(err)
		}
		if stay, left := s.objects(t), entries(t, s); stay != 0 || len(left) != 0 {
			t.Errorf("%d random bytes: %d objects and entries %v stay", n, stay, left)
		}
	}
}

// The right key with another CID is told apart from no such file only where the CID is ours, and
// CIDs are public: there the gateway's page tells as much without any key.
func TestKeyAndCIDMustFit(t *testing.T) {
	faults.Covers(t, 78)
	v := newSite(t).vault(t, nil)
	one, two := detached(t, v, []byte("one")), detached(t, v, []byte("two"))
	var errs []string
	for _, f := range []crypto.Fragment{two.Fragment, {}, join(t, 0), join(t, 1), join(t, 0xff)} {
		_, err := v.Open(t.Context(), one.CID, f)
		if !isWrongKey(err) {
			t.Errorf("wrong key: got %v, want ErrWrongKey", err)
		}
		errs = append(errs, fmt.Sprint(err))
	}
	sum, err := multihash.Sum([]byte("no such object"), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Open(t.Context(), cid.NewCidV1(cid.DagProtobuf, sum), one.Fragment); !errors.Is(err, ErrNotFound) {
		t.Errorf("right key, no such object: got %v, want ErrNotFound", err)
	}
	for _, text := range errs {
		if text != errs[0] {
			t.Errorf("wrong keys are answered differently: %q and %q", errs[0], text)
		}
	}
}

func join(t *testing.T, fill byte) crypto.Fragment {
	t.Helper()
	f, err := crypto.FragmentFromBytes([]byte(strings.Repeat(string([]byte{fill}), crypto.SecretSize)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Epochs follow each other, and links of all of them open, until an epoch's secret is destroyed: then
// those of that epoch are gone, and of no other. What was destroyed and what has been lost look the
// same: neither opens here again, unless its key file comes back from a backup.
func TestOldLinksAfterNewEpochs(t *testing.T) {
	faults.Covers(t, 80)
	for name, retention := range map[string]time.Duration{"months": 0, "days": 1000 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			change := func(c *Config) { c.Retention = retention }
			var links []link.Link
			var epochs []crypto.Epoch
			for range 4 {
				v := s.vault(t, change)
				links = append(links, detached(t, v, []byte(fmt.Sprint(len(links)))))
				epochs = append(epochs, v.Begin().epoch)
				s.now = s.now.AddDate(0, 1, 0)
			}
			if epochs[0] == epochs[1] {
				t.Fatalf("epochs: %v", epochs)
			}
			v := s.vault(t, change)
			for i, l := range links {
				wantContent(t, v, l, []byte(fmt.Sprint(i)))
			}
			key := filepath.Join(s.dir, "keys", string(epochs[1])+".key")
			saved, err := os.ReadFile(key)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(key); err != nil {
				t.Fatal(err)
			}
			for i, l := range links {
				_, err := content(t, v, l)
				if want := map[bool]error{true: ErrExpired}[i == 1]; !errors.Is(err, want) {
					t.Errorf("link of epoch %s: got %v, want %v", epochs[i], err, want)
				}
			}
			if err := os.WriteFile(key, saved, 0o600); err != nil {
				t.Fatal(err)
			}
			wantContent(t, v, links[1], []byte("1"))
		})
	}
}

// A kid that the ledger does not confirm leads nowhere, however it is spelled: neither to the secret
// of an epoch that there is, nor to a word about which there are.
func TestUnknownEpochs(t *testing.T) {
	faults.Covers(t, 80)
	s := newSite(t)
	v := s.vault(t, nil)
	if err := s.keys.Ensure("2026-10"); err != nil {
		t.Fatal(err)
	}
	key, err := crypto.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, kid := range []string{"2026-10", "2026-09", "1999-01", "2026-11-22"} {
		jwe, err := key.SealMeta(crypto.Meta{Size: 1, Created: s.now}, kid)
		if err != nil {
			t.Fatal(err)
		}
		c := put(t, s, v, map[string][]byte{object.Data: []byte("x"), object.Meta: jwe})
		_, openErr := v.Open(t.Context(), c, key.Split(crypto.ZeroShare()))
		_, objectErr := v.Object(t.Context(), c)
		for what, err := range map[string]error{"Open": openErr, "Object": objectErr} {
			if !errors.Is(err, ErrCorrupt) || strings.Contains(err.Error(), kid) {
				t.Errorf("kid %s, %s: got %v, want ErrCorrupt and no word of the kid", kid, what, err)
			}
		}
	}
}
