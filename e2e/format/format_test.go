// Package format reads the test vectors of docs/format.md with other programs: docs/decode.py,
// Node's crypto with npm's jose (check.mjs), and the openssl command line. They must read every
// vector, and come to its outcome.
package format

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mr-tron/base58"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/vectors"
)

// report is the last line of check.mjs and check.py.
type report struct {
	Read             []string
	Checks, Failures int
}

func run(t *testing.T, name string, args ...string) (r report) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, args[0], err, out, stderr.Bytes())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	must.Succeed(t, json.Unmarshal([]byte(lines[len(lines)-1]), &r))
	t.Logf("%s: %d files, %d checks", name, len(r.Read), r.Checks)
	return r
}

func needPython(t *testing.T) {
	t.Helper()
	servers.Need(t, "python3")
	if err := exec.Command("python3", "-c", "import cryptography").Run(); err != nil {
		servers.Missing(t, "python3-cryptography")
	}
}

func needNode(t *testing.T) {
	t.Helper()
	servers.Need(t, "node", "npm")
	if _, err := os.Stat("node_modules/jose"); err != nil {
		if out, err := exec.Command("npm", "ci").CombinedOutput(); err != nil {
			servers.Missing(t, "npm's jose: npm ci fails:\n"+string(out))
		}
	}
}

// Every vector is read by another program, and by two where it is an object.
func TestEveryVectorIsRead(t *testing.T) {
	needNode(t)
	needPython(t)
	byNode, byPython := run(t, "node", "check.mjs"), run(t, "python3", "check.py")
	entries, err := os.ReadDir(vectors.Dir)
	must.Succeed(t, err)
	objects := 0
	for _, e := range entries {
		node, python := slices.Contains(byNode.Read, e.Name()), slices.Contains(byPython.Read, e.Name())
		isObject := strings.HasPrefix(e.Name(), "object-")
		if isObject {
			objects++
		}
		if !node && !python || isObject && !(node && python) {
			t.Errorf("%s: read by Node: %t, by Python: %t", e.Name(), node, python)
		}
	}
	if objects < 50 || byNode.Checks < 400 || byPython.Checks < 400 {
		t.Errorf("%d objects, %d and %d checks, want more", objects, byNode.Checks, byPython.Checks)
	}
}

// The worked example: share, proof, ask and commit by openssl's HKDF, the attachment by its AES.
func TestOpenSSL(t *testing.T) {
	servers.Need(t, "openssl")
	var v vectors.Object
	vectors.Read(t, "object-01-split.json", &v)
	plain := openssl(t, v.Blocks[0].Data, "enc", "-d", "-aes-256-ctr", "-K", hex.EncodeToString(v.Key), "-iv", "0")
	if !bytes.Equal(plain, v.Attachment) {
		t.Errorf("attachment: got %q, want %q", plain, v.Attachment)
	}

	root := v.Blocks[len(v.Blocks)-1].Data
	// The link to origin is the last of the root, and has 52 bytes and a head of 2.
	at := bytes.LastIndex(root, []byte("\x12\x06origin")) - 40
	core := append([]byte("\x01\x70\x12\x20"), openssl(t, slices.Delete(slices.Clone(root), at, at+50), "dgst", "-sha256", "-binary")...)
	service := v.Keyring["2026-11.jlsmfc6n.key"][14:46]
	kdf := func(key []byte, label string) []byte {
		return openssl(t, nil, "kdf", "-binary", "-keylen", "32", "-kdfopt", "digest:SHA256",
			"-kdfopt", "hexkey:"+hex.EncodeToString(key), "-kdfopt", "hexinfo:"+hex.EncodeToString(append([]byte(label), core...)), "HKDF")
	}
	node := []byte(v.Keyring["2026-11.jlsmfc6n.key"][50:82])
	for i := range 64 {
		bit := core[4+i/8] >> (7 - i%8) & 1
		node = openssl(t, []byte{bit}, "dgst", "-sha256", "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(node), "-binary")
	}
	if got := "z" + base58.Encode(kdf(node, "detach/v1 share")); got != v.Share {
		t.Errorf("share: got %s, want %s", got, v.Share)
	}
	fragment, err := base58.Decode(v.Link[strings.Index(v.Link, "#z")+2:])
	must.Succeed(t, err)
	proof := kdf(fragment, "detach/v1 ask")
	if got := "z" + base58.Encode(proof); got != v.Proof {
		t.Errorf("proof: got %s, want %s", got, v.Proof)
	}
	ask := openssl(t, proof, "dgst", "-sha256", "-binary")
	commit := kdf(v.Key, "detach/v1 commit")
	originKey := openssl(t, nil, "kdf", "-binary", "-keylen", "32", "-kdfopt", "digest:SHA256",
		"-kdfopt", "hexkey:"+hex.EncodeToString(service), "-kdfopt", "info:detach/v1 origin", "HKDF")
	code := openssl(t, slices.Concat(core, ask, commit), "dgst", "-sha256", "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(originKey), "-binary")
	if got := slices.Concat(ask, commit, code); !bytes.Equal(got, v.Origin) {
		t.Errorf("origin: got %x, want %x", got, v.Origin)
	}
}

func openssl(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v", args[0], err)
	}
	return out
}

// docs/decode.py opens files of no, one and many blocks by its command line, from a directory of
// blocks and from a CAR file, with each kind of key.
func TestDecodePy(t *testing.T) {
	needPython(t)
	for name, content := range map[string][]byte{"empty": {}, "small": []byte("Hello, Detach!\n"), "large": bytes.Repeat([]byte("0123456789abcdef!"), 200_000)} {
		t.Run(name, func(t *testing.T) {
			v := vectors.Split(content)
			dir, car := t.TempDir(), filepath.Join(t.TempDir(), "object.car")
			for _, b := range v.Blocks {
				must.Succeed(t, os.WriteFile(filepath.Join(dir, b.CID), b.Data, 0o600))
			}
			must.Succeed(t, os.WriteFile(car, carOf(v), 0o600))
			keyFile := filepath.Join(t.TempDir(), "2026-11.jlsmfc6n.key")
			must.Succeed(t, os.WriteFile(keyFile, v.Keyring["2026-11.jlsmfc6n.key"], 0o600))
			cid, _, _ := strings.Cut(strings.TrimPrefix(v.Link, "https://files.example.org/"), "#")
			for _, args := range [][]string{
				{v.Link, dir, "--share", v.Share},
				{v.Link, car, "--key-file", keyFile},
				{cid, car, "--key", hex.EncodeToString(v.Key)},
			} {
				got, stderr, err := decode(args...)
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("%s: %d bytes, %v: %s", args[2], len(got), err, stderr)
				}
				if !strings.Contains(stderr, `"name": "grüße.txt"`) {
					t.Errorf("%s: the metadata is %s", args[2], stderr)
				}
			}
		})
	}
}

func TestDecodePyRefuses(t *testing.T) {
	needPython(t)
	v := vectors.Split([]byte("Hello, Detach!\n"))
	other := vectors.Split([]byte("another"))
	for name, c := range map[string]struct {
		change func(v *vectors.Object)
		want   string
	}{
		"a changed block":   {func(v *vectors.Object) { v.Blocks[0].Data[3] ^= 1 }, "refused: damaged"},
		"a missing block":   {func(v *vectors.Object) { v.Blocks = v.Blocks[1:] }, "refused: not found"},
		"another's share":   {func(v *vectors.Object) { v.Share = other.Share }, "refused: wrong key"},
		"another's link":    {func(v *vectors.Object) { v.Link = v.Link[:len(v.Link)-6] }, "refused: incomplete"},
		"no share but text": {func(v *vectors.Object) { v.Share = "share" }, "refused: invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			v := v
			v.Blocks = slices.Clone(v.Blocks)
			v.Blocks[0].Data = bytes.Clone(v.Blocks[0].Data)
			c.change(&v)
			car := filepath.Join(t.TempDir(), "object.car")
			must.Succeed(t, os.WriteFile(car, carOf(v), 0o600))
			if got, stderr, err := decode(v.Link, car, "--share", v.Share); err == nil || len(got) != 0 || stderr != c.want {
				t.Errorf("%v, %q on the standard output, %s", err, got, stderr)
			}
		})
	}
}

// carOf returns the blocks as a CAR file (https://ipld.io/specs/transport/car/carv1/).
func carOf(v vectors.Object) []byte {
	frame := func(parts ...[]byte) []byte {
		body := slices.Concat(parts...)
		return append(binary.AppendUvarint(nil, uint64(len(body))), body...)
	}
	rawCID := func(text string) []byte { return vectors.CIDBytes(text) }
	root := rawCID(v.Blocks[len(v.Blocks)-1].CID)
	car := frame([]byte("\xa2\x65roots\x81\xd8\x2a\x58\x25\x00"), root, []byte("\x67version\x01"))
	for _, b := range v.Blocks {
		car = append(car, frame(rawCID(b.CID), b.Data)...)
	}
	return car
}
