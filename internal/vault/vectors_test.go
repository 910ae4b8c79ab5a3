package vault

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// docs/format.md explains the vectors. TestVectorsAreCurrent checks that every file is whole.
const (
	vectorDir  = "../../docs/vectors"
	formatFile = "../../docs/format.md"
)

type objectVector struct {
	Comment    string            `json:"comment"`
	Expect     string            `json:"expect"`
	Link       string            `json:"link"`
	Now        time.Time         `json:"now"`
	Epoch      crypto.Epoch      `json:"epoch"`
	Keys       map[string]string `json:"keys"`
	Blocks     []vectorBlock     `json:"blocks"`
	Key        string            `json:"key,omitempty"`
	Share      string            `json:"share,omitempty"`
	MetaJWE    string            `json:"meta_jwe,omitempty"`
	Meta       json.RawMessage   `json:"meta,omitempty"`
	Attachment []byte            `json:"attachment"`
	// Encoded is the plaintext of the entry "encoded". ExpectEncoded says what opening it gives, if
	// the object opens.
	Encoded       []byte `json:"encoded,omitempty"`
	ExpectEncoded string `json:"expect_encoded,omitempty"`
}

type vectorBlock struct {
	CID  string `json:"cid"`
	Data []byte `json:"data"`
}

type linkVector struct {
	Comment  string `json:"comment"`
	In       string `json:"in"`
	Expect   string `json:"expect"`
	Base     string `json:"base,omitempty"`
	CID      string `json:"cid,omitempty"`
	Fragment string `json:"fragment,omitempty"`
	All      bool   `json:"all,omitempty"`
}

type keystreamVector struct {
	Key     string   `json:"key"`
	Streams []stream `json:"streams"`
}

type stream struct {
	Offset int64  `json:"offset"`
	Bytes  string `json:"bytes"`
}

type dataVector struct {
	Key   string       `json:"key"`
	Files []sizeVector `json:"files"`
}

type sizeVector struct {
	Size int64  `json:"size"`
	CID  string `json:"cid"`
}

type kidVector struct {
	Valid   []string `json:"valid"`
	Invalid []string `json:"invalid"`
}

type ticketVector struct {
	Epoch    crypto.Epoch `json:"epoch"`
	Secret   string       `json:"secret"`
	CID      string       `json:"cid"`
	Fragment string       `json:"fragment"`
	Until    time.Time    `json:"until"`
	Ticket   string       `json:"ticket"`
}

// expectations maps the results in the vectors to errors.
var expectations = map[string]error{
	"ok":          nil,
	"incomplete":  link.ErrIncomplete,
	"invalid":     link.ErrInvalid,
	"wrong key":   ErrWrongKey,
	"expired":     ErrExpired,
	"corrupt":     ErrCorrupt,
	"not found":   ErrNotFound,
	"key missing": ErrKeyMissing,
}

func readVector(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(vectorDir, name))
	must.Succeed(t, err)
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	must.Succeed(t, dec.Decode(into))
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	must.Succeed(t, err)
	return b
}

// fixedKey is a key of known bytes: with the zero share, the fragment is the key.
func fixedKey(t *testing.T, raw []byte) crypto.Key {
	t.Helper()
	f, err := crypto.FragmentFromBytes(raw)
	must.Succeed(t, err)
	return crypto.Join(f, crypto.ZeroShare())
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

// site sets up the installation of a vector: its keyring, ledger and store.
func (v objectVector) site(t *testing.T) *Vault {
	t.Helper()
	s := newSite(t)
	s.now = v.Now
	for epoch, digits := range v.Keys {
		file := epoch + ".key"
		if digits == "destroyed" {
			file = epoch + ".destroyed"
		}
		must.Succeed(t, os.WriteFile(filepath.Join(s.dir, "keys", file), []byte(digits+"\n"), 0o600))
	}
	s.store = v.store()
	vault := s.vault(t, nil)
	if l, err := link.Parse(v.Link); err == nil {
		must.Succeed(t, vault.ledger.append(v.Epoch, v.Now, time.Time{}, []stored{{l.CID, int64(len(v.Attachment))}}))
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

// arrive opens the object like a client that gets two CARs from a gateway.
func (v objectVector) arrive(t *testing.T, vault *Vault, from int64) (got []byte, meta crypto.Meta, err error) {
	t.Helper()
	l, err := link.Parse(v.Link)
	if err != nil {
		return nil, meta, err
	}
	sealed, err := object.ReadCAR(t.Context(), v.car(l.CID, object.Meta), l.CID)
	if err != nil {
		return nil, meta, err
	}
	share, err := sealed.Share(func(kid crypto.Epoch) (crypto.Share, error) { return vault.share(l.CID, kid, v.Epoch) })
	if err != nil {
		return nil, meta, err
	}
	opened, err := sealed.Unlock(l.Fragment, share, v.Now)
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
	entries, _ := ipfs.OpenDirectory(context.Background(), store, root) // an altered directory is refused later
	for _, c := range []cid.Cid{root, entries[name]} {
		if data, ok := store.blocks[c.String()]; ok {
			b.Write(binary.AppendUvarint(nil, uint64(c.ByteLen()+len(data))))
			b.WriteString(c.KeyString())
			b.Write(data)
		}
	}
	return b
}

func TestObjectVectors(t *testing.T) {
	faults.Covers(t, 105)
	files, err := filepath.Glob(filepath.Join(vectorDir, "object-*.json"))
	must.Succeed(t, err)
	if len(files) < 10 {
		t.Fatalf("%d object vectors in %s, want more", len(files), vectorDir)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			var v objectVector
			readVector(t, filepath.Base(file), &v)
			want, ok := expectations[v.Expect]
			if !ok {
				t.Fatalf("unknown expectation %q", v.Expect)
			}
			vault := v.site(t)
			got, meta, err := v.open(t, vault)
			if !errors.Is(err, want) {
				t.Fatalf("%s: got %v, want %v", v.Comment, err, want)
			}
			if want == nil {
				v.checkOpened(t, vault, got, meta)
			} else if len(got) != 0 {
				t.Errorf("%d bytes were released", len(got))
			}
			if want == ErrNotFound {
				want = io.ErrUnexpectedEOF // a CAR ends where it lacks a block
			}
			for _, from := range []int64{0, 1, int64(len(v.Attachment))} {
				got, arrived, err := v.arrive(t, vault, from)
				if !errors.Is(err, want) || arrived != meta {
					t.Fatalf("%s: in a CAR: got %+v, %v, want %+v, %v", v.Comment, arrived, err, meta, want)
				}
				if rest := v.Attachment[min(from, int64(len(v.Attachment))):]; !bytes.Equal(got, rest) {
					t.Errorf("in a CAR, from %d: got %q, want %q", from, got, rest)
				}
			}
		})
	}
}

func (v objectVector) checkOpened(t *testing.T, vault *Vault, got []byte, meta crypto.Meta) {
	t.Helper()
	if !bytes.Equal(got, v.Attachment) {
		t.Errorf("attachment: got %q, want %q", got, v.Attachment)
	}
	var want crypto.Meta
	if err := json.Unmarshal(v.Meta, &want); err != nil || meta != want {
		t.Errorf("metadata: got %+v, want %+v, %v", meta, want, err)
	}
	l, err := link.Parse(v.Link)
	if err != nil || l.URL() != v.Link {
		t.Errorf("the link is not as URL writes it, %v", err)
	}
	if share := opened(t, vault, l.CID).Share().Encode(); share != v.Share {
		t.Errorf("share: got %s, want %s", share, v.Share)
	}
	if key := keyHex(t, vault, l); key != v.Key {
		t.Errorf("key: got %s, want %s", key, v.Key)
	}
	if v.ExpectEncoded != "" {
		v.checkEncoded(t, vault, l)
	}
	if _, err := fixedKey(t, unhex(t, v.Key)).OpenMeta([]byte(v.MetaJWE)); err != nil {
		t.Errorf("meta_jwe: %v", err)
	}
}

func (v objectVector) checkEncoded(t *testing.T, vault *Vault, l link.Link) {
	t.Helper()
	r, err := vault.OpenPart(t.Context(), l.CID, l.Fragment, true)
	must.Succeed(t, err)
	defer r.Close()
	got, err := io.ReadAll(iotest.OneByteReader(r))
	if !errors.Is(err, expectations[v.ExpectEncoded]) || err == nil && !bytes.Equal(got, v.Encoded) {
		t.Errorf("%s: encoded: got %q, %v, want %q, %s", v.Comment, got, err, v.Encoded, v.ExpectEncoded)
	}
}

func TestLinkVectors(t *testing.T) {
	faults.Covers(t, 105)
	var vectors []linkVector
	readVector(t, "links.json", &vectors)
	for _, v := range vectors {
		want, ok := expectations[v.Expect]
		l, err := link.Parse(v.In)
		if !ok || !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %q", v.Comment, err, v.Expect)
		} else if err == nil && (l.Base != v.Base || l.CID.String() != v.CID || l.Fragment.Encode() != v.Fragment || l.All != v.All) {
			t.Errorf("%s: another link", v.Comment)
		}
	}
}

func TestKeystreamVectors(t *testing.T) {
	var v keystreamVector
	readVector(t, "keystream.json", &v)
	for _, s := range v.Streams {
		got := make([]byte, len(s.Bytes)/2)
		fixedKey(t, unhex(t, v.Key)).Stream(s.Offset).XORKeyStream(got, got)
		if hex.EncodeToString(got) != s.Bytes {
			t.Errorf("offset %d: got %x, want %s", s.Offset, got, s.Bytes)
		}
	}
}

func TestDataVectors(t *testing.T) {
	var v dataVector
	readVector(t, "data.json", &v)
	for _, f := range v.Files {
		if got := dataCID(t, unhex(t, v.Key), f.Size); got != f.CID {
			t.Errorf("%d bytes: got %s, want %s", f.Size, got, f.CID)
		}
	}
}

// dataCID is the CID of data for an attachment of zero bytes, whose ciphertext is the key stream.
func dataCID(t *testing.T, key []byte, size int64) string {
	t.Helper()
	zeros := make([]byte, size)
	fixedKey(t, key).Stream(0).XORKeyStream(zeros, zeros)
	node, err := ipfs.AddFile(func(ipfs.Block) error { return nil }, bytes.NewReader(zeros))
	must.Succeed(t, err)
	return node.CID.String()
}

func TestKIDVectors(t *testing.T) {
	var v kidVector
	readVector(t, "kid.json", &v)
	key := fixedKey(t, make([]byte, 32))
	meta := crypto.Meta{Created: ledgerTime}
	for _, kid := range v.Valid {
		if _, err := key.SealMeta(meta, kid); err != nil {
			t.Errorf("%q: %v", kid, err)
		}
	}
	for _, kid := range v.Invalid {
		if _, err := key.SealMeta(meta, kid); err == nil {
			t.Errorf("%q: sealed", kid)
		}
		if got, err := crypto.MetaKeyID([]byte(sealJWE(t, make([]byte, 32), jweHeader(kid), nil))); err == nil {
			t.Errorf("%q: read as %q", kid, got)
		}
	}
}

func TestTicketVector(t *testing.T) {
	var v ticketVector
	readVector(t, "ticket.json", &v)
	c, err := link.ParseCID(v.CID)
	must.Succeed(t, err)
	s := newSite(t)
	must.Succeed(t, os.WriteFile(filepath.Join(s.dir, "keys", string(v.Epoch)+".key"), []byte(v.Secret+"\n"), 0o600))
	vault := s.vault(t, nil)
	must.Succeed(t, vault.ledger.append(v.Epoch, s.now, time.Time{}, []stored{{c, 1}}))
	s.now = v.Until.Add(-time.Second)
	if f, err := vault.OpenTicket(c, v.Ticket); err != nil || f.Encode() != v.Fragment {
		t.Errorf("before its end: got %v, or another fragment", err)
	}
	s.now = v.Until
	wantErr(t, "at its end", errOf(vault.OpenTicket(c, v.Ticket)), ErrTicket)
}

// The worked example of docs/format.md is the first vector, byte for byte.
func TestWorkedExample(t *testing.T) {
	doc, err := os.ReadFile(formatFile)
	must.Succeed(t, err)
	text := strings.Join(strings.Fields(string(doc)), "")
	var v objectVector
	readVector(t, "object-01-split.json", &v)
	l, err := link.Parse(v.Link)
	must.Succeed(t, err)
	share, err := crypto.ParseShare(v.Share)
	must.Succeed(t, err)
	var meta bytes.Buffer
	must.Succeed(t, json.Compact(&meta, v.Meta))
	want := map[string]string{
		"attachment": hex.EncodeToString(v.Attachment), "key": v.Key, "epoch secret": v.Keys[string(v.Epoch)],
		"share": hex.EncodeToString(share.Bytes()), "encoded share": v.Share, "fragment": hex.EncodeToString(l.Fragment.Bytes()),
		"encoded fragment": l.Fragment.Encode(), "CID": l.CID.String(), "CID bytes": hex.EncodeToString(l.CID.Bytes()),
		"link": v.Link, "meta.jwe": v.MetaJWE, "metadata": strings.Join(strings.Fields(meta.String()), ""),
	}
	for _, b := range v.Blocks {
		want["CID of "+b.CID] = b.CID
		if len(b.Data) < 256 { // the document has meta.jwe as text
			want["block "+b.CID] = hex.EncodeToString(b.Data)
		}
	}
	for what, s := range want {
		if s == "" || !strings.Contains(text, s) {
			t.Errorf("docs/format.md does not have the %s: %s", what, s)
		}
	}
}
