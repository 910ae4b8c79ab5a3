package keyring

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/measure"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/race"
)

// ascending returns the bytes first, first+1, …
func ascending(first byte) []byte {
	b := make([]byte, crypto.SecretSize)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// keyFileOf returns a key file without punctures.
func keyFileOf(t testing.TB, service, root []byte) []byte {
	t.Helper()
	s, err := crypto.ServiceSecretFromBytes(service)
	must.Succeed(t, err)
	var out bytes.Buffer
	must.Succeed(t, writeKey(&out, s, nil, func(w io.Writer) error {
		_, err := w.Write(root)
		return err
	}))
	return out.Bytes()
}

func punctured(t testing.TB, file []byte, paths ...path) []byte {
	t.Helper()
	c, err := parse(bytes.NewReader(file), int64(len(file)))
	must.Succeed(t, err)
	var out bytes.Buffer
	must.Succeed(t, writePunctured(&out, c, bytes.NewReader(file), slices.Clone(paths)))
	return out.Bytes()
}

// The wanted value was computed by Python's hmac and hashlib.
func TestShareIsAsSpecified(t *testing.T) {
	r, err := Open(t.TempDir())
	must.Succeed(t, err)
	const e = "2027-02-28.dl3xa6mq"
	must.Succeed(t, os.WriteFile(r.keys.path(e), keyFileOf(t, ascending(0), ascending(32)), 0o600))
	sum := sha256.Sum256([]byte("core"))
	hash, err := multihash.Encode(sum[:], multihash.SHA2_256)
	must.Succeed(t, err)
	got, err := r.Share(e, cid.NewCidV1(cid.DagProtobuf, hash))
	must.Succeed(t, err)
	if want := "005806e36c0535236732eb4ef6ae72de72ee5ba0857d445a285c438d26ae6d50"; hex.EncodeToString(got.Bytes()) != want {
		t.Errorf("got %x, want %s", got.Bytes(), want)
	}
}

// oracle is the tree of docs/format.md in the plainest form: nodes by their bits, as text.
type oracle map[string][]byte

func (o oracle) node(bits string) []byte {
	if n := o[bits]; n != nil {
		return n
	}
	last := len(bits) - 1
	mac := hmac.New(sha256.New, o.node(bits[:last]))
	mac.Write([]byte{bits[last] - '0'})
	o[bits] = mac.Sum(nil)
	return o[bits]
}

// cover returns the nodes that are left when these leaves are punctured.
func (o oracle) cover(bits string, leaves []string) [][]byte {
	below := slices.DeleteFunc(slices.Clone(leaves), func(leaf string) bool { return leaf[:len(bits)] != bits })
	switch {
	case len(below) == 0:
		return [][]byte{o.node(bits)}
	case len(bits) == depth:
		return nil
	}
	return append(o.cover(bits+"0", below), o.cover(bits+"1", below)...)
}

func bitsOf(paths []path) []string {
	var leaves []string
	for _, p := range paths {
		leaves = append(leaves, fmt.Sprintf("%064b", p))
	}
	return leaves
}

// clustered returns paths, many of which are close to each other.
func clustered(rng *rand.Rand, n int) []path {
	var paths []path
	for len(paths) < n {
		p := path(rng.Uint64())
		paths = append(paths, p)
		for range rng.IntN(4) {
			paths = append(paths, p^1<<rng.IntN(depth))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// The file has the cover of the oracle and nothing else, so no ancestor of a punctured leaf. It is
// the same for every order and every batch, and every other leaf is what it was.
func TestPuncturesLeaveTheCover(t *testing.T) {
	faults.Covers(t, 109)
	root := ascending(32)
	whole := keyFileOf(t, ascending(0), root)
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		paths := clustered(rng, rng.IntN(12)) // sometimes none
		want := slices.Concat(oracle{"": root}.cover("", bitsOf(paths))...)

		file := whole
		shuffled := slices.Clone(paths)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for len(shuffled) > 0 {
			n := 1 + rng.IntN(len(shuffled))
			file = punctured(t, file, shuffled[:n]...)
			shuffled = shuffled[n:]
		}
		if once := punctured(t, whole, paths...); !bytes.Equal(file, once) {
			t.Fatalf("seed %d: another order gives another file", seed)
		}
		c, err := parse(bytes.NewReader(file), int64(len(file)))
		must.Succeed(t, err)
		if got := file[c.offset(0) : len(file)-sha256.Size]; !bytes.Equal(got, want) {
			t.Fatalf("seed %d: the nodes are not the cover of %016x", seed, paths)
		}
		probes := append(clustered(rng, 20), 0, 1<<64-1)
		for _, p := range paths {
			probes = append(probes, p, p^1, p+1, p-1, p^1<<63, p^1<<rng.IntN(depth))
		}
		compareLeaves(t, root, file, c, probes)
	}
}

func compareLeaves(t *testing.T, root, file []byte, c *content, probes []path) {
	t.Helper()
	o := oracle{"": root}
	for _, p := range c.cover.paths {
		for at := range depth + 1 {
			if bytes.Contains(file, o.node(fmt.Sprintf("%064b", p)[:at])) {
				t.Fatalf("%016x of %016x: the file has its ancestor at depth %d", p, c.cover.paths, at)
			}
		}
	}
	for _, p := range probes {
		index, at, ok := c.cover.find(p)
		if ok == slices.Contains(c.cover.paths, p) {
			t.Fatalf("%016x of %016x: found %v", p, c.cover.paths, ok)
		}
		if !ok {
			continue
		}
		n := node(file[c.offset(index):])
		if got, want := n.descend(p, at), o.node(fmt.Sprintf("%064b", p)); !bytes.Equal(got[:], want) {
			t.Fatalf("%016x of %016x: another leaf", p, c.cover.paths)
		}
	}
}

// The edges of the tree, and leaves that are all around one that is left.
func TestPuncturesAtTheEdges(t *testing.T) {
	root := ascending(32)
	whole := keyFileOf(t, ascending(0), root)
	const p path = 0x0123_4567_89ab_cdef
	surrounded := []path{}
	for at := range depth {
		surrounded = append(surrounded, p^1<<at)
	}
	slices.Sort(surrounded)
	for _, paths := range [][]path{{0}, {1<<64 - 1}, {0, 1<<64 - 1}, {p, p ^ 1}, {p, p ^ 1<<63}, {0, 1, 2, 3}, surrounded} {
		file := punctured(t, whole, paths...)
		c, err := parse(bytes.NewReader(file), int64(len(file)))
		must.Succeed(t, err)
		if want := slices.Concat(oracle{"": root}.cover("", bitsOf(paths))...); !bytes.Equal(file[c.offset(0):len(file)-sha256.Size], want) {
			t.Errorf("%016x: the nodes are not the cover", paths)
		}
		compareLeaves(t, root, file, c, append(paths, p, p^1, 0, 1, 4, 1<<64-1, 1<<64-2, 1<<63, 1<<63-1))
		if again := punctured(t, file, paths...); !bytes.Equal(again, file) {
			t.Errorf("%016x: puncturing again changes the file", paths)
		}
	}
}

// tenThousand returns a keyring of whose epoch 10,000 leaves are punctured, without marks.
func tenThousand(t testing.TB) (*Keyring, crypto.Epoch) {
	t.Helper()
	r, e := newTestKeyring(t)
	rng := rand.New(rand.NewPCG(1, 2))
	paths := make([]path, 9_999)
	for i := range paths {
		paths[i] = path(rng.Uint64())
	}
	start := time.Now()
	must.Succeed(t, r.writer.puncture(e, paths))
	most := time.Since(start)
	must.Succeed(t, r.Destroy(e, coreAt(rng.Uint64()))) // a file of full size is written anew
	t.Logf("9,999 punctured in %v, one more in %v", most, time.Since(start)-most)
	return r, e
}

// settle waits until the key file is old enough for its content to be kept in memory.
func settle(t testing.TB, r *Keyring, e crypto.Epoch) {
	t.Helper()
	stamp, err := durable.StampOf(r.keys.path(e))
	must.Succeed(t, err)
	for !stamp.Settled(time.Now()) {
		time.Sleep(50 * time.Millisecond)
	}
	must.Succeed(t, r.Check(e))
}

func TestTenThousandPuncturesAreSmallAndFast(t *testing.T) {
	if race.Enabled {
		t.Skip("measures time")
	}
	r, e := tenThousand(t)
	info, err := os.Stat(r.keys.path(e))
	must.Succeed(t, err)
	settle(t, r, e)
	const shares = 500
	began := measure.CPU()
	for i := range shares {
		if _, err := r.Share(e, coreAt(uint64(i)<<50)); err != nil {
			t.Fatal(err)
		}
	}
	each := (measure.CPU() - began) / shares
	t.Logf("the key file has %.1f MB; a share takes %v of processor", float64(info.Size())/1e6, each)
	if info.Size() > 20e6 {
		t.Errorf("the key file has %d bytes, want less than 20 MB", info.Size())
	}
	if each > time.Millisecond {
		t.Errorf("a share takes %v, want less than 1 ms", each)
	}
}

func BenchmarkShare(b *testing.B) {
	whole, e := newTestKeyring(b)
	large, le := tenThousand(b)
	for _, tt := range []struct {
		name string
		r    *Keyring
		e    crypto.Epoch
	}{{"punctures=0", whole, e}, {"punctures=10000", large, le}} {
		settle(b, tt.r, tt.e)
		b.Run(tt.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := tt.r.Share(tt.e, coreAt(7)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
