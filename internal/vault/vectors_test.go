package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"filippo.io/age"
	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/vectors"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// outcomes maps the results in the vectors to errors. A gateway tells neither a malformed nor a
// damaged object from a missing one, unless the ledger has it.
var outcomes = map[string][]error{
	"ok":          {nil},
	"incomplete":  {link.ErrIncomplete},
	"invalid":     {link.ErrInvalid},
	"wrong key":   {ErrWrongKey},
	"expired":     {ErrExpired},
	"destroyed":   {ErrExpired},
	"revoked":     {ErrRevoked},
	"key missing": {ErrKeyMissing},
	"foreign":     {ErrNotFound},
	"not found":   {ErrNotFound},
	"malformed":   {ErrCorrupt, ErrNotFound},
	"damaged":     {ErrCorrupt, ErrNotFound},
}

// objectVector is an object and an installation, to be opened by this package.
type objectVector struct{ vectors.Object }

func (v objectVector) wants(err error) bool {
	return slices.ContainsFunc(outcomes[v.Expect], func(want error) bool { return errors.Is(err, want) })
}

// blockStore has a vector's blocks, true or false.
type blockStore struct {
	ipfs.Store
	blocks map[string][]byte
}

func (s blockStore) Open(context.Context, cid.Cid) (ipfs.Blocks, error) { return s, nil }
func (s blockStore) Memory() *memory.Budget                             { return nil }
func (s blockStore) Close() error                                       { return nil }
func (s blockStore) Get(_ context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	if data, ok := s.blocks[c.String()]; ok {
		return append(buf[:0], data...), nil
	}
	return nil, ipfs.ErrNotFound
}

func (s blockStore) GetPart(context.Context, cid.Cid, int64, []byte) error {
	return errors.ErrUnsupported // only a reader with a budget needs it
}

func (v objectVector) store() blockStore {
	store := blockStore{blocks: make(map[string][]byte)}
	for _, b := range v.Blocks {
		store.blocks[b.CID] = b.Data
	}
	return store
}

// site sets up the installation of a vector: its keyring, deny list, index and store.
func (v objectVector) site(t *testing.T) *Vault {
	t.Helper()
	s := newSite(t)
	s.now = v.Now
	for name, content := range v.Keyring {
		path := filepath.Join(s.dir, "keys", name)
		must.Succeed(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must.Succeed(t, os.WriteFile(path, content, 0o600))
	}
	if v.Denied != "" {
		must.Succeed(t, os.WriteFile(filepath.Join(s.dir, "denied"), []byte(v.Denied), 0o600))
	}
	var err error
	s.keys, err = keyring.Open(filepath.Join(s.dir, "keys"))
	must.Succeed(t, err)
	s.store = v.store()
	vault := s.vault(t, nil)
	if v.Indexed {
		l, err := link.Parse(v.Link)
		must.Succeed(t, err)
		sealed, err := object.Read(t.Context(), v.store(), l.CID)
		must.Succeed(t, err)
		must.Succeed(t, vault.ledger.Append(ledger.Entry{CID: l.CID, Core: sealed.Core, KID: sealed.KID, Size: 1, Created: v.Now}))
	}
	return vault
}

func (v objectVector) open(t *testing.T, vault *Vault) (got []byte, meta crypto.Meta, err error) {
	t.Helper()
	l, err := link.Parse(v.Link)
	if err != nil {
		return nil, meta, err
	}
	f, err := vault.Open(t.Context(), l.CID, l.Fragment)
	if err != nil {
		return nil, meta, err
	}
	defer f.Close()
	got, err = io.ReadAll(f)
	return got, f.Meta, err
}

// arrive opens the object like a client, which has the share in place of the keyring, and gets three
// CARs from a gateway.
func (v objectVector) arrive(t *testing.T, from int64) (got []byte, meta crypto.Meta, err error) {
	t.Helper()
	l, err := link.Parse(v.Link)
	if err != nil {
		return nil, meta, err
	}
	sealed, err := object.ReadCAR(t.Context(), v.car(l.CID, object.Meta), v.car(l.CID, object.Origin), l.CID)
	if err != nil {
		return nil, meta, err
	}
	share, err := crypto.ParseShare(v.Share)
	must.Succeed(t, err)
	end := sealed.KID.Epoch.End()
	if v.Expires != nil {
		end = *v.Expires
	}
	opened, err := sealed.Unlock(l.Fragment, share, end, v.Now)
	if err != nil {
		return nil, meta, err
	}
	f, err := opened.OpenCAR(t.Context(), io.NopCloser(v.car(l.CID, object.Data)), from)
	if err != nil {
		return nil, meta, err
	}
	defer f.Close()
	got, err = io.ReadAll(f)
	return got, f.Meta, err
}

// car returns a CAR of the directory and of an entry of one leaf, as far as the vector has them.
func (v objectVector) car(root cid.Cid, name string) io.Reader {
	store := v.store()
	b := bytes.NewBufferString("\x3a\xa2\x65roots\x81\xd8\x2a\x58\x25\x00" + root.KeyString() + "\x67version\x01")
	entries, _ := ipfs.OpenDirectory(context.Background(), store, root) // a bad directory is refused later
	for _, c := range []cid.Cid{root, entries[name].CID} {
		if data, ok := store.blocks[c.String()]; c.Defined() && ok {
			b.Write(binary.AppendUvarint(nil, uint64(c.ByteLen()+len(data))))
			b.WriteString(c.KeyString())
			b.Write(data)
		}
	}
	return b
}

func TestObjectVectors(t *testing.T) {
	faults.Covers(t, 105)
	files, err := filepath.Glob(filepath.Join(vectors.Dir, "object-*.json"))
	must.Succeed(t, err)
	if len(files) < 50 {
		t.Fatalf("%d object vectors in %s, want more", len(files), vectors.Dir)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			var v objectVector
			vectors.Read(t, filepath.Base(file), &v.Object)
			if outcomes[v.Expect] == nil {
				t.Fatalf("unknown outcome %q", v.Expect)
			}
			v.checkGateway(t)
			if v.Expect == "ok" || v.Client {
				v.checkClient(t)
			}
		})
	}
}

func (v objectVector) checkGateway(t *testing.T) {
	t.Helper()
	vault := v.site(t)
	got, meta, err := v.open(t, vault)
	if !v.wants(err) {
		t.Fatalf("%s: got %v, want %s", v.Comment, err, v.Expect)
	}
	if v.Expect == "ok" {
		v.checkOpened(t, vault, got, meta)
	} else if len(got) != 0 {
		t.Errorf("%d bytes were released", len(got))
	}
}

func (v objectVector) checkClient(t *testing.T) {
	t.Helper()
	for _, from := range []int64{0, 1, int64(len(v.Attachment))} {
		got, _, err := v.arrive(t, from)
		cut := v.Expect == "not found" && errors.Is(err, io.ErrUnexpectedEOF) // a CAR ends where it lacks a block
		if !cut && !v.wants(err) {
			t.Fatalf("%s: in a CAR: got %v, want %s", v.Comment, err, v.Expect)
		}
		if rest := v.Attachment[min(from, int64(len(v.Attachment))):]; !bytes.Equal(got, rest) {
			t.Errorf("in a CAR, from %d: got %q, want %q", from, got, rest)
		}
	}
}

func (v objectVector) checkOpened(t *testing.T, vault *Vault, got []byte, meta crypto.Meta) {
	t.Helper()
	if !bytes.Equal(got, v.Attachment) {
		t.Errorf("attachment: got %q, want %q", got, v.Attachment)
	}
	var end time.Time
	if v.Expires != nil {
		end = *v.Expires
	}
	var want crypto.Meta
	err := json.Unmarshal(v.Meta, &want)
	if want.Expires = end; err != nil || meta != want { // the present end, also if the object was extended
		t.Errorf("metadata: got %+v, want %+v, %v", meta, want, err)
	}
	l, err := link.Parse(v.Link)
	if err != nil || l.URL() != v.Link {
		t.Errorf("the link is not as URL writes it, %v", err)
	}
	o := opened(t, vault, l.CID)
	origin := o.Origin()
	if shareOf(t, o).Encode() != v.Share || o.Core().String() != v.Core || hex.EncodeToString(origin[:]) != hex.EncodeToString(v.Origin) {
		t.Errorf("share %s, core %s, origin %x, want %s, %s, %x", shareOf(t, o).Encode(), o.Core(), origin, v.Share, v.Core, v.Origin)
	}
	if !o.Expires.Equal(end) {
		t.Errorf("the end: got %v, want %v", o.Expires, end)
	}
	if proof := l.Fragment.Proof(o.Core()); proof.Encode() != v.Proof || !origin.Asked(proof) {
		t.Errorf("proof: got %s, want %s", proof.Encode(), v.Proof)
	}
	if key := keyHex(t, vault, l); key != hex.EncodeToString(v.Key) {
		t.Errorf("key: got %s, want %x", key, v.Key)
	}
	v.checkEncoded(t, vault, l)
	v.checkEscrow(t, o)
}

// A person who knows every block of an object wraps it anew, with one bit of the directory changed.
func TestRootWithAnyBitChangedIsNotServed(t *testing.T) {
	faults.Covers(t, 79)
	var v objectVector
	vectors.Read(t, "object-01-split.json", &v.Object)
	root := v.Blocks[len(v.Blocks)-1].Data
	vault := v.site(t)
	store := vault.store.(blockStore)
	for bit := range 8 * len(root) {
		changed := bytes.Clone(root)
		changed[bit/8] ^= 1 << (bit % 8)
		digest := sha256.Sum256(changed)
		c, err := cid.Cast(append([]byte("\x01\x70\x12\x20"), digest[:]...))
		must.Succeed(t, err)
		store.blocks[c.String()] = changed
		if o, err := vault.verified(t.Context(), c); err == nil {
			t.Errorf("with bit %d changed it is served", bit)
			_ = o.Close()
		}
	}
}

func (v objectVector) checkEncoded(t *testing.T, vault *Vault, l link.Link) {
	t.Helper()
	if v.ExpectEncoded == "" {
		return
	}
	r, err := vault.OpenPart(t.Context(), l.CID, l.Fragment, true)
	must.Succeed(t, err)
	defer r.Close()
	got, err := io.ReadAll(iotest.OneByteReader(r))
	if !errors.Is(err, outcomes[v.ExpectEncoded][0]) || err == nil && !bytes.Equal(got, v.Encoded) {
		t.Errorf("%s: encoded: got %q, %v, want %q, %s", v.Comment, got, err, v.Encoded, v.ExpectEncoded)
	}
}

func (v objectVector) checkEscrow(t *testing.T, o *Object) {
	t.Helper()
	if v.Identity == "" {
		return
	}
	sealed, err := o.Entry(t.Context(), object.Escrow)
	must.Succeed(t, err)
	defer sealed.Close()
	file, err := io.ReadAll(sealed)
	must.Succeed(t, err)
	identity, err := age.ParseX25519Identity(v.Identity)
	must.Succeed(t, err)
	key, err := crypto.OpenEscrow(file, identity)
	if err != nil || !o.Origin().Commits(o.Core(), key) || o.Origin().Commits(o.sealed.Root, key) {
		t.Errorf("escrow: %v, or another key", err)
	}
}

func TestLinkVectors(t *testing.T) {
	faults.Covers(t, 105)
	var all []vectors.Link
	vectors.Read(t, "links.json", &all)
	for _, v := range all {
		want, ok := outcomes[v.Expect]
		l, err := link.Parse(v.In)
		if !ok || !errors.Is(err, want[0]) {
			t.Errorf("%s: got %v, want %q", v.Comment, err, v.Expect)
		} else if err == nil && (l.Base != v.Base || l.CID.String() != v.CID || l.Fragment.Encode() != v.Fragment || l.All != v.All) {
			t.Errorf("%s: another link", v.Comment)
		}
	}
}

// fixedKey is a key of known bytes: with the zero share, the fragment is the key.
func fixedKey(t *testing.T, raw []byte) crypto.Key {
	t.Helper()
	f, err := crypto.FragmentFromBytes(raw)
	must.Succeed(t, err)
	return crypto.Join(f, crypto.ZeroShare())
}

func TestKeystreamVectors(t *testing.T) {
	var v vectors.Keystream
	vectors.Read(t, "keystream.json", &v)
	for _, s := range v.Streams {
		got := make([]byte, len(s.Bytes))
		fixedKey(t, v.Key).Stream(s.Offset).XORKeyStream(got, got)
		if !bytes.Equal(got, s.Bytes) {
			t.Errorf("offset %d: got %x, want %x", s.Offset, got, s.Bytes)
		}
	}
}

// The attachments have zero bytes, so data is the key stream.
func TestDataVectors(t *testing.T) {
	var v vectors.DataSizes
	vectors.Read(t, "data.json", &v)
	for _, f := range v.Files {
		data := make([]byte, f.Size)
		fixedKey(t, v.Key).Stream(0).XORKeyStream(data, data)
		node, err := ipfs.AddFile(func(ipfs.Block) error { return nil }, bytes.NewReader(data))
		must.Succeed(t, err)
		if got := node.CID.String(); got != f.CID {
			t.Errorf("%d bytes: got %s, want %s", f.Size, got, f.CID)
		}
	}
}

func TestKIDVectors(t *testing.T) {
	var v vectors.KID
	vectors.Read(t, "kid.json", &v)
	for _, want := range v.Valid {
		kid, err := crypto.ParseKID(want.KID)
		if err != nil || string(kid.Epoch) != want.Epoch || kid.Link != want.Link || kid.String() != want.KID {
			t.Errorf("%q: got %v, %v", want.KID, kid, err)
		}
		if end := kid.Epoch.End(); want.Ends == nil && !end.IsZero() || want.Ends != nil && !end.Equal(*want.Ends) {
			t.Errorf("%q: ends %v, want %v", want.KID, end, want.Ends)
		}
	}
	for _, text := range v.Invalid {
		if kid, err := crypto.ParseKID(text); err == nil {
			t.Errorf("%q: read as %v", text, kid)
		}
		header, err := json.Marshal(map[string]string{"alg": "dir", "enc": "A256GCM", "kid": text})
		must.Succeed(t, err)
		jwe := base64.RawURLEncoding.EncodeToString(header) + "..oKGio6Slpqeoqaqr.AA.52uRHRBGM5jlvFmwQPwxMg"
		if kid, err := crypto.MetaKeyID([]byte(jwe)); err == nil {
			t.Errorf("%q in meta.jwe: read as %v", text, kid)
		}
	}
}

func TestTicketVectors(t *testing.T) {
	var all []vectors.Ticket
	vectors.Read(t, "ticket.json", &all)
	var split objectVector
	vectors.Read(t, "object-01-split.json", &split.Object)
	for _, v := range all {
		split.Now = v.Now
		split.Keyring = map[string]vectors.Hex{v.Epoch + ".key": v.KeyFile}
		c, err := link.ParseCID(v.CID)
		must.Succeed(t, err)
		f, err := split.site(t).OpenTicket(t.Context(), c, v.Ticket)
		if v.Expect == "ok" && (err != nil || f.Encode() != v.Fragment) || v.Expect != "ok" && !errors.Is(err, ErrTicket) {
			t.Errorf("%s: got %v, want %s", v.Comment, err, v.Expect)
		}
	}
}

// The worked example of docs/format.md is the first vector, byte for byte.
func TestWorkedExample(t *testing.T) {
	doc, err := os.ReadFile("../../docs/format.md")
	must.Succeed(t, err)
	text := strings.Join(strings.Fields(string(doc)), "")
	var v vectors.Object
	vectors.Read(t, "object-01-split.json", &v)
	l, err := link.Parse(v.Link)
	must.Succeed(t, err)
	var meta bytes.Buffer
	must.Succeed(t, json.Compact(&meta, v.Meta))
	want := map[string]string{
		"attachment": hex.EncodeToString(v.Attachment), "key": hex.EncodeToString(v.Key), "encoded share": v.Share,
		"fragment": hex.EncodeToString(l.Fragment.Bytes()), "encoded fragment": l.Fragment.Encode(), "CID": l.CID.String(),
		"CID bytes": hex.EncodeToString(l.CID.Bytes()), "core": v.Core, "proof": v.Proof,
		"ask": hex.EncodeToString(v.Origin[:32]), "commit": hex.EncodeToString(v.Origin[32:64]), "code": hex.EncodeToString(v.Origin[64:]),
		"link": v.Link, "meta.jwe": v.MetaJWE, "metadata": strings.Join(strings.Fields(meta.String()), ""),
	}
	for name, content := range v.Keyring {
		want["name of the key file"], want["key file"] = name, hex.EncodeToString(content)
	}
	for _, b := range v.Blocks {
		want["CID of "+b.CID] = b.CID
		if len(b.Data) < 256 && !bytes.Equal(b.Data, v.Origin) { // the document has meta.jwe as text
			want["block "+b.CID] = hex.EncodeToString(b.Data)
		}
	}
	for what, s := range want {
		if s == "" || !strings.Contains(text, s) {
			t.Errorf("docs/format.md does not have the %s: %s", what, s)
		}
	}
}
