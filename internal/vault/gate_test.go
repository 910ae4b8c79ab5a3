package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// parts are the entries of an object, as anyone can read them who has its CID and the node.
func parts(t *testing.T, s *site, c cid.Cid) map[string][]byte {
	t.Helper()
	blocks, err := s.store.Open(t.Context(), c)
	must.Succeed(t, err)
	defer blocks.Close()
	d, err := ipfs.OpenDirectory(t.Context(), blocks, c)
	must.Succeed(t, err)
	all := make(map[string][]byte)
	for name, n := range d {
		f, err := ipfs.OpenFile(t.Context(), blocks, n.CID)
		must.Succeed(t, err)
		all[name], err = io.ReadAll(f)
		must.Succeed(t, errors.Join(err, f.Close()))
	}
	return all
}

// nodes adds the entries, and returns the directory that they would be.
func nodes(t *testing.T, add ipfs.AddFunc, entries map[string][]byte) ipfs.Directory {
	t.Helper()
	d := make(ipfs.Directory)
	for name, content := range entries {
		n, err := ipfs.AddFile(add, bytes.NewReader(content))
		must.Succeed(t, err)
		d[name] = n
	}
	return d
}

// wantNotOurs wants an object that is in the store to be answered like one that is not, whether the
// gateway has seen it before or not, and in the ledger or not.
func wantNotOurs(t *testing.T, what string, s *site, c cid.Cid) {
	t.Helper()
	v := s.vault(t, nil)
	for range 2 {
		_, err := v.Object(t.Context(), c)
		wantErr(t, what, err, ErrNotFound)
		if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrExpired) || errors.Is(err, ErrKeyMissing) {
			t.Errorf("%s: the error tells more: %v", what, err)
		}
	}
	if e, err := v.Identify(t.Context(), c); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt) {
		t.Errorf("%s: identified as %+v, %v", what, e, err)
	}
}

// A root block made anew around the entries of an object is not the object. So a person who has the
// link of a revoked file cannot give the file another CID.
func TestObjectsHaveOneRoot(t *testing.T) {
	faults.Covers(t, 79, 90)
	s, v := newVault(t)
	l := detached(t, v, []byte("report"))
	entries := parts(t, s, l.CID)
	resize := func(name string, by uint64) func(ipfs.AddFunc, ipfs.Directory) {
		return func(_ ipfs.AddFunc, d ipfs.Directory) {
			n := d[name]
			n.Tsize += by
			d[name] = n
		}
	}
	addEntry := func(name, content string) func(ipfs.AddFunc, ipfs.Directory) {
		return func(add ipfs.AddFunc, d ipfs.Directory) {
			n, err := ipfs.AddLeaf(add, []byte(content))
			must.Succeed(t, err)
			d[name] = n
		}
	}
	for what, change := range map[string]func(ipfs.AddFunc, ipfs.Directory){
		"Tsize of data":       resize(object.Data, 1),
		"Tsize of meta.jwe":   resize(object.Meta, 1),
		"Tsize of origin":     resize(object.Origin, 1),
		"an encoded form":     addEntry(object.Encoded, "=41"),
		"an escrow":           addEntry(object.Escrow, "age-encryption.org/v1"),
		"an entry of no kind": addEntry("name", "report.pdf"),
		"no origin":           func(_ ipfs.AddFunc, d ipfs.Directory) { delete(d, object.Origin) },
		"data as origin":      func(_ ipfs.AddFunc, d ipfs.Directory) { d[object.Origin] = d[object.Data] },
		"encoded for data": func(_ ipfs.AddFunc, d ipfs.Directory) {
			d[object.Encoded], d[object.Data] = d[object.Data], d[object.Meta]
		},
	} {
		c := putDirectory(t, s, func(add ipfs.AddFunc) (cid.Cid, error) {
			d := nodes(t, add, entries)
			change(add, d)
			n, err := d.Add(add)
			return n.CID, err
		})
		if c == l.CID {
			t.Fatalf("%s: the object is the same", what)
		}
		wantNotOurs(t, what, s, c)
	}
	for what, change := range map[string]func(block []byte, links [][]byte) []byte{
		"another order":    func(_ []byte, links [][]byte) []byte { return joined(links[1], links[0], links[2], links[3]) },
		"an unknown field": func(block []byte, _ [][]byte) []byte { return joined(block, []byte{0x18, 1}) },
		"a long number":    func(block []byte, _ [][]byte) []byte { return joined(block[:len(block)-1], []byte{0x81, 0}) },
	} {
		c := putDirectory(t, s, func(add ipfs.AddFunc) (cid.Cid, error) {
			return addRoot(t, add, nodes(t, add, entries), change)
		})
		wantNotOurs(t, what, s, c)
	}
	wantContent(t, v, l, []byte("report"))
}

func joined(parts ...[]byte) []byte { return slices.Concat(parts...) }

// addRoot adds a directory's block after a change to its bytes. links are the block's fields: a
// link for each entry, and the data.
func addRoot(t *testing.T, add ipfs.AddFunc, d ipfs.Directory, change func(block []byte, links [][]byte) []byte) (cid.Cid, error) {
	t.Helper()
	var block []byte
	_, err := d.Add(func(b ipfs.Block) error {
		block = bytes.Clone(b.Data)
		return nil
	})
	must.Succeed(t, err)
	var links [][]byte
	for rest := block; len(rest) > 0; {
		n, k := binary.Uvarint(rest[1:])
		end := 1 + k + int(n)
		links, rest = append(links, rest[:end]), rest[end:]
	}
	changed := change(block, links)
	c, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}.Sum(changed)
	must.Succeed(t, err)
	return c, add(ipfs.Block{CID: c, Data: changed})
}

// withKID returns a meta.jwe with another kid in its header.
func withKID(t *testing.T, jwe []byte, kid crypto.KID) []byte {
	t.Helper()
	_, rest, _ := strings.Cut(string(jwe), ".")
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"dir","enc":"A256GCM","kid":"` + kid.String() + `"}`))
	changed := []byte(header + "." + rest)
	got, err := crypto.MetaKeyID(changed)
	if err != nil || got != kid {
		t.Fatalf("the forged meta.jwe has kid %v, %v", got, err)
	}
	return changed
}

// Nobody makes an object of ours by changing one, also not with the link and the gateway's share,
// which give the key.
func TestForgedObjectsAreNotOurs(t *testing.T) {
	faults.Covers(t, 79)
	for _, mode := range []Mode{Split, LinkOnly} {
		s := newSite(t)
		v := s.vault(t, func(c *Config) { c.Mode = mode })
		l, other := detached(t, v, []byte("report")), detached(t, v, []byte("other"))
		later := kept(t, v, 30*day, []byte("another epoch"))
		o := opened(t, v, l.CID)
		key := crypto.Join(l.Fragment, shareOf(t, o))
		kid := o.sealed.KID
		wrongMode, wrongEpoch, lost := kid, kid, kid
		wrongMode.Link = !kid.Link
		wrongEpoch.Epoch = opened(t, v, later.CID).sealed.KID.Epoch
		lost.Epoch = "2026-11.aaaaaaaa"
		sealed := func(kid crypto.KID) []byte {
			jwe, err := key.SealMeta(crypto.Meta{Name: "x", Size: 6, Created: s.now, Expires: kid.Epoch.End()}, kid)
			must.Succeed(t, err)
			return jwe
		}
		stranger, err := crypto.NewServiceSecret()
		must.Succeed(t, err)
		strange, err := stranger.SealOrigin(o.Core(), l.Fragment, key)
		must.Succeed(t, err)
		flip := func(b []byte, at int) []byte {
			b = bytes.Clone(b)
			b[at] ^= 1
			return b
		}
		ours, theirs := parts(t, s, l.CID), parts(t, s, other.CID)
		jwe, origin := ours[object.Meta], ours[object.Origin]
		for what, change := range map[string]map[string][]byte{
			"another mode":                         {object.Meta: withKID(t, jwe, wrongMode)},
			"another epoch of ours":                {object.Meta: withKID(t, jwe, wrongEpoch)},
			"an epoch that is not here":            {object.Meta: withKID(t, jwe, lost)},
			"metadata sealed again":                {object.Meta: sealed(kid)},
			"metadata sealed for another mode":     {object.Meta: sealed(wrongMode)},
			"metadata sealed for another epoch":    {object.Meta: sealed(wrongEpoch)},
			"metadata sealed for an unknown epoch": {object.Meta: sealed(lost)},
			"the metadata of another object":       {object.Meta: theirs[object.Meta]},
			"the data of another object":           {object.Data: theirs[object.Data]},
			"the origin of another object":         {object.Origin: theirs[object.Origin]},
			"the origin of another key":            {object.Origin: strange[:]},
			"another ask":                          {object.Origin: flip(origin, 0)},
			"another commit":                       {object.Origin: flip(origin, 32)},
			"another mac":                          {object.Origin: flip(origin, 64)},
			"data under the same key":              {object.Data: []byte("REPORT"), object.Meta: sealed(kid)},
		} {
			entries := map[string][]byte{}
			for name, content := range ours {
				entries[name] = content
			}
			for name, content := range change {
				entries[name] = content
			}
			c := put(t, s, entries)
			if c == l.CID {
				t.Fatalf("%s: the object is the same", what)
			}
			wantNotOurs(t, what, s, c)
			index(t, v, kid.Epoch, c) // a line in the ledger makes nothing ours
			wantErr(t, what+", in the ledger", errOf(v.Object(t.Context(), c)), ErrNotFound)
		}
		if got := put(t, s, ours); got != l.CID {
			t.Errorf("the parts make %s, want %s", got, l.CID)
		}
		wantContent(t, v, l, []byte("report"))
	}
}

// An ask or a commit that is not that of the key is refused before the key is used, even under our
// own origin.
func TestAskAndCommitAreCheckedUnderOurOrigin(t *testing.T) {
	faults.Covers(t, 79)
	s, v := newVault(t)
	l := detached(t, v, []byte("x"))
	o := opened(t, v, l.CID)
	key := crypto.Join(l.Fragment, shareOf(t, o))
	another, err := crypto.NewKey()
	must.Succeed(t, err)
	for what, seal := range map[string]func() (crypto.Origin, error){
		"ask": func() (crypto.Origin, error) {
			return s.keys.SealOrigin(s.epoch(t), o.Core(), another.Split(shareOf(t, o)), key)
		},
		"commit": func() (crypto.Origin, error) { return s.keys.SealOrigin(s.epoch(t), o.Core(), l.Fragment, another) },
	} {
		origin, err := seal()
		must.Succeed(t, err)
		entries := parts(t, s, l.CID)
		entries[object.Origin] = origin[:]
		wantErr(t, "another "+what, errOf(v.Open(t.Context(), put(t, s, entries), l.Fragment)), ErrWrongKey)
	}
}

// A gateway with the key files and the store serves everything, without any list.
func TestGatewayNeedsNoLedger(t *testing.T) {
	s := newSite(t)
	links := make(map[string]link.Link)
	content := map[string][]byte{"small": []byte("x"), "large": pattern(2<<20 + 5), "empty": {}}
	for name, c := range content {
		for mode, suffix := range map[Mode]string{Split: "", LinkOnly: " link"} {
			v := s.vault(t, func(c *Config) { c.Mode = mode })
			links[name+suffix] = detached(t, v, c)
			links[name+" of 30 days"+suffix] = kept(t, v, 30*day, c)
		}
	}
	must.Succeed(t, os.RemoveAll(filepath.Join(s.dir, "ledger")))
	elsewhere := newSite(t)
	elsewhere.store, elsewhere.now = s.store, s.now
	copyOver(t, filepath.Join(s.dir, "keys"), filepath.Join(elsewhere.dir, "keys"))
	for where, v := range map[string]*Vault{"here": s.vault(t, nil), "elsewhere": elsewhere.vault(t, nil)} {
		for name, l := range links {
			what := where + ": " + name
			want := content[strings.Fields(name)[0]]
			wantErr(t, what, v.Admit(l.CID), nil)
			o := opened(t, v, l.CID)
			if o.Size != int64(len(want)) || !o.Created.IsZero() || o.Expires.IsZero() == strings.Contains(name, "30 days") {
				t.Errorf("%s: %d bytes, created %v, expires %v", what, o.Size, o.Created, o.Expires)
			}
			wantContent(t, v, l, want)
			ticket, err := v.SealTicket(l.CID, l.Fragment)
			must.Succeed(t, err)
			fresh := s.vault(t, nil) // has never seen the object
			if got, err := fresh.OpenTicket(t.Context(), l.CID, ticket); err != nil || got != l.Fragment {
				t.Errorf("%s: the ticket does not open: %v", what, err)
			}
			wantErr(t, what+", a bad ticket", errOf(fresh.OpenTicket(t.Context(), l.CID, "x")), ErrTicket)
		}
	}
	// A running process goes on, too.
	v := s.vault(t, nil)
	must.Succeed(t, os.MkdirAll(filepath.Join(s.dir, "ledger"), 0o700))
	l := detached(t, v, []byte("new"))
	must.Succeed(t, os.RemoveAll(filepath.Join(s.dir, "ledger")))
	wantContent(t, v, l, []byte("new"))
}

// A file of the ledger that cannot be read closes no link, and hides no other file of the ledger.
func TestUnreadableLedgerClosesNothing(t *testing.T) {
	s, writer := newVault(t)
	forever, ending := detached(t, writer, []byte("forever")), kept(t, writer, 30*day, []byte("ending"))
	path := filepath.Join(s.dir, "ledger", string(opened(t, writer, ending.CID).KID().Epoch)+".jsonl")
	must.Succeed(t, os.Rename(path, path+".away"))
	must.Succeed(t, os.Mkdir(path, 0o700)) // root could read a file without permissions
	var log bytes.Buffer
	v := s.vault(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	for range 2 {
		wantContent(t, v, ending, []byte("ending")) // first: a ticket is for an object that was opened
		wantAll(t, v, ending, nil)
		wantContent(t, v, forever, []byte("forever"))
		wantErr(t, "an unknown CID", errOf(v.Object(t.Context(), unknownCID(t, 1))), ErrNotFound)
	}
	if got := opened(t, v, forever.CID).Created; got.IsZero() {
		t.Error("the other file of the ledger was not read")
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("logged %d errors, want 1: %s", n, &log)
	}
	must.Succeed(t, os.Remove(path))
	must.Succeed(t, os.Rename(path+".away", path))
	if rec, known, err := v.ledger.Lookup(ending.CID); err != nil || !known || rec.Created().IsZero() {
		t.Errorf("readable again: %v, %v", known, err)
	}
}

// Two proxies have keyrings of their own. After cp -r in either order, one gateway serves both, and
// nothing that either has destroyed.
func TestMergedKeyringsServeBoth(t *testing.T) {
	faults.Covers(t, 80)
	for name, order := range map[string][]int{"one after two": {1, 0}, "two after one": {0, 1}} {
		gateway := newSite(t)
		var links, destroyed []link.Link
		var sites []*site
		for range 2 {
			s := newSite(t)
			s.store, s.now = gateway.store, gateway.now
			v := s.vault(t, nil)
			links = append(links, detached(t, v, []byte("kept")), kept(t, v, 30*day, []byte("kept")))
			gone := detached(t, v, []byte("destroyed"))
			must.Succeed(t, s.keys.Destroy(opened(t, v, gone.CID).sealed.KID.Epoch, opened(t, v, gone.CID).Core()))
			destroyed, sites = append(destroyed, gone), append(sites, s)
		}
		for _, i := range order {
			copyOver(t, filepath.Join(sites[i].dir, "keys"), filepath.Join(gateway.dir, "keys"))
		}
		v := gateway.restarted(t)
		for _, l := range links {
			wantErr(t, name, errOf(content(t, v, l)), nil)
		}
		for _, l := range destroyed {
			wantErr(t, name+", destroyed", errOf(v.Object(t.Context(), l.CID)), ErrExpired)
		}
		fresh := detached(t, v, []byte("of the gateway")) // under one of the two epochs of the month
		wantContent(t, v, fresh, []byte("of the gateway"))
	}
}

// Only one file's key is destroyed: it is gone for every process, with and without a ledger.
func TestDestroyedFileIsGoneAlone(t *testing.T) {
	faults.Covers(t, 90)
	for _, mode := range []Mode{Split, LinkOnly} {
		s := newSite(t)
		v := s.vault(t, func(c *Config) { c.Mode = mode })
		l, neighbor := detached(t, v, []byte("x")), detached(t, v, []byte("y"))
		must.Succeed(t, s.keys.Destroy(s.epoch(t), opened(t, v, l.CID).Core()))
		wantErr(t, "destroyed", errOf(v.Object(t.Context(), l.CID)), ErrExpired)
		wantContent(t, v, neighbor, []byte("y"))
		must.Succeed(t, os.RemoveAll(filepath.Join(s.dir, "ledger")))
		bare := s.vault(t, nil)
		wantErr(t, "destroyed, without a ledger", errOf(bare.Object(t.Context(), l.CID)), ErrExpired)
		wantContent(t, bare, neighbor, []byte("y"))
	}
}

// Without a ledger nothing proves an object of an epoch that was destroyed as a whole: a stranger
// can write the epoch's name.
func TestEndedEpochIsNotFoundWithoutALedger(t *testing.T) {
	s, v := newVault(t)
	l := kept(t, v, 2*day, []byte("x"))
	must.Succeed(t, s.keys.End(s.epoch(t)))
	wantErr(t, "in the ledger", errOf(v.Object(t.Context(), l.CID)), ErrExpired)
	must.Succeed(t, os.RemoveAll(filepath.Join(s.dir, "ledger")))
	wantNotOurs(t, "not in the ledger", s, l.CID)
}

// The end of an object is that of its epoch or of its extension, for a gateway without a ledger
// too.
func TestExtensionIsProof(t *testing.T) {
	s, v := newVault(t)
	l, neighbor := kept(t, v, 2*day, []byte("x")), kept(t, v, 2*day, []byte("y"))
	old, o := s.epoch(t), opened(t, v, l.CID)
	next, err := s.keys.Writer(crypto.PeriodOf(s.now, 30*day))
	must.Succeed(t, err)
	must.Succeed(t, s.keys.Extend(l.CID, o.Core(), old, next, false, shareOf(t, o)))
	whole, err := os.ReadFile(s.keyFile(old))
	must.Succeed(t, err)
	must.Succeed(t, os.WriteFile(s.keyFile(old), whole[1:], 0o600))
	wantContent(t, s.vault(t, nil), l, []byte("x")) // although the file of its own epoch is damaged
	must.Succeed(t, os.WriteFile(s.keyFile(old), whole, 0o600))
	for _, ledger := range []bool{true, false} {
		if !ledger {
			must.Succeed(t, os.RemoveAll(filepath.Join(s.dir, "ledger")))
		}
		for _, ended := range []bool{false, true} {
			if ended && ledger {
				s.now = old.End()
			} else if ended {
				must.Succeed(t, s.keys.End(old))
			}
			v := s.vault(t, nil)
			wantContent(t, v, l, []byte("x"))
			if got := opened(t, v, l.CID).Expires; !got.Equal(next.End()) {
				t.Errorf("ledger %v, ended %v: the object expires at %v, want %v", ledger, ended, got, next.End())
			}
			ticket, err := v.SealTicket(l.CID, l.Fragment)
			must.Succeed(t, err)
			wantErr(t, "the ticket", errOf(v.OpenTicket(t.Context(), l.CID, ticket)), nil)
			if ended && ledger {
				wantAll(t, v, neighbor, ErrExpired)
			}
		}
	}
	s.now = next.End()
	wantErr(t, "after the new end", errOf(s.vault(t, nil).Object(t.Context(), l.CID)), ErrExpired)
}

// The escrow's recipient, and nobody else, opens the key that is stored in the object.
func TestEscrow(t *testing.T) {
	operator, err := age.GenerateX25519Identity()
	must.Succeed(t, err)
	s := newSite(t)
	v := s.vault(t, func(c *Config) {
		c.Escrow = func(k crypto.Key) ([]byte, error) { return k.SealEscrow(operator.Recipient()) }
	})
	l := detached(t, v, []byte("report"))
	wantContent(t, v, l, []byte("report"))
	o := opened(t, s.vault(t, nil), l.CID)
	key, err := crypto.OpenEscrow(parts(t, s, l.CID)[object.Escrow], operator)
	must.Succeed(t, err)
	if key != crypto.Join(l.Fragment, shareOf(t, o)) {
		t.Error("the escrow has another key")
	}
	b := s.vault(t, func(c *Config) {
		c.Escrow = func(crypto.Key) ([]byte, error) { return nil, errors.New("no recipient") }
	}).Begin(0)
	defer b.Close()
	if _, err := b.Detach(t.Context(), "n", "t", strings.NewReader("x")); err == nil {
		t.Error("stored without the escrow")
	}
}

// countedStore counts how often objects are opened.
type countedStore struct {
	ipfs.Store
	opened int
}

func (s *countedStore) Open(ctx context.Context, c cid.Cid) (ipfs.Blocks, error) {
	s.opened++
	return s.Store.Open(ctx, c)
}

// A foreign object is looked at once a minute. A missing one is looked for each time: it may be
// stored the moment after.
func TestOnlyForeignIsRemembered(t *testing.T) {
	faults.Covers(t, 92)
	s, v := newVault(t)
	entries := parts(t, s, detached(t, v, []byte("x")).CID)
	entries[object.Data] = []byte("y")
	foreign := put(t, s, entries)
	elsewhere := newSite(t)
	elsewhere.store = s.store
	strange := detached(t, elsewhere.vault(t, nil), []byte("x")).CID
	store := &countedStore{Store: s.store}
	s.store = store
	synctest.Test(t, func(t *testing.T) {
		v := s.vault(t, nil)
		for _, want := range []int{1, 2} {
			for range 5 {
				wantErr(t, "foreign", errOf(v.Object(t.Context(), foreign)), ErrNotFound)
				wantErr(t, "foreign, admitted", v.Admit(foreign), ErrNotFound)
			}
			if store.opened != want {
				t.Errorf("a foreign object was opened %d times, want %d", store.opened, want)
			}
			time.Sleep(foreignTime)
		}
		for range 2 { // its key file may be copied here the moment after
			wantErr(t, "an unknown epoch", errOf(v.Object(t.Context(), strange)), ErrNotFound)
		}
		if store.opened != 4 {
			t.Errorf("the objects were opened %d times, want 4", store.opened)
		}
		proxy := s.vault(t, nil)
		b := proxy.Begin(0)
		l := detach(t, b, []byte("soon"))
		path := s.car(l.CID)
		must.Succeed(t, os.Rename(path, path+".away"))
		wantErr(t, "missing", errOf(v.Object(t.Context(), l.CID)), ErrNotFound)
		must.Succeed(t, os.Rename(path+".away", path))
		wantContent(t, v, l, []byte("soon"))
		must.Succeed(t, b.Close())
	})
}

// While the lane is full, a foreign object that was looked at before is answered as a missing one:
// otherwise a stranger could find out what the node has of others.
func TestFullLaneDoesNotTellForeignFromMissing(t *testing.T) {
	faults.Covers(t, 92)
	s, v := newVault(t)
	entries := parts(t, s, detached(t, v, []byte("x")).CID)
	entries[object.Data] = []byte("y")
	foreign, missing := put(t, s, entries), unknownCID(t, 0)
	synctest.Test(t, func(t *testing.T) {
		v := s.vault(t, nil)
		wantErr(t, "foreign", errOf(v.Object(t.Context(), foreign)), ErrNotFound)
		for _, ok := v.lane.reserve(time.Now()); ok; _, ok = v.lane.reserve(time.Now()) {
		}
		wantErr(t, "missing", errOf(v.Object(t.Context(), missing)), ErrBusy)
		wantErr(t, "foreign again", errOf(v.Object(t.Context(), foreign)), ErrBusy)
	})
}

// CIDs that are not in the ledger are looked up 50 times a second, 8 at once, and no more.
func TestUnknownCIDsShareALane(t *testing.T) {
	faults.Covers(t, 92)
	synctest.Test(t, func(t *testing.T) {
		l := newLane()
		begin := time.Now()
		var leave []func()
		enter := func() error {
			out, err := l.enter(t.Context())
			if err == nil {
				out()
			}
			return err
		}
		for range 50 {
			must.Succeed(t, enter())
		}
		if waited := time.Since(begin); waited > lanePace {
			t.Errorf("the first 50 waited %v", waited)
		}
		done := make(chan error, 200)
		for range 200 {
			go func() { done <- enter() }()
		}
		busy := 0
		for range 200 {
			if err := <-done; errors.Is(err, ErrBusy) && errors.Is(err, ErrUnavailable) {
				busy++
			} else if err != nil {
				t.Error(err)
			}
		}
		if passed, waited := 200-busy, time.Since(begin); passed < 45 || passed > 55 || waited > laneWait+lanePace {
			t.Errorf("%d of 200 passed within %v, want 50 in a second", passed, waited)
		}
		time.Sleep(10 * time.Second)
		for range laneSlots {
			out, err := l.enter(t.Context())
			must.Succeed(t, err)
			leave = append(leave, out)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantErr(t, "a ninth at once", errOf(l.enter(ctx)), context.DeadlineExceeded)
		leave[0]()
		must.Succeed(t, enter())
	})
}

// unknownCID returns the CID of an object that nobody has.
func unknownCID(t *testing.T, n int) cid.Cid {
	t.Helper()
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	mh, err := multihash.Encode(sum[:], multihash.SHA2_256)
	must.Succeed(t, err)
	return cid.NewCidV1(cid.DagProtobuf, mh)
}

// An object in the ledger never waits in the lane, and one that was verified waits once.
func TestKnownObjectsNeedNoLane(t *testing.T) {
	s, v := newVault(t)
	l := detached(t, v, []byte("x"))
	for range 500 {
		opened(t, v, l.CID)
	}
	must.Succeed(t, os.RemoveAll(filepath.Join(s.dir, "ledger")))
	bare := s.vault(t, nil)
	for range 500 {
		opened(t, bare, l.CID)
	}
	refused := 0
	done := make(chan error)
	for n := range 300 {
		go func() { done <- errOf(v.Object(t.Context(), unknownCID(t, n))) }()
	}
	for range 300 {
		if errors.Is(<-done, ErrBusy) {
			refused++
		}
	}
	if refused == 0 {
		t.Error("300 unknown CIDs at once were all looked up")
	}
	opened(t, v, l.CID)
	opened(t, bare, l.CID)
}

// A running download breaks off within a second after the file was taken back, in whatever form it
// is read, and stays broken off.
func TestRunningDownloadsBreakOff(t *testing.T) {
	faults.Covers(t, 90)
	for what, take := range map[string]struct {
		back func(*testing.T, *site, *Object) error
		want error
	}{
		"revoked": {func(_ *testing.T, s *site, o *Object) error {
			return os.WriteFile(filepath.Join(s.dir, "denied"), []byte(o.CID("").String()+"\n"), 0o600)
		}, ErrRevoked},
		"destroyed": {func(_ *testing.T, s *site, o *Object) error { return s.keys.Destroy(o.grant.epoch, o.Core()) }, ErrExpired},
		"ended":     {func(_ *testing.T, s *site, o *Object) error { return s.keys.End(o.grant.epoch) }, ErrExpired},
		"deleted":   {func(_ *testing.T, s *site, o *Object) error { return os.Remove(s.keyFile(o.grant.epoch)) }, ErrExpired},
	} {
		for _, mode := range []Mode{Split, LinkOnly} {
			s := newSite(t)
			synctest.Test(t, func(t *testing.T) {
				v := s.vault(t, func(c *Config) { c.Mode = mode })
				l := detached(t, v, pattern(2<<20))
				o := opened(t, v, l.CID)
				file, err := v.Open(t.Context(), l.CID, l.Fragment)
				must.Succeed(t, err)
				defer file.Close()
				sealed, err := o.Entry(t.Context(), object.Data)
				must.Succeed(t, err)
				defer sealed.Close()
				readers := map[string]func() error{
					"plaintext":  func() error { return errOf(io.ReadFull(file, make([]byte, 10))) },
					"ciphertext": func() error { return errOf(io.ReadFull(sealed, make([]byte, 10))) },
					"block":      func() error { return errOf(o.Blocks().Get(t.Context(), l.CID, nil)) },
					"part":       func() error { return o.Blocks().GetPart(t.Context(), l.CID, 0, make([]byte, 10)) },
				}
				for range 3 {
					for name, read := range readers {
						wantErr(t, what+", before: "+name, read(), nil)
					}
					time.Sleep(watchEvery)
				}
				must.Succeed(t, take.back(t, s, o))
				time.Sleep(watchEvery)
				for range 2 {
					for name, read := range readers {
						wantErr(t, what+": "+name, read(), take.want)
					}
				}
			})
		}
	}
}

// Commit proves that the keys are still there for each object.
func TestCommitProvesTheKeys(t *testing.T) {
	s, v := newVault(t)
	b := v.Begin(0)
	one := detach(t, b, []byte("one"))
	detach(t, b, []byte("two"))
	must.Succeed(t, s.keys.Destroy(b.epoch, b.objects[b.find(one.CID)].entry.Core))
	wantErr(t, "Commit", b.Commit(t.Context()), keyring.ErrDestroyed)
	must.Succeed(t, errors.Join(b.Discard(t.Context()), b.Close()))
	s.wantNothing(t, "discarded")
}

// After a refused mail nothing of it is in the ledger.
func TestDiscardedObjectsLeaveTheLedger(t *testing.T) {
	s, v := newVault(t)
	b := v.Begin(0)
	l := detach(t, b, []byte("x"))
	must.Succeed(t, b.Commit(t.Context()))
	must.Succeed(t, errors.Join(b.Discard(t.Context()), b.Close()))
	for _, v := range []*Vault{v, s.vault(t, nil)} {
		if _, ok, err := v.ledger.Lookup(l.CID); ok || err != nil {
			t.Errorf("in the ledger: %v, %v", ok, err)
		}
		wantErr(t, "Object", errOf(v.Object(t.Context(), l.CID)), ErrNotFound)
	}
}
