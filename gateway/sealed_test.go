package gateway

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/mr-tron/base58"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/installation"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// coreOf returns the CID of an object's directory without its last entry, origin (docs/format.md).
// The entry takes 54 bytes, before the 4 that end the directory.
func (f *fixture) coreOf(c cid.Cid) []byte {
	f.t.Helper()
	root := readAll(f.t, f.get("/ipfs/"+c.String()+"?format=raw"))
	sum := sha256.Sum256(append(root[:len(root)-54:len(root)-54], root[len(root)-4:]...))
	return append([]byte{1, 0x70, 0x12, 32}, sum[:]...)
}

func derive(t *testing.T, secret []byte, label string, core []byte) []byte {
	t.Helper()
	b, err := hkdf.Key(sha256.New, secret, nil, label+string(core), 32)
	check(t, err)
	return b
}

// A program that has the link gets the share, and with the ciphertext it can open the file itself.
func TestShareAndCiphertextOpenTheFile(t *testing.T) {
	f := newFixture(t, 0)
	content := noise(1<<20 + 5)
	l := f.put("report.pdf", content)
	c, core := "/"+l.CID.String(), f.coreOf(l.CID)
	proof := "z" + base58.Encode(derive(t, l.Fragment.Bytes(), "detach/v1 ask", core))
	resp := f.get(c+"/share", "Authorization", "Detach "+proof)
	wantStatus(t, resp, 200)
	wantHeader(t, resp, "Cache-Control", noStore)
	var got struct {
		Share   string
		Expires *time.Time
	}
	check(t, json.Unmarshal(readAll(t, resp), &got))
	if got.Expires != nil {
		t.Errorf("a file without an end expires on %s", got.Expires)
	}
	share, err := crypto.ParseShare(got.Share)
	check(t, err)
	meta, err := crypto.Join(l.Fragment, share).OpenMeta(readAll(t, f.get(c+"/meta.jwe")))
	check(t, err)
	if meta.Name != "report.pdf" || meta.Size != int64(len(content)) {
		t.Errorf("got %q of %d bytes", meta.Name, meta.Size)
	}
	key := make([]byte, 32)
	for i, b := range share.Bytes() {
		key[i] = b ^ l.Fragment.Bytes()[i]
	}
	ask := sha256.Sum256(derive(t, l.Fragment.Bytes(), "detach/v1 ask", core))
	origin := readAll(t, f.get(c+"/origin"))
	if len(origin) != 96 || !bytes.HasPrefix(origin, append(ask[:], derive(t, key, "detach/v1 commit", core)...)) {
		t.Errorf("origin does not have ask and commit: %d bytes", len(origin))
	}
	block, err := aes.NewCipher(key)
	check(t, err)
	data := readAll(t, f.get(c+"/data"))
	cipher.NewCTR(block, make([]byte, 16)).XORKeyStream(data, data)
	if !bytes.Equal(data, content) {
		t.Error("the ciphertext does not decrypt to the file")
	}
	resp = f.get(c + "/data")
	wantHeader(t, resp, "Cache-Control", "public, max-age=31536000, immutable, no-transform")
	wantHeader(t, resp, "Etag", `"`+l.CID.String()+`.data"`)
	wantStatus(t, f.get(c+"/data", "If-None-Match", resp.Header.Get("Etag")), 304)
}

// The gateway gives the share only for the proof of this object's own link.
func TestShareNeedsTheProofOfTheLink(t *testing.T) {
	faults.Covers(t, 95)
	f := newFixture(t, 0)
	l, other := f.put("a.pdf", noise(10)), f.put("b.pdf", noise(10))
	path, proof, key := "/"+l.CID.String()+"/share", f.proof(l)[1], l.Fragment.Encode()
	for authorization, want := range map[string]int{
		proof: 200, strings.Replace(proof, "Detach ", "detach  ", 1): 200,
		"": 401, "Detach": 401, "Detach ": 401, "Detach z": 401, proof[:len(proof)-9]: 401, proof + "zz": 401,
		strings.Replace(proof, "Detach", "Bearer", 1): 401, "Basic eDp5": 401, proof[len("Detach "):]: 401,
		f.proof(other)[1]: 403, "Detach " + key: 403, "Detach z" + strings.Repeat("1", 32): 403,
	} {
		headers := []string{"Authorization", authorization}
		if authorization == "" {
			headers = nil
		}
		f.store.opens = 0
		resp := f.get(path, headers...)
		wantStatus(t, resp, want)
		wantHeader(t, resp, "Cache-Control", noStore)
		ask := ""
		if want == 401 {
			ask = "Detach"
		}
		wantHeader(t, resp, "WWW-Authenticate", ask)
		if want == 401 && f.store.opens > 0 {
			t.Errorf("%s: the store was asked without a proof", authorization)
		}
	}
}

// The operators of IPFS nodes know all CIDs. No answer has the share in its body or headers, unless
// the request has the proof.
func TestNoAnswerTellsTheShare(t *testing.T) {
	faults.Covers(t, 95)
	f := newFixture(t, 24*time.Hour)
	answers := surface(f)
	f.deny()
	shares := make(map[string][]string)
	for _, a := range answers {
		for _, text := range inPath.FindAllString(a.path, -1) {
			c, err := cid.Parse(text)
			check(t, err)
			o, err := f.vault.Object(context.Background(), c)
			if err != nil { // foreign
				continue
			}
			share, err := o.Share()
			check(t, err)
			shares[text] = formsOf(share)
			check(t, o.Close())
		}
	}
	if len(shares) < 3 {
		t.Fatalf("%d shares are looked for", len(shares))
	}
	for _, a := range answers {
		resp := f.request(a.method, a.path, a.body, a.headers...)
		said := fmt.Sprint(resp.Header) + string(readAll(t, resp))
		for c, forms := range shares {
			proved := a.path == "/"+c+"/share" && a.status == http.StatusOK && a.method == http.MethodGet
			found := slices.ContainsFunc(forms, func(form string) bool { return strings.Contains(said, form) })
			if found != proved {
				t.Errorf("%s %s %v: has the share: %v, want %v", a.method, a.path, a.headers, found, proved)
			}
		}
	}
}

// formsOf returns a share as it might stand in an answer.
func formsOf(share crypto.Share) []string {
	b := share.Bytes()
	inHex := hex.EncodeToString(b)
	forms := []string{string(b), inHex, strings.ToUpper(inHex), share.Encode()[1:], base32.StdEncoding.EncodeToString(b)[:51]}
	for offset, affected := range []int{0, 2, 3} { // characters, by the bytes before
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, offset), b...))
		text = text[affected : len(text)-1]
		forms = append(forms, text, strings.NewReplacer("+", "-", "/", "_").Replace(text))
	}
	return append(forms, strings.ToLower(forms[4]))
}

// Answers do not tell an object of another installation from one that the store does not have.
func TestForeignObjectLooksMissing(t *testing.T) {
	faults.Covers(t, 92)
	f := newFixture(t, 0)
	dir := t.TempDir()
	keys, err := keyring.Open(filepath.Join(dir, "keys"))
	check(t, err)
	theirs, _ := installation.Open(t, dir, vault.Config{BaseURL: "https://other.example"}, f.store, keys, nil)
	own := f.put("own.pdf", noise(10))
	ours := f.vault
	f.vault = theirs
	foreign := f.put("foreign.pdf", noise(10))
	proof := f.proof(foreign)
	f.vault = ours
	missing := "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"
	download := strings.TrimPrefix(f.ticket(own), "/"+own.CID.String())
	for range 2 { // the second time, the gateway remembers
		for _, rest := range []string{"", "/all", "/share", "/data", "/meta.jwe", "/origin", download, "?format=raw", "?format=car", "/data?format=car", "/origin?format=raw"} {
			seen := make(map[string]string)
			for _, c := range []string{foreign.CID.String(), missing} {
				path := "/" + c + rest
				if strings.Contains(rest, "format") {
					path = "/ipfs" + path
				}
				resp := f.get(path, proof...)
				wantStatus(t, resp, http.StatusNotFound)
				body := string(readAll(t, resp))
				resp.Header.Del("Date")
				seen[c] = strings.ReplaceAll(fmt.Sprint(resp.Header)+body, c, "CID")
			}
			if seen[foreign.CID.String()] != seen[missing] {
				t.Errorf("%s: foreign %s\nmissing %s", rest, seen[foreign.CID.String()], seen[missing])
			}
		}
		wantStatus(t, f.post("/"+foreign.CID.String(), foreign.Fragment.Encode()), http.StatusNotFound)
	}
}

func TestTrustlessAnswersWithBlocks(t *testing.T) {
	f := newFixture(t, 0)
	l := f.put("report.pdf", noise(3<<20))
	c := "/ipfs/" + l.CID.String()
	ctx := context.Background()

	resp := f.get(c, "Accept", "application/vnd.ipld.raw")
	root := readAll(t, resp)
	check(t, ipfs.Verify(l.CID, root))
	wantHeader(t, resp, "X-Ipfs-Path", c)
	wantHeader(t, resp, "X-Ipfs-Roots", l.CID.String())
	wantHeader(t, resp, "Etag", `"`+l.CID.String()+`.raw"`)
	wantStatus(t, f.get(c+"?format=raw", "If-None-Match", resp.Header.Get("Etag")), 304)

	resp = f.get(c, "Accept", "text/html;q=0.5, application/vnd.ipld.car;version=1")
	car, blocks, err := ipfs.ReadCAR(resp.Body)
	check(t, err)
	if car != l.CID {
		t.Errorf("got root %s, want %s", car, l.CID)
	}
	wantHeader(t, resp, "Etag", `W/"`+l.CID.String()+`.car"`)
	wantStatus(t, f.get(c+"?format=car", "If-None-Match", resp.Header.Get("Etag")), 304)
	wantStatus(t, f.request("HEAD", c+"?format=car", ""), 200)
	entries, err := ipfs.OpenDirectory(ctx, blocks, car)
	check(t, err)
	file, err := ipfs.OpenFile(ctx, blocks, entries["data"].CID)
	check(t, err)
	data, err := io.ReadAll(file)
	check(t, err)
	want := readAll(t, f.get("/"+l.CID.String()+"/data"))
	if !bytes.Equal(data, want) {
		t.Error("the CAR has other data than /data")
	}

	for _, name := range []string{"data", "meta.jwe", "origin"} {
		resp := f.get(c + "/" + name + "?format=raw")
		check(t, ipfs.Verify(entries[name].CID, readAll(t, resp)))
		wantHeader(t, resp, "X-Ipfs-Roots", l.CID.String()+","+entries[name].CID.String())
	}
	wantStatus(t, f.get(c+"/other?format=raw"), 404)
	wantStatus(t, f.get(c+"?format=tar"), 406)
	wantStatus(t, f.get("/ipfs/"+entries["data"].CID.String()+"?format=raw"), 404) // not an object
}

// With entity-bytes, only the leaves that end before the offset are left out.
func TestTrustlessSkipsWhatEndsBefore(t *testing.T) {
	f := newFixture(t, 0)
	l := f.put("report.pdf", noise(3<<20))
	at := "/ipfs/" + l.CID.String() + "/data?format=car&dag-scope=entity&entity-bytes="
	whole := f.get(at + "0:*")
	all := readAll(t, whole)
	for _, scope := range []string{"2097152:*", "2500000:2500001"} {
		resp := f.get(at + scope)
		if got, want := len(readAll(t, resp)), len(all)-2<<20; got > want || got < want-200 {
			t.Errorf("%s: got %d bytes, want about %d", scope, got, want)
		}
		if resp.Header.Get("Etag") == whole.Header.Get("Etag") {
			t.Errorf("%s: the ETag is that of the whole CAR", scope)
		}
	}
	for _, scope := range []string{"", "x", "-5:*", ":", "*:*", "99999999999999999999:*"} {
		if got := readAll(t, f.get(at+scope)); !bytes.Equal(got, all) {
			t.Errorf("%q: got %d bytes, want the whole", scope, len(got))
		}
	}
}

// An entry's CAR has the entry, and the directory, which proves that the entry is in the object.
func TestTrustlessEntryComesWithItsProof(t *testing.T) {
	f := newFixture(t, 0)
	l := f.put("report.pdf", noise(3<<20))
	c, ctx := "/"+l.CID.String(), context.Background()
	for _, name := range []string{"data", "meta.jwe", "origin"} {
		resp := f.get("/ipfs" + c + "/" + name + "?format=car")
		root, blocks, err := ipfs.ReadCAR(resp.Body)
		check(t, err)
		entries, err := ipfs.OpenDirectory(ctx, blocks, l.CID)
		check(t, err)
		wantHeader(t, resp, "X-Ipfs-Roots", l.CID.String()+","+root.String())
		if root != entries[name].CID {
			t.Errorf("%s: got root %s, want %s", name, root, entries[name].CID)
		}
		file, err := ipfs.OpenFile(ctx, blocks, root)
		check(t, err)
		data, err := io.ReadAll(file)
		check(t, err)
		if !bytes.Equal(data, readAll(t, f.get(c+"/"+name))) {
			t.Errorf("%s: got other content", name)
		}
		if _, err := blocks.Get(ctx, root, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: more blocks follow: %v", name, err)
		}
	}
}

// The sealed key of the escrow is an entry like the others, for mirrors. Objects without it have no
// such address.
func TestEscrowIsPartOfTheObject(t *testing.T) {
	f := newFixture(t, 0)
	without := f.put("a.pdf", noise(10))
	escrow := noise(500)
	cfg := vault.Config{BaseURL: "https://files.example.org" + prefix, Escrow: func(crypto.Key) ([]byte, error) { return escrow, nil }}
	f.vault, _ = installation.Open(t, f.dir, cfg, f.store, f.keys, nil)
	l := f.put("b.pdf", noise(10))
	resp := f.get("/ipfs/" + l.CID.String() + "/escrow.age?format=raw")
	wantStatus(t, resp, 200)
	if got := readAll(t, resp); !bytes.Equal(got, escrow) {
		t.Errorf("got %d bytes, want %d", len(got), len(escrow))
	}
	if car := readAll(t, f.get("/ipfs/"+l.CID.String()+"?format=car")); !bytes.Contains(car, escrow) {
		t.Error("the CAR of the object lacks escrow.age")
	}
	wantStatus(t, f.get("/ipfs/"+without.CID.String()+"/escrow.age?format=raw"), 404)
	wantStatus(t, f.get("/"+l.CID.String()+"/share", f.proof(l)...), 200)
	if o := openAll(t, []opening{f.attempt(l)})[0]; o.Name != "b.pdf" {
		t.Errorf("the script gets %q, %s", o.Name, o.Failed)
	}
}

// busy is a vault that too many unknown CIDs are asked of.
type busy struct{ Vault }

func (busy) Object(context.Context, cid.Cid) (*vault.Object, error) { return nil, vault.ErrBusy }

// A client that makes up too many CIDs is told to come later, and the log does not call it a fault.
func TestTooManyUnknownObjectsAre503(t *testing.T) {
	faults.Covers(t, 92)
	f := newFixture(t, 0)
	l := f.put("a.pdf", noise(10))
	proof := f.proof(l)
	f.serve(busy{f.vault}, Config{})
	for _, rest := range []string{"", "/share", "/data"} {
		resp := f.get("/"+l.CID.String()+rest, proof...)
		wantStatus(t, resp, http.StatusServiceUnavailable)
		wantHeader(t, resp, "Retry-After", retryAfter)
	}
	f.srv.Close()
	wantNoText(t, "the log", f.logs.String(), "ERROR")
}

// A download in any form breaks off visibly about a second after its file is revoked.
func TestRevokedDownloadBreaksOff(t *testing.T) {
	faults.Covers(t, 90)
	f := newFixture(t, 0)
	l := f.put("film.mp4", noise(6<<20))
	list, each := f.putAll(named{"a.mp4", noise(6 << 20)}, named{"b", noise(1)})
	_, original, part := f.putOriginal(noise(6<<20), 6<<20)
	for path, revoked := range map[string]link.Link{
		f.ticket(l): l, "/" + l.CID.String() + "/data": l, "/ipfs/" + l.CID.String() + "/data?format=car": l,
		f.ticket(original): part, f.ticket(list): each[0],
		f.ticket(original): original, f.ticket(list): list, // their parts may still be served
	} {
		f.deny()
		blocked, release := make(chan struct{}), make(chan struct{})
		f.store.fail(nil, atLeaf(3, func(_ context.Context, data []byte) ([]byte, error) {
			if blocked != nil {
				close(blocked)
				blocked = nil
				<-release
			}
			return data, nil
		}))
		began := blocked
		resp := f.get(path)
		wantStatus(t, resp, 200)
		<-began
		f.deny(revoked)
		time.Sleep(1100 * time.Millisecond) // the vault asks its deny list once a second
		close(release)
		if got, err := io.ReadAll(resp.Body); err == nil || len(got) > 4<<20 {
			t.Errorf("%.20s…: %d bytes and %v, want it broken off after about 3 MiB", path, len(got), err)
		}
	}
	f.srv.Close()
	wantText(t, "the log", f.logs.String(), "answer broken off", "attachment was revoked")
	wantNoText(t, "the log", f.logs.String(), "ERROR")
}

// The page and the share's answer have the present end of a file, also after it was moved.
func TestPageAndShareSayThePresentEnd(t *testing.T) {
	f := newFixture(t, 24*time.Hour)
	l := f.put("a.pdf", noise(10))
	c := "/" + l.CID.String()
	f.wantEnd(l, crypto.PeriodOf(f.now.Now(), 24*time.Hour).End())

	entries, err := f.upkeep.Find(context.Background(), l.CID)
	check(t, err)
	later := crypto.PeriodOf(f.now.Now(), 40*24*time.Hour)
	_, err = f.upkeep.Extend(context.Background(), entries[0], later)
	check(t, err)
	f.wantEnd(l, later.End())

	file := f.ticket(l)
	f.now.add(10 * 24 * time.Hour)
	f.wantEnd(l, later.End())
	wantStatus(t, f.get(file), http.StatusGone) // the ticket was for hours
	wantStatus(t, f.get(f.ticket(l)), http.StatusOK)
	f.now.add(40 * 24 * time.Hour)
	wantStatus(t, f.get(c), http.StatusGone)
}

// wantEnd wants a file's page to name its last day, and the share to have its end.
func (f *fixture) wantEnd(l link.Link, end time.Time) {
	f.t.Helper()
	wantText(f.t, "the page", f.body("/"+l.CID.String()), `datetime="`+end.AddDate(0, 0, -1).Format(time.DateOnly)+`"`)
	var answer struct{ Expires time.Time }
	check(f.t, json.Unmarshal(readAll(f.t, f.get("/"+l.CID.String()+"/share", f.proof(l)...)), &answer))
	if !answer.Expires.Equal(end) {
		f.t.Errorf("the share's answer ends on %s, want %s", answer.Expires, end)
	}
}
