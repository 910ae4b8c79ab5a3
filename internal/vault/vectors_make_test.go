package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

var update = flag.Bool("update", false, "write docs/vectors anew")

// sequence returns n bytes that count up.
func sequence(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func derive(t *testing.T, secret []byte, info string) []byte {
	t.Helper()
	key, err := hkdf.Key(sha256.New, secret, nil, info, 32)
	must.Succeed(t, err)
	return key
}

func gcm(t *testing.T, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	must.Succeed(t, err)
	aead, err := cipher.NewGCM(block)
	must.Succeed(t, err)
	return aead
}

func jweHeader(kid string) string {
	quoted, _ := json.Marshal(kid) // fails for no string
	return `{"alg":"dir","enc":"A256GCM","kid":` + string(quoted) + `}`
}

// sealJWE follows RFC 7516 by hand, with a fixed IV, which only vectors may have.
func sealJWE(t *testing.T, key []byte, header string, plain []byte) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	iv, protected := sequence(0xa0, 12), b64([]byte(header))
	sealed := gcm(t, derive(t, key, "detach/v1 meta")).Seal(nil, iv, plain, []byte(protected))
	at := len(sealed) - 16
	return strings.Join([]string{protected, "", b64(iv), b64(sealed[:at]), b64(sealed[at:])}, ".")
}

// maker builds an object vector by the specification, without the code under test.
type maker struct {
	key, secret []byte
	kid         string // of meta.jwe; "link" has no share
	header      string // instead of the usual one
	expires     *time.Time
	size        int64                   // what the metadata says, if not the truth
	alterJWE    func(jwe string) string // before it is stored
	extra       map[string][]byte       // further entries
	encoded     []byte                  // plaintext of the entry "encoded"; nil: there is none
}

var vectorNow = time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)

func newMaker() maker {
	return maker{key: sequence(0x00, 32), secret: sequence(0x40, 32), kid: "2026-11", size: -1}
}

func (m maker) make(t *testing.T, comment string, content []byte) objectVector {
	t.Helper()
	v := objectVector{Comment: comment, Expect: "ok", Now: vectorNow, Epoch: "2026-11", Attachment: content,
		Key: hex.EncodeToString(m.key), Keys: map[string]string{"2026-11": hex.EncodeToString(m.secret)}}
	if m.size < 0 {
		m.size = int64(len(content))
	}
	sum := sha256.Sum256(content)
	meta, err := json.Marshal(struct {
		Name    string     `json:"name"`
		Type    string     `json:"type"`
		Size    int64      `json:"size"`
		SHA256  string     `json:"sha256"`
		Created time.Time  `json:"created"`
		Expires *time.Time `json:"expires"`
	}{"grüße.txt", "text/plain", m.size, hex.EncodeToString(sum[:]), vectorNow, m.expires})
	must.Succeed(t, err)
	if m.header == "" {
		m.header = jweHeader(m.kid)
	}
	v.Meta, v.MetaJWE = meta, sealJWE(t, m.key, m.header, meta)
	if m.alterJWE != nil {
		v.MetaJWE = m.alterJWE(v.MetaJWE)
	}
	root := m.blocks(t, &v, content)
	share := make([]byte, 32)
	if m.kid != "link" {
		share = derive(t, m.secret, "detach/v1 share"+string(root.Bytes()))
	}
	fragment := make([]byte, 32)
	for i := range fragment {
		fragment[i] = m.key[i] ^ share[i]
	}
	v.Share = encode(t, share)
	v.Link = "https://files.example.org/" + root.String() + "#" + encode(t, fragment)
	return v
}

func (m maker) blocks(t *testing.T, v *objectVector, content []byte) cid.Cid {
	t.Helper()
	block, err := aes.NewCipher(m.key)
	must.Succeed(t, err)
	data := make([]byte, len(content))
	cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(data, content)
	files := map[string][]byte{"data": data, "meta.jwe": []byte(v.MetaJWE)}
	maps.Copy(files, m.extra)
	if m.encoded != nil {
		block, err := aes.NewCipher(derive(t, m.key, "detach/v1 encoded"))
		must.Succeed(t, err)
		files["encoded"] = make([]byte, len(m.encoded))
		cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(files["encoded"], m.encoded)
	}
	keep := func(b ipfs.Block) error {
		v.Blocks = append(v.Blocks, vectorBlock{b.CID.String(), bytes.Clone(b.Data)})
		return nil
	}
	var entries []ipfs.Entry
	for _, name := range slices.Sorted(maps.Keys(files)) {
		node, err := ipfs.AddFile(keep, bytes.NewReader(files[name]))
		must.Succeed(t, err)
		entries = append(entries, ipfs.Entry{Name: name, Node: node})
	}
	dir, err := ipfs.AddDirectory(keep, entries...)
	must.Succeed(t, err)
	return dir.CID
}

func encode(t *testing.T, raw []byte) string {
	t.Helper()
	f, err := crypto.FragmentFromBytes(raw)
	must.Succeed(t, err)
	return f.Encode()
}

// refused turns a vector into one that does not open, and removes what only opening could show.
func refused(v objectVector, expect string) objectVector {
	v.Expect, v.Key, v.Share, v.MetaJWE, v.Meta, v.Attachment = expect, "", "", "", nil, nil
	return v
}

func objectVectors(t *testing.T) map[string]objectVector {
	hello := []byte("Hello, Detach!\n")
	m := newMaker()
	split := m.make(t, "The worked example: split keys, one month's epoch, never expiring.", hello)
	out := map[string]objectVector{"01-split": split, "03-empty": m.make(t, "An attachment of no bytes.", []byte{})}

	linkMode := newMaker()
	linkMode.kid = "link"
	v := linkMode.make(t, `Mode "link": the share is zero, the fragment is the key, no epoch's secret is needed.`, hello)
	v.Keys = map[string]string{}
	out["02-link"] = v

	dated := newMaker()
	end := vectorNow.AddDate(0, 0, 30)
	dated.expires = &end
	v = dated.make(t, "Expires in 30 days; one second is left.", hello)
	v.Now = end.Add(-time.Second)
	out["04-before-expiry"] = v
	v.Comment, v.Now = "Expired at this very second.", end
	out["05-expired"] = refused(v, "expired")

	v = split
	v.Comment, v.Keys = "The epoch's secret was destroyed.", map[string]string{"2026-11": "destroyed"}
	out["06-epoch-destroyed"] = refused(v, "expired")
	v.Comment, v.Keys = "The epoch's secret is missing.", map[string]string{}
	out["24-key-missing"] = refused(v, "key missing")
	at, size := strings.Index(split.Link, "#"), len(split.Link)
	for name, c := range map[string]struct{ comment, link, expect string }{
		"07-wrong-key":        {"The fragment of another attachment.", split.Link[:at] + out["03-empty"].Link[at:], "wrong key"},
		"08-fragment-cut":     {"The fragment was cut.", split.Link[:size-6], "incomplete"},
		"09-fragment-missing": {"The fragment is missing.", split.Link[:at], "incomplete"},
		"10-fragment-invalid": {"A digit that base58btc has not.", split.Link[:size-1] + "0", "invalid"},
	} {
		v = split
		v.Comment, v.Link = c.comment, c.link
		out[name] = refused(v, c.expect)
	}
	for name, i := range map[string]int{"11-data-altered": 0, "12-meta-altered-in-store": 1, "13-directory-altered": 2} {
		v = split
		v.Comment, v.Blocks = "The store gives a block with one bit flipped.", slices.Clone(v.Blocks)
		v.Blocks[i].Data = bytes.Clone(v.Blocks[i].Data)
		v.Blocks[i].Data[5] ^= 1
		out[name] = refused(v, "corrupt")
	}
	v = split
	v.Comment, v.Blocks = "The store does not have the block of data.", v.Blocks[1:]
	out["14-data-missing"] = refused(v, "not found")
	addMadeVectors(t, out, hello)
	return out
}

// addMadeVectors adds objects whose blocks match their CIDs but whose maker breaks the format.
func addMadeVectors(t *testing.T, out map[string]objectVector, hello []byte) {
	t.Helper()
	m := newMaker()
	m.alterJWE = func(jwe string) string {
		at := strings.LastIndex(jwe, ".") - 9
		return jwe[:at] + string(jwe[at]^1) + jwe[at+1:]
	}
	out["15-meta-flipped"] = refused(m.make(t, "A character of the sealed metadata was changed before it was stored.", hello), "wrong key")
	m.alterJWE = func(jwe string) string { return strings.Replace(jwe, "..", ".AAAA.", 1) }
	out["16-encrypted-key"] = refused(m.make(t, "The JWE has an encrypted key, which there is none of with dir.", hello), "corrupt")

	for name, header := range map[string]string{
		"17-kid-path":    jweHeader("../x"),
		"18-kid-other":   jweHeader("2026-10"),
		"19-kid-missing": `{"alg":"dir","enc":"A256GCM"}`,
		"20-zip":         `{"alg":"dir","enc":"A256GCM","kid":"2026-11","zip":"DEF"}`,
		"21-alg-none":    `{"alg":"none","enc":"A256GCM","kid":"2026-11"}`,
	} {
		m = newMaker()
		m.header = header
		v := m.make(t, "The header is "+header, hello)
		v.Keys["2026-10"] = v.Keys["2026-11"]
		out[name] = refused(v, "corrupt")
	}
	m = newMaker()
	m.size = int64(len(hello)) - 1
	out["22-size"] = refused(m.make(t, "data is a byte longer than the metadata says.", hello), "corrupt")
	m = newMaker()
	m.extra = map[string][]byte{"more": []byte("x")}
	out["23-third-entry"] = refused(m.make(t, "The directory has a third entry.", hello), "corrupt")

	for name, c := range map[string]struct{ comment, encoded, expect string }{
		"24-encoded":         {"The object has the attachment as its mail had it too.", "Hello,= \r\n=20Detach=21=0a", "ok"},
		"25-encoded-other":   {"The encoded form is that of other bytes.", "Hello,= \r\n=20Detach=3f=0a", "corrupt"},
		"26-encoded-short":   {"The encoded form ends early.", "Hello,= \r\n=20Detach=21", "corrupt"},
		"27-encoded-long":    {"The encoded form is longer than the attachment.", "Hello,= \r\n=20Detach=21=0a!", "corrupt"},
		"28-encoded-damaged": {"Mail programs differ about the encoded form: it has a blank at the end of a line.", "Hello,=20Detach=21=0a \r\n", "corrupt"},
	} {
		m = newMaker()
		m.encoded = []byte(c.encoded)
		v := m.make(t, c.comment, hello)
		v.Encoded, v.ExpectEncoded = m.encoded, c.expect
		out[name] = v
	}
	m = newMaker()
	m.encoded, m.extra = []byte("Hello,= \r\n=20Detach=21=0a"), map[string][]byte{"more": []byte("x")}
	out["29-encoded-and-more"] = refused(m.make(t, "The directory has a fourth entry.", hello), "corrupt")
}

func linkVectors(split string) []linkVector {
	l, err := link.Parse(split)
	if err != nil {
		panic(err)
	}
	head, fragment, _ := strings.Cut(split, "#")
	good := func(comment, in string) linkVector {
		return linkVector{comment, in, "ok", l.Base, l.CID.String(), l.Fragment.Encode(), false}
	}
	all := func(comment, in string) linkVector {
		v := good(comment, in)
		v.All = true
		return v
	}
	return []linkVector{
		good("as it is written", split),
		good("# encoded", head+"%23"+fragment),
		good("# encoded twice", head+"%2523"+fragment),
		good("# as an HTML entity, escaped again", head+"&amp;#35;"+fragment),
		good("a tracker's parameters", head+"?utm_source=a&amp;utm_medium=b#"+fragment),
		good("angle brackets", "<"+split+">"),
		good("a sentence around it", "(see "+split+")."),
		good("upper-cased scheme and host", strings.Replace(split, "https://files.example.org", "HTTPS://FILES.EXAMPLE.ORG", 1)),
		good("wrapped, as quoted-printable does", split[:76]+"=\r\n"+split[76:]),
		good("wrapped and quoted in a reply", "> "+split[:60]+"\r\n> "+split[60:]),
		good("wrapped and indented", split[:100]+"\n    "+split[100:]),
		good("another link appended, as on our pages", split+"."+l.CID.String()+"."+fragment),
		all("all files, as it is written", head+"/all#"+fragment),
		all("all files, # encoded", head+"/all%23"+fragment),
		all("all files, wrapped before the last slash", head+"\n/all#"+fragment),
		good("wrapped by Microsoft Safe Links", "https://eur02.safelinks.protection.outlook.com/?url="+url.QueryEscape(split)+"&data=05%7C02&sdata=x%3D&reserved=0"),
		good("wrapped by Proofpoint URL Defense 2", "https://urldefense.proofpoint.com/v2/url?u="+strings.NewReplacer(":", "-3A", "/", "_", "#", "-23").Replace(split)+"&d=DwMFaQ&c=x&r=x&m=x&s=x&e="),
		good("wrapped by Proofpoint URL Defense 3", "https://urldefense.com/v3/__"+strings.Replace(split, "#", "*", 1)+"__;Iw!!x!x$"),
		good("wrapped by Check Point, the fragment at the end", "https://url.avanan.click/v2/r01/___"+head+"___.YXAzOng#"+fragment),
		good("wrapped by Sophos, in base64", "https://eu-central-1.protection.sophos.com/?d=example.org&u="+base64.URLEncoding.EncodeToString([]byte(split))+"&p=m&i=x&t=x&h=x"),
		good("wrapped twice", "https://eur02.safelinks.protection.outlook.com/?url="+url.QueryEscape("https://linkprotect.cudasvc.com/url?a="+url.QueryEscape(split)+"&c=E,1,x&typo=1")+"&data=05%7C02"),
		{Comment: "wrapped, no fragment", In: "https://eur02.safelinks.protection.outlook.com/?url=" + url.QueryEscape(head) + "&data=05%7C02", Expect: "incomplete"},
		{Comment: "replaced by Mimecast: only its server knows the link", In: "https://protect-eu.mimecast.com/s/rADECvZvDhygB3ktQtrXG?domain=files.example.org", Expect: "invalid"},
		{Comment: "all files, no fragment", In: head + "/all", Expect: "incomplete"},
		{Comment: "all files, cut in all", In: head + "/al", Expect: "incomplete"},
		{Comment: "something else after the CID", In: head + "/data#" + fragment, Expect: "invalid"},
		{Comment: "no fragment", In: head, Expect: "incomplete"},
		{Comment: "fragment cut", In: split[:len(split)-4], Expect: "incomplete"},
		{Comment: "cut in the CID", In: head[:len(head)-9], Expect: "incomplete"},
		{Comment: "fragment upper-cased", In: head + "#" + strings.ToUpper(fragment), Expect: "invalid"},
		{Comment: "fragment too long", In: split + "22", Expect: "invalid"},
		{Comment: "raw CID", In: "https://files.example.org/" + cid.NewCidV1(cid.Raw, l.CID.Hash()).String() + "#" + fragment, Expect: "invalid"},
		{Comment: "CIDv0", In: "https://files.example.org/" + cid.NewCidV0(l.CID.Hash()).String() + "#" + fragment, Expect: "invalid"},
		{Comment: "user information", In: strings.Replace(split, "//", "//user@", 1), Expect: "invalid"},
		{Comment: "another scheme", In: strings.Replace(split, "https", "ftp", 1), Expect: "invalid"},
	}
}

func makeTicket(t *testing.T, split objectVector) ticketVector {
	t.Helper()
	l, err := link.Parse(split.Link)
	must.Succeed(t, err)
	v := ticketVector{Epoch: "2026-11", Secret: split.Keys["2026-11"], CID: l.CID.String(), Fragment: l.Fragment.Encode(), Until: vectorNow.Add(ticketLife)}
	plain := binary.BigEndian.AppendUint64(l.Fragment.Bytes(), uint64(v.Until.Unix()))
	nonce := sequence(0xb0, 12)
	sealed := gcm(t, derive(t, unhex(t, v.Secret), "detach/v1 ticket")).Seal(nonce, nonce, plain, l.CID.Bytes())
	v.Ticket = "2026-11." + base64.RawURLEncoding.EncodeToString(sealed)
	return v
}

// TestVectorsAreCurrent makes all vectors and compares them with the files; -update writes them.
func TestVectorsAreCurrent(t *testing.T) {
	files := make(map[string]any)
	objects := objectVectors(t)
	for name, v := range objects {
		files["object-"+name+".json"] = v
	}
	files["links.json"] = linkVectors(objects["01-split"].Link)
	files["ticket.json"] = makeTicket(t, objects["01-split"])
	files["kid.json"] = kidVector{[]string{"link", "2026-11", "2026-11-22", "2024-02-29"}, []string{
		"", "../x", "..", "/etc/passwd", "2026-11/../x", "2026", "2026-1", "2026-13", "2026-11-31", "2025-02-29", "2026-11-22 ", "LINK", "2026-11.key", "2026-11\x00", "٢٠٢٦-11"}}
	key := sequence(0x00, 32)
	data := dataVector{Key: hex.EncodeToString(key)}
	for _, size := range []int64{0, 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 77} {
		data.Files = append(data.Files, sizeVector{size, dataCID(t, key, size)})
	}
	files["data.json"] = data
	files["keystream.json"] = makeKeystream(t, key)
	for name, v := range files {
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		must.Succeed(t, enc.Encode(v))
		path := filepath.Join(vectorDir, name)
		if *update {
			must.Succeed(t, os.WriteFile(path, want.Bytes(), 0o644))
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s is not what -update would write (%v)", name, err)
		}
	}
	// Two more belong to other packages: skeleton.json and files.json.
	if got, err := os.ReadDir(vectorDir); err != nil || len(got) != len(files)+2 {
		t.Errorf("%s has %d files, want %d, %v", vectorDir, len(got), len(files)+2, err)
	}
}

func makeKeystream(t *testing.T, key []byte) keystreamVector {
	t.Helper()
	block, err := aes.NewCipher(key)
	must.Succeed(t, err)
	v := keystreamVector{Key: hex.EncodeToString(key)}
	for _, offset := range []int64{0, 1, 15, 16, 17, 1 << 20, 16<<32 - 16, 16<<32 - 1, 16 << 32, 16<<32 + 5} {
		var counter [16]byte
		binary.BigEndian.PutUint64(counter[8:], uint64(offset/16))
		zeros := make([]byte, 48)
		cipher.NewCTR(block, counter[:]).XORKeyStream(zeros, zeros)
		v.Streams = append(v.Streams, stream{offset, hex.EncodeToString(zeros[offset%16:][:32])})
	}
	return v
}
