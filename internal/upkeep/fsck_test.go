package upkeep

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// checkup runs Fsck over all blocks and returns what it found, as "class CID" or "class epoch".
func checkup(t *testing.T, v *process, repair bool) (found []Finding, all []string, result FsckResult) {
	t.Helper()
	result, err := v.Fsck(t.Context(), FsckConfig{
		Sample: 1, Repair: repair, Workers: 3, Progress: func(int, int) {},
		Report: func(f Finding) { found = append(found, f) },
	})
	must.Succeed(t, err)
	for _, f := range found {
		name := f.CID
		if name == "" {
			name = string(f.Epoch)
		}
		all = append(all, strings.TrimSpace(string(f.Class)+" "+name))
		if f.What == "" || f.Repaired != (f.Do == "") || strings.Contains(f.What+f.Do, "\n") {
			t.Errorf("%+v: want what is wrong, and what to do unless it is repaired", f)
		}
	}
	slices.Sort(all)
	return found, all, result
}

func wantFound(t *testing.T, got []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (s *site) car(c cid.Cid) string { return filepath.Join(s.dir, "objects", c.String()+".car") }

// reopened opens the site's keyring again, like another process.
func (s *site) reopened(t *testing.T) *process {
	t.Helper()
	var err error
	s.keys, err = keyring.Open(filepath.Join(s.dir, "keys"))
	must.Succeed(t, err)
	return s.vault(t, nil)
}

func epochOf(t *testing.T, v *process, c cid.Cid) crypto.Epoch {
	t.Helper()
	return opened(t, v, c).KID().Epoch
}

// removeLine removes the lines about an object from the ledger.
func (s *site) removeLine(t *testing.T, e crypto.Epoch, c cid.Cid) {
	t.Helper()
	name := filepath.Join(s.dir, "ledger", string(e)+".jsonl")
	text, err := os.ReadFile(name)
	must.Succeed(t, err)
	lines := slices.DeleteFunc(strings.SplitAfter(string(text), "\n"), func(l string) bool { return strings.Contains(l, c.String()) })
	must.Succeed(t, os.WriteFile(name, []byte(strings.Join(lines, "")), 0o600))
}

// flip damages an object: a bit of its first block.
func (s *site) flip(t *testing.T, c cid.Cid) {
	t.Helper()
	car, err := os.ReadFile(s.car(c))
	must.Succeed(t, err)
	car[ipfs.CARHeaderSize+60] ^= 4
	must.Succeed(t, os.WriteFile(s.car(c), car, 0o600))
}

// An installation without faults has no findings, also while a mail is on its way.
func TestFsckFindsNothingInASoundInstallation(t *testing.T) {
	s, v := newVault(t)
	detached(t, v, pattern(3<<20))
	kept(t, v, 30*24*time.Hour, pattern(100))
	b := v.Begin(0)
	onTheWay := detach(t, b, pattern(200))
	_, all, result := checkup(t, s.vault(t, nil), true)
	wantFound(t, all)
	if result.Objects != 3 || result.Verified != 3 || result.Left() != 0 {
		t.Errorf("got %+v, want three verified objects", result)
	}
	must.Succeed(t, b.Commit(t.Context()))
	must.Succeed(t, b.Close())
	_, all, _ = checkup(t, v, true)
	wantFound(t, all)
	wantContent(t, v, onTheWay, pattern(200))
}

// A damaged key file is a fault among others, and hides none of them.
func TestFsckPassesOverADamagedKeyFile(t *testing.T) {
	s, v := newVault(t)
	closed, dead := kept(t, v, 30*day, []byte("closed")), kept(t, v, 30*day, []byte("dead"))
	orphan, epoch := detached(t, v, []byte("orphan")), epochOf(t, v, closed.CID)
	s.removeLine(t, epochOf(t, v, orphan.CID), orphan.CID)
	must.Succeed(t, os.Remove(s.car(dead.CID)))
	must.Succeed(t, os.Truncate(s.keyFile(epoch), 20))
	found, all, _ := checkup(t, s.reopened(t), true)
	wantFound(t, all, "keyless "+string(epoch), "orphaned "+orphan.CID.String(), "dead "+dead.CID.String())
	for _, f := range found {
		if f.Class == Keyless && !strings.Contains(f.What, "is damaged: the store has objects that do not open, 1 in the ledger") {
			t.Errorf("it says: %s", f.What)
		}
	}
	if n := s.objects(t); n != 2 {
		t.Errorf("%d objects are left, want 2", n)
	}
}

// Every kind of fault is found and named. What can be repaired is found no more after a repair.
func TestFsckFindsEveryFault(t *testing.T) {
	s, v := newVault(t)
	var links []link.Link
	for i := range 5 {
		links = append(links, detached(t, v, pattern(1000+i)))
	}
	whole, dead, orphan, damaged, ended := links[0], links[1], links[2], links[3], links[4]
	e := epochOf(t, v, whole.CID)
	keyless := kept(t, v, 90*24*time.Hour, pattern(500))
	lost := epochOf(t, v, keyless.CID)

	must.Succeed(t, os.Remove(s.car(dead.CID)))
	s.removeLine(t, e, orphan.CID)
	s.flip(t, damaged.CID)
	must.Succeed(t, s.keys.Destroy(e, opened(t, v, ended.CID).Core()))
	interrupted := v.Begin(0)
	leftover := detach(t, interrupted, pattern(1006))
	killed(t, s, interrupted)
	must.Succeed(t, os.Rename(filepath.Join(s.dir, "keys", string(lost)+".key"), filepath.Join(s.dir, "lost.key")))
	other, w := newVault(t)
	foreign := detached(t, w, pattern(1<<10)) // of an epoch that is unknown here
	foreignEpoch := epochOf(t, w, foreign.CID)
	must.Succeed(t, os.Rename(other.car(foreign.CID), s.car(foreign.CID)))
	forged := s.forge(t, whole.CID)
	plain := storetest.PutFile(t, s.store, strings.NewReader("not an object"))

	want := []string{
		"dead " + dead.CID.String(), "orphaned " + orphan.CID.String(), "damaged " + damaged.CID.String(), "ended " + ended.CID.String(),
		"foreign " + plain.String(), "foreign " + forged.String(), "keyless " + string(lost), "keyless " + string(foreignEpoch), "leftover",
	}
	_, all, result := checkup(t, s.reopened(t), false)
	wantFound(t, all, want...)
	if result.Left() != len(want) {
		t.Errorf("%d are left, want all %d", result.Left(), len(want))
	}

	_, all, result = checkup(t, s.reopened(t), true)
	wantFound(t, all, want...)
	if result.Repaired != 4 {
		t.Errorf("%d were repaired, want the dead, orphaned and ended one, and the leftover", result.Repaired)
	}
	_, all, _ = checkup(t, s.reopened(t), true)
	wantFound(t, all, "damaged "+damaged.CID.String(), "foreign "+plain.String(), "foreign "+forged.String(), "keyless "+string(lost), "keyless "+string(foreignEpoch))

	must.Succeed(t, os.Rename(filepath.Join(s.dir, "lost.key"), filepath.Join(s.dir, "keys", string(lost)+".key")))
	v = s.reopened(t)
	for l, size := range map[link.Link]int{whole: 1000, orphan: 1002, keyless: 500} {
		wantContent(t, v, l, pattern(size))
	}
	for _, c := range []cid.Cid{foreign.CID, plain, leftover.CID} {
		if _, err := os.Stat(s.car(c)); err == nil == (c == leftover.CID) {
			t.Errorf("%s: %v, want only the leftover to be deleted", c, err)
		}
	}
}

// forge stores a copy of an object with another origin, as a stranger could who has its blocks.
func (s *site) forge(t *testing.T, c cid.Cid) cid.Cid {
	t.Helper()
	blocks, err := s.store.Open(t.Context(), c)
	must.Succeed(t, err)
	defer blocks.Close()
	entries, err := ipfs.OpenDirectory(t.Context(), blocks, c)
	must.Succeed(t, err)
	root, err := s.store.Put(t.Context(), vault.PinPrefix+"forged", func(add ipfs.AddFunc) (cid.Cid, error) {
		must.Succeed(t, ipfs.Walk(t.Context(), blocks, c, add))
		origin, err := ipfs.AddLeaf(add, pattern(crypto.OriginSize))
		must.Succeed(t, err)
		var list []ipfs.Entry
		for name, n := range entries {
			if name == object.Origin {
				n = origin
			}
			list = append(list, ipfs.Entry{Name: name, Node: n})
		}
		dir, err := ipfs.AddDirectory(add, list...)
		return dir.CID, err
	})
	must.Succeed(t, err)
	return root
}

// Without its ledger an installation serves all its links, and fsck makes the ledger again.
func TestFsckMakesTheLedgerAgain(t *testing.T) {
	s, v := newVault(t)
	link1 := s.vault(t, func(c *vault.Config) { c.Mode = vault.LinkOnly })
	links := map[link.Link][]byte{
		detached(t, v, pattern(2<<20)):                 pattern(2 << 20),
		kept(t, v, 30*24*time.Hour, nil):               nil,
		kept(t, link1, 60*24*time.Hour, pattern(5000)): pattern(5000),
	}
	before := make(map[cid.Cid]ledger.Entry)
	must.Succeed(t, v.ledger.All(func(e ledger.Entry) error { before[e.CID] = e; return nil }))
	must.Succeed(t, os.RemoveAll(filepath.Join(s.dir, "ledger")))

	v = s.vault(t, nil)
	_, all, _ := checkup(t, v, true)
	if len(all) != len(links) || !strings.HasPrefix(all[0], "orphaned") || !strings.HasPrefix(all[2], "orphaned") {
		t.Errorf("found %q, want %d orphans", all, len(links))
	}
	must.Succeed(t, v.ledger.All(func(got ledger.Entry) error {
		want := before[got.CID]
		want.Created, want.Mail, want.Kind = time.Time{}, "", "" // nobody has the key to read them
		if got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		delete(before, got.CID)
		return nil
	}))
	if len(before) != 0 {
		t.Errorf("not in the ledger again: %v", before)
	}
	for l, want := range links {
		wantContent(t, v, l, want)
	}
	_, all, _ = checkup(t, v, true)
	wantFound(t, all)
}

// If most of the store is not there, the ledger is right and the store is the wrong one.
func TestFsckDoesNotBuryTheLedger(t *testing.T) {
	s, v := newVault(t)
	for i := range 12 {
		detached(t, v, pattern(100+i))
	}
	objects := filepath.Join(s.dir, "objects")
	must.Succeed(t, os.Rename(objects, objects+".away"))
	must.Succeed(t, os.Mkdir(objects, 0o700))
	found, _, result := checkup(t, v, true)
	if result.Found[Dead] != 12 || result.Repaired != 0 || !strings.Contains(found[0].Do, "store.kind") {
		t.Errorf("got %+v, first %+v; want 12 dead objects, and none repaired", result, found[0])
	}
	must.Succeed(t, os.Remove(objects))
	must.Succeed(t, os.Rename(objects+".away", objects))
	_, all, _ := checkup(t, v, true)
	wantFound(t, all)
}

// A sample of nothing reads only what the gateway reads to admit an object.
func TestFsckReadsTheSample(t *testing.T) {
	s, v := newVault(t)
	l := detached(t, v, pattern(1000))
	s.flip(t, l.CID)
	for sample, want := range map[float64]int{0: 0, 1: 1} {
		result, err := v.Fsck(t.Context(), FsckConfig{Sample: sample, Report: func(Finding) {}, Progress: func(int, int) {}})
		if err != nil || result.Found[Damaged] != want || result.Verified != 0 {
			t.Errorf("sample %v: %+v, %v, want %d damaged", sample, result, err, want)
		}
	}
}

// An object whose extension needs a key file that is not here stays, although its first key was
// destroyed.
func TestFsckKeepsExtendedObjects(t *testing.T) {
	s, v := newVault(t)
	l := kept(t, v, 30*24*time.Hour, pattern(1000))
	o := opened(t, v, l.CID)
	old := o.KID().Epoch
	later, err := s.keys.Writer(crypto.PeriodOf(s.now, 90*24*time.Hour))
	must.Succeed(t, err)
	must.Succeed(t, s.keys.Extend(l.CID, o.Core(), old, later, false, shareOf(t, o)))
	must.Succeed(t, s.keys.End(old))
	key := filepath.Join(s.dir, "keys", string(later)+".key")
	must.Succeed(t, os.Rename(key, key+".away"))
	_, all, _ := checkup(t, s.reopened(t), true)
	wantFound(t, all, "keyless "+string(later))
	must.Succeed(t, os.Rename(key+".away", key))
	v = s.reopened(t)
	wantContent(t, v, l, pattern(1000))
}

// The ledger gets the later end of an extended object again: with the earlier one, the object would
// be deleted too early. An extended object that is lost is dead, also after its first epoch's end.
func TestFsckKnowsExtensions(t *testing.T) {
	s, v := newVault(t)
	l := kept(t, v, 30*24*time.Hour, pattern(1000))
	entries, err := v.ledger.Find(l.CID)
	must.Succeed(t, err)
	_, err = v.Extend(t.Context(), entries[0], crypto.PeriodOf(s.now, 90*24*time.Hour))
	must.Succeed(t, err)
	_, all, _ := checkup(t, v, true)
	wantFound(t, all)
	entries, err = v.ledger.Find(l.CID)
	must.Succeed(t, err)
	old, later := entries[0].KID.Epoch, entries[0].Epoch
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "ledger", string(later)+".jsonl")))
	v = s.vault(t, nil)
	_, all, _ = checkup(t, v, true)
	wantFound(t, all, "orphaned "+l.CID.String())
	again, err := v.ledger.Find(l.CID)
	must.Succeed(t, err)
	if len(again) != 1 || again[0].Epoch != later || again[0].KID.Epoch != old {
		t.Errorf("the ledger has %+v, want the end %s", again, later)
	}
	_, all, _ = checkup(t, v, true)
	wantFound(t, all)

	must.Succeed(t, s.keys.End(old))
	must.Succeed(t, os.Remove(s.car(l.CID)))
	_, all, _ = checkup(t, v, true)
	wantFound(t, all, "dead "+l.CID.String())
}

// A store that does not answer is an error, and no object is called damaged for it.
func TestFsckEndsWhenTheStoreIsDown(t *testing.T) {
	s, v := newVault(t)
	for i := range 40 {
		detached(t, v, pattern(100+i))
	}
	s.store = downStore{s.store}
	found := 0
	_, err := s.vault(t, nil).Fsck(t.Context(), FsckConfig{Repair: true, Workers: 4, Report: func(Finding) { found++ }, Progress: func(int, int) {}})
	if !errors.Is(err, vault.ErrUnavailable) || found > maxOutage+4 {
		t.Errorf("got %v after %d findings, want ErrUnavailable", err, found)
	}
}

// downStore lists its objects and opens none.
type downStore struct{ ipfs.Store }

func (downStore) Open(context.Context, cid.Cid) (ipfs.Blocks, error) {
	return nil, ipfs.Unavailable("open", errors.New("connection refused"))
}

// namedStore gives the objects of a store names, as a node does: an object without a name is not
// listed.
type namedStore struct {
	ipfs.Store
	mu    sync.Mutex
	names map[cid.Cid]string
}

func (s *namedStore) Put(ctx context.Context, name string, build func(ipfs.AddFunc) (cid.Cid, error)) (cid.Cid, error) {
	root, err := s.Store.Put(ctx, name, build)
	return root, errors.Join(err, s.Rename(ctx, root, name))
}

func (s *namedStore) List(_ context.Context, prefix string, yield func(ipfs.Item) error) error {
	s.mu.Lock()
	names := maps.Clone(s.names)
	s.mu.Unlock()
	for root, name := range names {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		if err := yield(ipfs.Item{Root: root, Name: name, Size: -1}); err != nil {
			return err
		}
	}
	return nil
}

func (s *namedStore) Rename(_ context.Context, root cid.Cid, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[root] = name
	return nil
}

// A pin that was lost or renamed is made again, so that the node's garbage collection keeps the
// object.
func TestFsckRepairsPins(t *testing.T) {
	s := newSite(t)
	store := &namedStore{Store: s.store, names: make(map[cid.Cid]string)}
	s.store = store
	v := s.vault(t, nil)
	right, lost, renamed, other := detached(t, v, pattern(1)), detached(t, v, pattern(2)), detached(t, v, pattern(3)), detached(t, v, pattern(4))
	want := maps.Clone(store.names)
	delete(store.names, lost.CID)
	store.names[renamed.CID] = "detach/v1 2026-10.aaaaaaaa"
	store.names[other.CID] = "mine"
	faults := []string{"unpinned " + lost.CID.String(), "misnamed " + renamed.CID.String(), "unpinned " + other.CID.String()}
	_, all, _ := checkup(t, v, false)
	wantFound(t, all, faults...)
	_, all, result := checkup(t, v, true)
	wantFound(t, all, faults...)
	if result.Left() != 0 || !maps.Equal(store.names, want) {
		t.Errorf("%d are left, names are %v, want %v (%s is right)", result.Left(), store.names, want, right.CID)
	}
	_, all, _ = checkup(t, v, false)
	wantFound(t, all)
}

// deletable is one file of TestFsckAfterRandomDeletions.
type deletable struct {
	link    link.Link
	content []byte
	epoch   crypto.Epoch
}

// Any files of the data directory may be lost. After a repair, every link works whose object and
// key file are left; what is lost is named, if the ledger or the store still knows of it.
func TestFsckAfterRandomDeletions(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { testRandomDeletions(t, rand.New(rand.NewPCG(seed, 13))) })
	}
}

func testRandomDeletions(t *testing.T, rnd *rand.Rand) {
	s, v := newVault(t)
	onlyLink := s.vault(t, func(c *vault.Config) { c.Mode = vault.LinkOnly })
	var files []deletable
	for i := range 24 {
		d := deletable{content: pattern(100 + i)}
		b := []*process{v, v, onlyLink}[i%3].Begin(time.Duration(i%4) * 24 * time.Hour)
		d.link = detach(t, b, d.content)
		must.Succeed(t, b.Commit(t.Context()))
		if i%5 == 0 {
			killed(t, s, b)
		} else {
			must.Succeed(t, b.Close())
		}
		d.epoch = epochOf(t, v, d.link.CID)
		files = append(files, d)
	}
	listed := make(map[cid.Cid]bool)
	deleted := make(map[string]bool)
	must.Succeed(t, filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && rnd.IntN(4) == 0 {
			deleted[path] = true
			return os.Remove(path)
		}
		return err
	}))

	v = s.reopened(t)
	must.Succeed(t, v.ledger.All(func(e ledger.Entry) error { listed[e.CID] = true; return nil }))
	_, all, _ := checkup(t, v, true)
	v = s.reopened(t)
	for _, d := range files {
		noObject := deleted[s.car(d.link.CID)]
		noKey := deleted[filepath.Join(s.dir, "keys", string(d.epoch)+".key")]
		got, err := content(t, v, d.link)
		switch works := err == nil && string(got) == string(d.content); {
		case !noObject && !noKey && !works:
			t.Errorf("%s has its object and its key: %v", d.link.CID, err)
		case (noObject || noKey) && err == nil:
			t.Errorf("%s opens without its object or its key", d.link.CID)
		case noObject && listed[d.link.CID] && !slices.Contains(all, "dead "+d.link.CID.String()):
			t.Errorf("%s is lost, and was not named", d.link.CID)
		case noKey && !noObject && !slices.Contains(all, "keyless "+string(d.epoch)):
			t.Errorf("the key of %s is lost, and was not named", d.epoch)
		}
	}
	_, all, _ = checkup(t, v, true)
	for _, f := range all {
		if !strings.HasPrefix(f, "keyless ") {
			t.Errorf("after the repair: %s", f)
		}
	}
}

// removeBlock removes the first block of an object from the disk of its node.
func removeBlock(t *testing.T, s *site, node *servers.KuboNode, c cid.Cid) {
	t.Helper()
	blocks, err := s.store.Open(t.Context(), c)
	must.Succeed(t, err)
	defer blocks.Close()
	var first cid.Cid
	must.Succeed(t, ipfs.Walk(t.Context(), blocks, c, func(b ipfs.Block) error {
		if !first.Defined() {
			first = b.CID
		}
		return nil
	}))
	key := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(first.Hash())
	files, err := filepath.Glob(filepath.Join(node.Repo, "blocks", "*", key+".data"))
	must.Succeed(t, err)
	if len(files) != 1 {
		t.Fatalf("block %s is in %d files", first, len(files))
	}
	must.Succeed(t, os.Remove(files[0]))
}

// At a real node, a pin that was renamed or lost is repaired, and lost and damaged blocks are found.
func TestFsckAtANode(t *testing.T) {
	node := servers.Kubo(t)
	s := newSite(t)
	s.store = kuboStore(t, node)
	v := s.vault(t, nil)
	right, lost, renamed, gone := detached(t, v, pattern(1)), detached(t, v, pattern(2)), detached(t, v, pattern(3)), detached(t, v, pattern(4))
	hollow := detached(t, v, pattern(2<<20))
	want := node.Pins()
	node.Run("pin", "rm", lost.CID.String())
	node.Run("pin", "add", "--name=detach/v1 2026-10.aaaaaaaa", renamed.CID.String())
	node.Run("pin", "rm", gone.CID.String())
	node.Run("block", "rm", "--force", gone.CID.String())
	removeBlock(t, s, node, hollow.CID)

	_, all, _ := checkup(t, v, true)
	wantFound(t, all, "unpinned "+lost.CID.String(), "misnamed "+renamed.CID.String(), "dead "+gone.CID.String(), "damaged "+hollow.CID.String())
	want = slices.DeleteFunc(want, func(pin string) bool { return strings.HasPrefix(pin, gone.CID.String()) })
	got := node.Pins()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("pins are %q, want %q", got, want)
	}
	wantContent(t, v, lost, pattern(2))
	wantContent(t, v, right, pattern(1))
	_, all, _ = checkup(t, v, true)
	wantFound(t, all, "damaged "+hollow.CID.String())
}
