package vault

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// victim is a stored object whose file a test damages.
type victim struct {
	t    *testing.T
	v    *Vault
	link link.Link
	want []byte
	path string
	car  []byte
}

func newVictim(t *testing.T, s *site, v *Vault, content []byte) *victim {
	t.Helper()
	l := detached(t, v, content)
	path := filepath.Join(s.dir, "objects", l.CID.String()+".car")
	car, err := os.ReadFile(path)
	must.Succeed(t, err)
	return &victim{t, v, l, content, path, car}
}

// refused replaces the stored file. It wants reading to fail, and the bytes before to be right.
func (o *victim) refused(how string, car []byte) {
	o.t.Helper()
	if got, err := o.read(car); err == nil || !bytes.HasPrefix(o.want, got) {
		o.t.Errorf("%s: %d bytes are read, error %v", how, len(got), err)
	}
}

// accepted replaces the stored file, and wants all of the content.
func (o *victim) accepted(how string, car []byte) {
	o.t.Helper()
	if got, err := o.read(car); err != nil || !bytes.Equal(got, o.want) {
		o.t.Errorf("%s: %d bytes are read, error %v", how, len(got), err)
	}
}

func (o *victim) read(car []byte) ([]byte, error) {
	o.t.Helper()
	must.Succeed(o.t, os.WriteFile(o.path, car, 0o600))
	return content(o.t, o.v, o.link)
}

// carSection has the offsets in a CAR of one block's length, CID, data and end.
type carSection struct{ head, cid, data, end int }

const (
	carHead = 59
	cidSize = 36
)

func sections(car []byte) (all []carSection) {
	for at := carHead; at < len(car); {
		n, k := binary.Uvarint(car[at:])
		s := carSection{at, at + k, at + k + cidSize, at + k + int(n)}
		all = append(all, s)
		at = s.end
	}
	return all
}

// Each byte of a small object is damaged: header, lengths, CIDs, ciphertext, metadata, directory.
func TestDamageToAnyByteIsRefused(t *testing.T) {
	faults.Covers(t, 77)
	s := newSite(t)
	o := newVictim(t, s, s.vault(t, nil), pattern(100))
	for i := range o.car {
		bad := bytes.Clone(o.car)
		bad[i] ^= 1 << (i % 8)
		o.refused(fmt.Sprintf("a bit of byte %d flipped", i), bad)
		o.refused(fmt.Sprintf("cut at %d", i), o.car[:i])
		if i%10 == 0 {
			o.refused(fmt.Sprintf("byte %d left out", i), slices.Delete(bytes.Clone(o.car), i, i+1))
			o.refused(fmt.Sprintf("a byte before %d", i), slices.Insert(bytes.Clone(o.car), i, 0))
		}
	}
	o.refused("a byte appended", append(bytes.Clone(o.car), 0))
	o.refused("a kilobyte appended", append(bytes.Clone(o.car), make([]byte, 1024)...))
	o.accepted("the undamaged file", o.car)
}

// An object of several blocks is cut around each of their ends, and a byte is flipped in each.
func TestDamageToAnyBlockIsRefused(t *testing.T) {
	faults.Covers(t, 77)
	s := newSite(t)
	o := newVictim(t, s, s.vault(t, nil), pattern(2<<20+5))
	all := sections(o.car)
	if len(all) != 7 { // three leaves, the file over them, the metadata, the origin, the directory
		t.Fatalf("%d blocks, want 7", len(all))
	}
	for i, x := range all {
		for _, at := range []int{x.head, x.cid, x.data, x.data + (x.end-x.data)/2, x.end} {
			for _, cut := range []int{at - 1, at, at + 1} {
				if cut < len(o.car) {
					o.refused(fmt.Sprintf("cut at %d", cut), o.car[:cut])
				}
			}
		}
		for _, at := range []int{x.data, x.data + 15, x.data + 16, (x.data + x.end) / 2, x.end - 1} {
			if at < x.end {
				bad := bytes.Clone(o.car)
				bad[at] ^= 1
				o.refused(fmt.Sprintf("block %d, byte %d", i, at-x.data), bad)
			}
		}
		o.refused(fmt.Sprintf("block %d left out", i), slices.Delete(bytes.Clone(o.car), x.head, x.end))
	}
}

// The data of two blocks is swapped. If their CIDs are swapped too, the CAR is still right.
func TestSwappedBlocksAreRefused(t *testing.T) {
	faults.Covers(t, 77)
	s := newSite(t)
	o := newVictim(t, s, s.vault(t, nil), pattern(3<<20))
	all := sections(o.car)
	for i := range 3 {
		for j := range i {
			bad := bytes.Clone(o.car)
			copy(bad[all[i].data:all[i].end], o.car[all[j].data:all[j].end])
			copy(bad[all[j].data:all[j].end], o.car[all[i].data:all[i].end])
			o.refused(fmt.Sprintf("blocks %d and %d", i, j), bad)

			copy(bad[all[i].cid:], o.car[all[j].cid:all[j].data])
			copy(bad[all[j].cid:], o.car[all[i].cid:all[i].data])
			o.accepted("in another order", bad)
		}
	}
	o.accepted("with a block twice", append(bytes.Clone(o.car), o.car[all[1].head:all[1].end]...))
}

// alike is a random source that gives the same bytes, and so the same key, every time.
type alike struct{}

func (alike) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Blocks of another object are refused in place of this one's, even if the other has the same key,
// so that its key stream and metadata fit.
func TestAnotherObjectOfTheSameKeyIsRefused(t *testing.T) {
	faults.Covers(t, 77)
	kernel := rand.Reader
	rand.Reader = alike{}
	defer func() { rand.Reader = kernel }()
	for _, mode := range []Mode{Split, LinkOnly} {
		s := newSite(t)
		v := s.vault(t, func(c *Config) { c.Mode = mode })
		one, two := newVictim(t, s, v, pattern(2<<20)), newVictim(t, s, v, bytes.Repeat([]byte{'x'}, 2<<20))
		if mode == LinkOnly && one.link.Fragment != two.link.Fragment {
			t.Fatal("the keys differ")
		}
		one.refused("the other's file", two.car)
		patched := bytes.Clone(two.car)
		copy(patched[:carHead], one.car[:carHead])
		one.refused("the other's file under this root", patched)
		mine, others := sections(one.car), sections(two.car)
		for i := range mine {
			bad := slices.Concat(one.car[:mine[i].head], two.car[others[i].head:others[i].end], one.car[mine[i].end:])
			one.refused(fmt.Sprintf("the other's block %d", i), bad)
			bad = slices.Concat(one.car[:mine[i].data], two.car[others[i].data:others[i].end], one.car[mine[i].end:])
			if len(bad) == len(one.car) {
				one.refused(fmt.Sprintf("the other's block %d under this CID", i), bad)
			}
		}
	}
}

// An object made of the entries of two others has its own core, so its origin is not ours.
func TestKeyIsBoundToTheCID(t *testing.T) {
	faults.Covers(t, 79)
	s, v := newVault(t)
	one, two := detached(t, v, []byte("one")), detached(t, v, []byte("two"))
	part := func(c cid.Cid, name string) []byte {
		f, err := opened(t, v, c).Entry(t.Context(), name)
		must.Succeed(t, err)
		b, err := io.ReadAll(f)
		must.Succeed(t, err)
		return b
	}
	for _, origin := range []cid.Cid{one.CID, two.CID} {
		made := put(t, s, map[string][]byte{
			object.Data: part(two.CID, object.Data), object.Meta: part(one.CID, object.Meta), object.Origin: part(origin, object.Origin),
		})
		wantErr(t, "put together from two", errOf(v.Object(t.Context(), made)), ErrNotFound)
	}
	wantContent(t, v, one, []byte("one"))
	wantContent(t, v, two, []byte("two"))
	// Every bit of a fragment counts.
	raw := one.Fragment.Bytes()
	for bit := range 8 * len(raw) {
		raw[bit/8] ^= 1 << (bit % 8)
		f, err := crypto.FragmentFromBytes(raw)
		must.Succeed(t, err)
		wantErr(t, fmt.Sprintf("bit %d of the fragment", bit), errOf(v.Open(t.Context(), one.CID, f)), ErrWrongKey)
		raw[bit/8] ^= 1 << (bit % 8)
	}
}
