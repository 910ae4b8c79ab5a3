package keyring

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
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

// wantFiles checks that a directory has this many key files, the locks, marks and extensions, and
// nothing else.
func wantFiles(t *testing.T, dir string, keys int) {
	t.Helper()
	names, err := readNames(dir)
	must.Succeed(t, err)
	n := 0
	for _, name := range names {
		if _, isKey := strings.CutSuffix(name, keySuffix); isKey && name[0] != '.' {
			n++
		} else if !slices.Contains([]string{changeLock, makeLock, destroyedDir, extendedDirName}, name) {
			t.Errorf("there is a file %s", name)
		}
	}
	if n != keys {
		t.Errorf("%d key files, want %d: %q", n, keys, names)
	}
}

// copyKeyring copies a keyring into another, as cp -r FROM/. TO/ does.
func copyKeyring(t *testing.T, to, from string) {
	t.Helper()
	must.Succeed(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(target, 0o700))
		}
		b, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(target, b, 0o600))
	}))
}

// contents returns the key files, marks and records of a keyring.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	must.Succeed(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), changeLock) {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[name] = string(b)
		return err
	}))
	return all
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

// badCores are no cores: of no object, of version 0, and with another hash.
func badCores(t *testing.T) []cid.Cid {
	t.Helper()
	sum, err := multihash.Sum([]byte("core"), multihash.SHA2_256, -1)
	must.Succeed(t, err)
	long, err := multihash.Sum([]byte("core"), multihash.SHA2_512, -1)
	must.Succeed(t, err)
	return []cid.Cid{cid.Undef, cid.NewCidV0(sum), cid.NewCidV1(cid.DagProtobuf, long)}
}

func TestDeletedKeyFileIsASecretThatIsGone(t *testing.T) {
	faults.Covers(t, 80)
	r, e := newTestKeyring(t)
	if again, err := r.Writer(testPeriod); err != nil || again != e {
		t.Errorf("second time: got %s, %v, want %s", again, err, e)
	}
	if info, err := os.Stat(r.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: got %v, %v, want mode 0700", info.Mode(), err)
	}
	if info, err := os.Stat(r.keys.path(e)); err != nil || info.Mode().Perm() != 0o600 || info.Size() != int64(headerSize)+32+32 {
		t.Errorf("key file: got %v, %v, want mode 0600 and one node", info, err)
	}
	if e.Period() != testPeriod || r.keys.path(e) != filepath.Join(r.dir, string(e)+".key") {
		t.Errorf("epoch %s in %s", e, r.keys.path(e))
	}
	want, err := r.Share(e, coreAt(1))
	must.Succeed(t, err)
	again, err := Open(r.dir)
	must.Succeed(t, err)
	if got, err := again.Share(e, coreAt(1)); err != nil || got != want {
		t.Errorf("after reopening: another share, error %v", err)
	}
	// The share is of the whole core, and not only of the bits that lead to the leaf.
	raw := cid.NewCidV1(cid.Raw, coreAt(1).Hash())
	if got, err := r.Share(e, raw); err != nil || got == want {
		t.Errorf("another core at the same leaf: the same share, error %v", err)
	}
	must.Succeed(t, os.Remove(r.keys.path(e)))
	for _, r := range []*Keyring{r, again} {
		_, shareErr := r.Share(e, coreAt(1))
		_, originErr := r.SealOrigin(e, coreAt(1), crypto.Fragment{}, crypto.Key{})
		_, ticketErr := r.SealTicket(e, time.Now(), nil, nil)
		for what, err := range map[string]error{"Share": shareErr, "SealOrigin": originErr, "SealTicket": ticketErr, "Check": r.Check(e)} {
			if !errors.Is(err, ErrNoEpoch) || errors.Is(err, ErrDestroyed) {
				t.Errorf("%s after deletion: got %v, want ErrNoEpoch and not ErrDestroyed", what, err)
			}
		}
		if gone, err := r.Destroyed(e, coreAt(1)); gone || err != nil {
			t.Errorf("a missing file passes for a destroyed one, error %v", err)
		}
	}
	if other, err := r.Writer(testPeriod); err != nil || other == e {
		t.Errorf("made again: the name of the deleted epoch is back, error %v", err)
	}
}

// A key file that is deleted while shares are derived gives right shares, and then none.
func TestKeyFileIsDeletedWhileSharesAreDerived(t *testing.T) {
	r, e := newTestKeyring(t)
	want, err := r.Share(e, coreAt(1))
	must.Succeed(t, err)
	var wg sync.WaitGroup
	started := make(chan struct{}, 4)
	for range cap(started) {
		wg.Go(func() {
			for n := 0; ; n++ {
				got, err := r.Share(e, coreAt(1))
				if errors.Is(err, ErrNoEpoch) {
					return
				}
				if err != nil || got != want {
					t.Errorf("a wrong share, error %v", err)
					return
				}
				if n == 0 {
					started <- struct{}{}
				}
			}
		})
	}
	for range cap(started) {
		<-started
	}
	must.Succeed(t, os.Remove(r.keys.path(e)))
	wg.Wait()
}

// Each epoch has its own secrets: a new one changes no other, and an ended one takes no other along.
func TestEpochsStandAlone(t *testing.T) {
	faults.Covers(t, 80)
	r, _ := newTestKeyring(t)
	shares, want := map[crypto.Share]bool{}, map[crypto.Epoch]crypto.Share{}
	for _, p := range []crypto.Period{"2026-10", "2026-11", "2026-11-22"} {
		e, err := r.Writer(p)
		must.Succeed(t, err)
		want[e], err = r.Share(e, coreAt(1))
		must.Succeed(t, err)
		shares[want[e]] = true
	}
	if len(shares) != len(want) {
		t.Errorf("%d epochs have %d shares of one object", len(want), len(shares))
	}
	epochs, err := r.Epochs()
	if err != nil || len(epochs) != 4 || !slices.IsSorted(epochs) {
		t.Fatalf("epochs: %q, %v", epochs, err)
	}
	ended := epochs[1]
	must.Succeed(t, r.End(ended))
	for e, share := range want {
		got, err := r.Share(e, coreAt(1))
		if e == ended {
			if !errors.Is(err, ErrDestroyed) {
				t.Errorf("ended: got %v, want ErrDestroyed", err)
			}
		} else if err != nil || got != share {
			t.Errorf("%s: another share, error %v", e, err)
		}
	}
}

// The old inode may have other names, and forensics: its bytes are overwritten.
func TestReplacedAndEndedFilesAreOverwritten(t *testing.T) {
	faults.Covers(t, 109)
	r, e := newTestKeyring(t)
	kept := filepath.Join(t.TempDir(), "kept")
	for _, change := range []func() error{
		func() error { return r.Destroy(e, coreAt(1)) }, func() error { return r.End(e) },
	} {
		must.Succeed(t, os.Link(r.keys.path(e), kept))
		must.Succeed(t, change())
		b, err := os.ReadFile(kept)
		must.Succeed(t, err)
		if rest := bytes.Trim(b, "\x00"); len(b) < headerSize || len(rest) != 0 {
			t.Errorf("%d bytes stay of %d", len(rest), len(b))
		}
		must.Succeed(t, os.Remove(kept))
	}
}

// End marks the epoch, deletes its file, and holds for a copy of the file that comes back.
func TestEndedEpochStaysEnded(t *testing.T) {
	faults.Covers(t, 109)
	r, e := newTestKeyring(t)
	old, err := r.Export(e)
	must.Succeed(t, err)
	for range 2 {
		must.Succeed(t, r.End(e))
	}
	wantFiles(t, r.dir, 0)
	for _, half := range [][]byte{old, old[:40], make([]byte, len(old))} { // a crash in End leaves zeros
		replaceKey(t, r, e, half)
		for _, read := range []func(string) (*Keyring, error){Read, Open} {
			back, err := read(r.dir)
			must.Succeed(t, err)
			if _, err := back.Share(e, coreAt(1)); !errors.Is(err, ErrDestroyed) {
				t.Errorf("the file is back: got %v, want ErrDestroyed", err)
			}
			if gone, err := back.Destroyed(e, coreAt(1)); !gone || err != nil {
				t.Errorf("the file is back: destroyed %v, %v", gone, err)
			}
		}
		wantFiles(t, r.dir, 0)
	}
	if err := r.Merge(e, old); !errors.Is(err, ErrDestroyed) {
		t.Errorf("merged: got %v, want ErrDestroyed", err)
	}
	if other, err := r.Writer(testPeriod); err != nil || other == e {
		t.Errorf("Writer gives the ended epoch, error %v", err)
	}
}

func TestOriginsAreTheEpochs(t *testing.T) {
	r, e := newTestKeyring(t)
	other, err := r.Writer("2028-01-01")
	must.Succeed(t, err)
	k, err := crypto.NewKey()
	must.Succeed(t, err)
	share, err := r.Share(e, coreAt(1))
	must.Succeed(t, err)
	o, err := r.SealOrigin(e, coreAt(1), k.Split(share), k)
	must.Succeed(t, err)
	forged := o
	forged[95] ^= 1
	check := func(what string, e crypto.Epoch, core cid.Cid, o crypto.Origin, want error) {
		t.Helper()
		if err := r.CheckOrigin(e, core, o); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	check("right", e, coreAt(1), o, nil)
	check("another epoch", other, coreAt(1), o, ErrForeign)
	check("another core", e, coreAt(2), o, ErrForeign)
	check("forged", e, coreAt(1), forged, ErrForeign)
	check("unknown epoch", "2026-11.aaaa2345", coreAt(1), o, ErrNoEpoch)
	must.Succeed(t, r.Destroy(e, coreAt(1)))
	check("destroyed", e, coreAt(1), o, ErrDestroyed)
	check("destroyed and forged", e, coreAt(1), forged, ErrForeign) // no oracle of what was destroyed
	must.Succeed(t, r.End(e))
	if err := r.CheckOrigin(e, coreAt(1), o); !errors.Is(err, ErrNoEpoch) || errors.Is(err, ErrDestroyed) {
		t.Errorf("ended: got %v, want ErrNoEpoch, because nothing was verified", err)
	}
}

// cp writes into a key file in place, without its lock, while another program reads it. Every use of
// the file gets what was verified, or an error: a wrong share would make a link that never opens.
func TestKeyFileThatIsBeingChangedGivesNothingWrong(t *testing.T) {
	faults.Covers(t, 109)
	changes := map[string]func(before []byte) []byte{
		"the same":      func(before []byte) []byte { return before },
		"another cover": func(before []byte) []byte { return punctured(t, before, 5, 1<<63) },
		"zeros":         func(before []byte) []byte { return make([]byte, len(before)) },
		"empty":         func([]byte) []byte { return nil },
		"half":          func(before []byte) []byte { return before[:len(before)/2] },
		"longer":        func(before []byte) []byte { return append(bytes.Clone(before), 0) },
	}
	for _, settled := range []bool{false, true} {
		scenes := make(map[string]*changingScene)
		for how := range changes {
			scenes[how] = newChangingScene(t)
		}
		for how, change := range changes {
			t.Run(fmt.Sprintf("%s, settled %v", how, settled), func(t *testing.T) {
				scenes[how].check(t, settled, how == "the same", change)
			})
		}
	}
}

// changingScene is a keyring with a punctured key file, and the leaf of coreAt(2).
type changingScene struct {
	r      *Keyring
	e      crypto.Epoch
	before []byte
	leaf   node
}

func newChangingScene(t *testing.T) *changingScene {
	t.Helper()
	r, e := newTestKeyring(t)
	must.Succeed(t, r.Destroy(e, coreAt(1)))
	before, err := r.Export(e)
	must.Succeed(t, err)
	k, err := r.keys.open(e)
	must.Succeed(t, err)
	leaf, err := k.leaf(2)
	must.Succeed(t, errors.Join(err, k.Close()))
	return &changingScene{r, e, before, *leaf}
}

// check changes the file after it was opened, and then uses it.
func (s *changingScene) check(t *testing.T, settled, whole bool, change func([]byte) []byte) {
	if settled {
		settle(t, s.r, s.e)
	}
	k, err := s.r.keys.open(s.e)
	must.Succeed(t, err)
	defer k.Close()
	if settled && !k.settled {
		t.Fatal("the file is not settled, so this test shows nothing")
	}
	k.settled = settled // a slow machine may have been late
	replaceKey(t, s.r, s.e, change(s.before))
	leaf, leafErr := k.leaf(2)
	if leafErr == nil && *leaf != s.leaf {
		t.Error("the leaf is that of another file")
	}
	var next bytes.Buffer
	nextErr := writePunctured(&next, k.content, k, []path{9})
	if nextErr == nil && !bytes.Equal(next.Bytes(), punctured(t, s.before, 9)) {
		t.Error("the punctured file is made of another file")
	}
	_, fileErr := k.bytes()
	for what, err := range map[string]error{"a leaf": leafErr, "the bytes": fileErr, "a puncture": nextErr} {
		if whole && err != nil || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if !whole && (leafErr == nil || fileErr == nil) {
		t.Errorf("a leaf and the bytes: got %v and %v, want ErrDamaged", leafErr, fileErr)
	}
}

// A keyring remembers a key file only for as long as the file has the bytes that it verified.
func TestRememberedKeyFileIsTheOneThatIsThere(t *testing.T) {
	r, e := newTestKeyring(t)
	settle(t, r, e)
	if r.keys.known[e].content == nil {
		t.Fatal("nothing is remembered, so this test shows nothing")
	}
	other, err := Open(r.dir)
	must.Succeed(t, err)
	must.Succeed(t, other.Destroy(e, coreAt(1)))
	must.Succeed(t, os.RemoveAll(filepath.Join(r.dir, destroyedDir))) // which would hide a mistake
	if _, err := r.Share(e, coreAt(1)); !errors.Is(err, ErrDestroyed) {
		t.Errorf("destroyed by another process: got %v, want ErrDestroyed", err)
	}
	settle(t, r, e)
	file, err := os.ReadFile(r.keys.path(e))
	must.Succeed(t, err)
	info, err := os.Stat(r.keys.path(e))
	must.Succeed(t, err)
	file[len(file)-1-sha256.Size] ^= 1
	replaceKey(t, r, e, file)
	must.Succeed(t, os.Chtimes(r.keys.path(e), info.ModTime(), info.ModTime())) // as cp -p does
	if _, err := r.Share(e, coreAt(2)); !errors.Is(err, ErrDamaged) {
		t.Errorf("changed in place: got %v, want ErrDamaged", err)
	}
}
