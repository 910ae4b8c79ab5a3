package vault

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// Files of every critical size come back through every store, from any offset.
func TestFilesComeBackAtEverySize(t *testing.T) {
	faults.Covers(t, 53)
	for name, store := range map[string]func(t *testing.T, s *site) Mode{
		"split":     func(*testing.T, *site) Mode { return Split },
		"link only": func(*testing.T, *site) Mode { return LinkOnly },
		"in kubo": func(t *testing.T, s *site) Mode {
			s.store = kuboStore(t, servers.Kubo(t))
			return Split
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			mode := store(t, s)
			v := s.vault(t, func(c *Config) { c.Mode = mode })
			for _, size := range []int{0, 1, 15, 16, 17, 31, 32, 33, 1<<20 - 1, 1 << 20, 1<<20 + 1, 2 << 20, 3<<20 + 5} {
				comesBack(t, v, pattern(size))
			}
		})
	}
}

// Files come back too if there was no memory to fill their blocks in.
func TestFilesAreStoredWithoutMemory(t *testing.T) {
	const others = 3 << 20
	budget := memory.New(4 << 20)
	if !budget.TryAcquire(others) {
		t.Fatal("the budget is too small for the others")
	}
	v := newSite(t).vault(t, func(c *Config) { c.Spools = spool.NewSpace(t.TempDir(), budget, 1<<30) })
	for _, size := range []int{0, 1, 1<<20 - 1, 1 << 20, 3<<20 + 5} {
		comesBack(t, v, pattern(size))
	}
	if used := budget.Used(); used != others || v.cfg.Spools.Disk() != 0 {
		t.Errorf("%d bytes of memory and %d of disk are still taken", used-others, v.cfg.Spools.Disk())
	}
}

func comesBack(t *testing.T, v *Vault, want []byte) {
	t.Helper()
	size := int64(len(want))
	l := detached(t, v, want)
	if l.Base != "https://files.example.org/d" {
		t.Errorf("the link's base is %s", l.Base)
	}
	o := opened(t, v, l.CID)
	created := v.clock.Now().Truncate(time.Second)
	if o.Size != size || !o.Created.Equal(created) || !o.Expires.IsZero() {
		t.Errorf("the object has %d bytes, of %v until %v", o.Size, o.Created, o.Expires)
	}
	f, err := o.Open(t.Context(), l.Fragment)
	must.Succeed(t, err)
	meta := crypto.Meta{Name: "Angebot.pdf", Type: "application/pdf", Size: size, SHA256: sha256.Sum256(want), Created: created}
	if f.Meta != meta {
		t.Errorf("%d bytes: got %+v, want %+v", size, f.Meta, meta)
	}
	if size < 100 {
		must.Succeed(t, iotest.TestReader(f, want))
	}
	for _, at := range []int64{0, 5, 1<<20 - 1, 1 << 20, 1<<20 + 17, 2 << 20, size / 2, size - 1, size} {
		if at < 0 || at > size {
			continue
		}
		if got, err := f.Seek(at-size, io.SeekEnd); err != nil || got != at {
			t.Fatalf("Seek to %d: got %d, %v", at, got, err)
		}
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want[at:]) {
			t.Errorf("%d bytes from %d: got %d, %v", size, at, len(got), err)
		}
	}
	must.Succeed(t, errors.Join(f.Close(), o.Close()))
}

// After a Seek, also into a cipher block of 16 bytes, the key stream starts at the new offset.
func TestSeekWithinCipherBlocks(t *testing.T) {
	v := newSite(t).vault(t, nil)
	content := pattern(100)
	l := detached(t, v, content)
	f, err := v.Open(t.Context(), l.CID, l.Fragment)
	must.Succeed(t, err)
	defer f.Close()
	for at := range int64(65) {
		_, err := f.Seek(at, io.SeekStart)
		must.Succeed(t, err)
		got := make([]byte, 35)
		if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, content[at:at+35]) {
			t.Errorf("at %d: got %x, %v, want %x", at, got, err, content[at:at+35])
		}
	}
	if _, err := f.Seek(-1, io.SeekStart); err == nil {
		t.Error("Seek before the start: no error")
	}
}

func TestOpenSSLDecrypts(t *testing.T) {
	servers.Need(t, "openssl")
	v := newSite(t).vault(t, nil)
	content := pattern(1<<20 + 33)
	l := detached(t, v, content)
	sealed, err := opened(t, v, l.CID).Entry(t.Context(), "data")
	must.Succeed(t, err)
	if sealed.Size() != int64(len(content)) {
		t.Errorf("data has %d bytes, want %d", sealed.Size(), len(content))
	}
	if got, err := openSSL(keyHex(t, v, l), sealed); err != nil || !bytes.Equal(got, content) {
		t.Errorf("openssl: got %d bytes, %v", len(got), err)
	}
}

// openSSL decrypts data with another implementation.
func openSSL(key string, sealed io.Reader) ([]byte, error) {
	cmd := exec.Command("openssl", "enc", "-d", "-aes-256-ctr", "-K", key, "-iv", "0")
	cmd.Stdin = sealed
	return cmd.Output()
}

// With the key, an attachment stored in a real node can be read without this program:
//
//	ipfs cat CID/data | openssl enc -d -aes-256-ctr -K KEY -iv 0
//
// The node pins the object, but no object of a mail that was refused.
func TestNodeHasThePinnedCiphertext(t *testing.T) {
	servers.Need(t, "openssl")
	node := servers.Kubo(t)
	s := newSite(t)
	s.store = kuboStore(t, node)
	v := s.vault(t, nil)
	content := pattern(5<<20 + 77)
	l := detached(t, v, content)
	sealed := node.Run("cat", l.CID.String()+"/data")
	if got, err := openSSL(keyHex(t, v, l), strings.NewReader(sealed)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("ipfs cat | openssl: got %d bytes, %v, want %d", len(got), err, len(content))
	}
	b := v.Begin(0)
	detach(t, b, []byte("a mail that was refused"))
	must.Succeed(t, b.Discard(t.Context()))
	foreign := func(pin string) bool { return !strings.Contains(pin, "detach/") }
	got, want := slices.DeleteFunc(node.Pins(), foreign), []string{l.CID.String() + " detach/v1 " + string(s.epoch(t))}
	if !slices.Equal(got, want) {
		t.Errorf("pins: got %q, want %q", got, want)
	}
}

// A file keeps the mode in which it was stored, also when the vault's mode changes.
func TestFilesKeepTheirMode(t *testing.T) {
	s := newSite(t)
	split := s.vault(t, nil)
	linkOnly := s.vault(t, func(c *Config) { c.Mode = LinkOnly })
	old, free := detached(t, split, []byte("split")), detached(t, linkOnly, []byte("link"))
	for name, v := range map[string]*Vault{"split": split, "link": linkOnly} {
		for _, l := range []link.Link{old, free} {
			wantErr(t, "mode "+name, errOf(content(t, v, l)), nil)
		}
	}
	if shareOf(t, opened(t, split, free.CID)) != crypto.ZeroShare() {
		t.Error("the share of mode link is not 32 zero bytes")
	}
	if shareOf(t, opened(t, split, old.CID)) == crypto.ZeroShare() {
		t.Error("the share of mode split is 32 zero bytes")
	}
}

// Objects that another installation put into the same store are not served.
func TestForeignObjectsAreNotFound(t *testing.T) {
	s, v := newVault(t)
	elsewhere := newSite(t)
	elsewhere.store = s.store
	for _, mode := range []Mode{Split, LinkOnly} {
		foreign := detached(t, elsewhere.vault(t, func(c *Config) { c.Mode = mode }), []byte("not ours"))
		wantAll(t, v, foreign, ErrNotFound)
		wantErr(t, "a batch opens another's object", errOf(v.Begin(0).Open(t.Context(), foreign)), errNotInBatch)
		wantErr(t, "a batch drops another's object", v.Begin(0).Drop(t.Context(), foreign), errNotInBatch)
		// Our own object is not served under another CID of its root block.
		ours := detached(t, v, []byte("ours"))
		ours.CID = cid.NewCidV1(cid.Raw, ours.CID.Hash())
		wantAll(t, v, ours, ErrNotFound)
		ours.CID = cid.Undef
		wantAll(t, v, ours, ErrNotFound)
	}
}

// All wrong keys get the same error. An unknown CID gets another, also without a key.
func TestKeyAndCIDMustFit(t *testing.T) {
	faults.Covers(t, 78)
	v := newSite(t).vault(t, nil)
	one, two := detached(t, v, []byte("one")), detached(t, v, []byte("two"))
	texts := map[string]bool{}
	for _, f := range []crypto.Fragment{two.Fragment, {}, join(t, 0), join(t, 1), join(t, 0xff)} {
		_, err := v.Open(t.Context(), one.CID, f)
		wantErr(t, "wrong key", err, ErrWrongKey)
		texts[fmt.Sprint(err)] = true
	}
	if len(texts) != 1 {
		t.Errorf("wrong keys are answered differently: %v", texts)
	}
	sum, err := multihash.Sum([]byte("no such object"), multihash.SHA2_256, -1)
	must.Succeed(t, err)
	wantErr(t, "right key, no such object", errOf(v.Open(t.Context(), cid.NewCidV1(cid.DagProtobuf, sum), one.Fragment)), ErrNotFound)
}

func join(t *testing.T, fill byte) crypto.Fragment {
	t.Helper()
	f, err := crypto.FragmentFromBytes(bytes.Repeat([]byte{fill}, crypto.SecretSize))
	must.Succeed(t, err)
	return f
}

func BenchmarkOpen(b *testing.B) {
	v := newSite(b).vault(b, nil)
	content := pattern(64 << 20)
	l := detached(b, v, content)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		f, err := v.Open(b.Context(), l.CID, l.Fragment)
		must.Succeed(b, err)
		_, err = io.Copy(io.Discard, f)
		must.Succeed(b, err)
		_ = f.Close()
	}
}

// BenchmarkObject is what each request costs before its first byte.
func BenchmarkObject(b *testing.B) {
	v := newSite(b).vault(b, nil)
	l := detached(b, v, pattern(100_000))
	b.ReportAllocs()
	for b.Loop() {
		o, err := v.Object(b.Context(), l.CID)
		must.Succeed(b, err)
		_ = o.Close()
	}
}
