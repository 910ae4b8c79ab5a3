package vault

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
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

// refused replaces the file: reading fails, and what is released before is right.
func (o *victim) refused(how string, car []byte) {
	o.t.Helper()
	got, err := o.read(how, car)
	if err == nil {
		o.t.Errorf("%s: it is read", how)
	}
	if !bytes.HasPrefix(o.want, got) {
		o.t.Errorf("%s: a wrong byte is released", how)
	}
}

func (o *victim) read(how string, car []byte) ([]byte, error) {
	o.t.Helper()
	if err := os.WriteFile(o.path, car, 0o600); err != nil {
		o.t.Fatal(err)
	}
	return content(o.t, o.v, o.link)
}

// carSection is one block in a CAR: where its length, its CID and its data begin, and where it
// ends.
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

// Every byte of a small object is damaged: header, lengths, CIDs, ciphertext, metadata, directory.
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
	if got, err := o.read("whole", o.car); err != nil || !bytes.Equal(got, o.want) {
		t.Errorf("the file as it was: %d bytes, %v", len(got), err)
	}
}

// An object of several blocks is cut around each of their ends, and a byte is flipped in each.
func TestDamageToAnyBlockIsRefused(t *testing.T) {
	faults.Covers(t, 77)
	s := newSite(t)
	o := newVictim(t, s, s.vault(t, nil), pattern(2<<20+5))
	all := sections(o.car)
	if len(all) != 6 { // three leaves, the file over them, the metadata, the directory
		t.Fatalf("%d blocks, want 6", len(all))
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

// Two blocks change places. With their CIDs the file has another order, which is harmless. Without
// them it is refused.
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
			if got, err := o.read("in another order", bad); err != nil || !bytes.Equal(got, o.want) {
				t.Errorf("in another order: %d bytes, %v", len(got), err)
			}
		}
	}
	twice := append(bytes.Clone(o.car), o.car[all[1].head:all[1].end]...)
	if got, err := o.read("twice", twice); err != nil || !bytes.Equal(got, o.want) {
		t.Errorf("with a block twice: %d bytes, %v", len(got), err)
	}
}

// alike is a source of random bytes that has only one key.
type alike struct{}

func (alike) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 7
	}
	return len(p), nil
}

// Another object in the place of this one, whole or a block of it, is refused even if it has the
// same key, so that key stream and metadata fit: the CID decides.
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
			t.Fatal("the two have different keys")
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

// A new object is made of the entries of two others. Even in the ledger, neither link opens it: its
// share follows from its CID.
func TestKeyIsBoundToTheCID(t *testing.T) {
	faults.Covers(t, 79)
	s := newSite(t)
	v := s.vault(t, nil)
	one, two := detached(t, v, []byte("one")), detached(t, v, []byte("two"))
	part := func(c cid.Cid, name string) []byte {
		f, err := opened(t, v, c).Entry(t.Context(), name)
		must.Succeed(t, err)
		var b bytes.Buffer
		if _, err := b.ReadFrom(f); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	made := put(t, s, v, map[string][]byte{object.Data: part(two.CID, object.Data), object.Meta: part(one.CID, object.Meta)})
	for _, l := range []link.Link{one, two} {
		if _, err := v.Open(t.Context(), made, l.Fragment); !errors.Is(err, ErrWrongKey) {
			t.Errorf("put together from two: got %v, want ErrWrongKey", err)
		}
	}
	wantContent(t, v, one, []byte("one"))
	wantContent(t, v, two, []byte("two"))
	// Every bit of a fragment counts.
	raw := one.Fragment.Bytes()
	for bit := range 8 * len(raw) {
		raw[bit/8] ^= 1 << (bit % 8)
		f, err := crypto.FragmentFromBytes(raw)
		must.Succeed(t, err)
		if _, err := v.Open(t.Context(), one.CID, f); !errors.Is(err, ErrWrongKey) {
			t.Errorf("bit %d of the fragment: got %v, want ErrWrongKey", bit, err)
		}
		raw[bit/8] ^= 1 << (bit % 8)
	}
}
