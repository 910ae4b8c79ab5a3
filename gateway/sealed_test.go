package gateway

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"io"
	"testing"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// A program that has link, share and ciphertext can open the file itself.
func TestShareAndCiphertextOpenTheFile(t *testing.T) {
	f := newFixture(t, 0)
	content := noise(1<<20 + 5)
	l := f.put("report.pdf", content)
	c := "/" + l.CID.String()
	share, err := crypto.ParseShare(string(readAll(t, f.get(c+"/share"))))
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
	block, err := aes.NewCipher(key)
	check(t, err)
	data := readAll(t, f.get(c+"/data"))
	cipher.NewCTR(block, make([]byte, 16)).XORKeyStream(data, data)
	if !bytes.Equal(data, content) {
		t.Error("the ciphertext does not decrypt to the file")
	}
	resp := f.get(c + "/data")
	wantHeader(t, resp, "Cache-Control", "public, max-age=31536000, immutable, no-transform")
	wantHeader(t, resp, "Etag", `"`+l.CID.String()+`.data"`)
	wantStatus(t, f.get(c+"/data", "If-None-Match", resp.Header.Get("Etag")), 304)
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
	file, err := ipfs.OpenFile(ctx, blocks, entries["data"])
	check(t, err)
	data, err := io.ReadAll(file)
	check(t, err)
	want := readAll(t, f.get("/"+l.CID.String()+"/data"))
	if !bytes.Equal(data, want) {
		t.Error("the CAR has other data than /data")
	}

	for _, name := range []string{"data", "meta.jwe"} {
		resp := f.get(c + "/" + name + "?format=raw")
		check(t, ipfs.Verify(entries[name], readAll(t, resp)))
		wantHeader(t, resp, "X-Ipfs-Roots", l.CID.String()+","+entries[name].String())
	}
	wantStatus(t, f.get(c+"/other?format=raw"), 404)
	wantStatus(t, f.get(c+"?format=tar"), 406)
	wantStatus(t, f.get("/ipfs/"+entries["data"].String()+"?format=raw"), 404) // not an object
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
	for _, name := range []string{"data", "meta.jwe"} {
		resp := f.get("/ipfs" + c + "/" + name + "?format=car")
		root, blocks, err := ipfs.ReadCAR(resp.Body)
		check(t, err)
		entries, err := ipfs.OpenDirectory(ctx, blocks, l.CID)
		check(t, err)
		wantHeader(t, resp, "X-Ipfs-Roots", l.CID.String()+","+root.String())
		if root != entries[name] {
			t.Errorf("%s: got root %s, want %s", name, root, entries[name])
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
