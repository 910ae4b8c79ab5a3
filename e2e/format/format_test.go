// Package format reads the test vectors of docs/format.md with other people's programs: npm's jose
// and Node's crypto (check.mjs), and the openssl command line. They must open every vector.
package format

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/mr-tron/base58"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func TestNode(t *testing.T) {
	servers.Need(t, "node", "npm")
	if _, err := os.Stat("node_modules/jose"); err != nil {
		if out, err := exec.Command("npm", "ci").CombinedOutput(); err != nil {
			servers.Missing(t, "npm's jose: npm ci fails:\n"+string(out))
		}
	}
	out, err := exec.Command("node", "check.mjs").CombinedOutput()
	if err != nil {
		t.Errorf("node check.mjs: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// The worked example: the share by openssl's HKDF, the attachment by its AES.
func TestOpenSSL(t *testing.T) {
	servers.Need(t, "openssl")
	text, err := os.ReadFile("../../docs/vectors/object-01-split.json")
	must.Succeed(t, err)
	var v struct {
		Key, Share, Attachment, Epoch string
		Keys                          map[string]string
		Blocks                        []struct{ CID, Data string }
	}
	must.Succeed(t, json.Unmarshal(text, &v))
	sealed, err := base64.StdEncoding.DecodeString(v.Blocks[0].Data)
	must.Succeed(t, err)
	plain := openssl(t, sealed, "enc", "-d", "-aes-256-ctr", "-K", v.Key, "-iv", "0")
	if got := base64.StdEncoding.EncodeToString(plain); got != v.Attachment {
		t.Errorf("attachment: got %s, want %s", got, v.Attachment)
	}

	root := v.Blocks[len(v.Blocks)-1]
	directory, err := base64.StdEncoding.DecodeString(root.Data)
	must.Succeed(t, err)
	// The binary CID: version 1, dag-pb, sha2-256, 32 bytes, and the hash.
	info := append([]byte("detach/v1 share\x01\x70\x12\x20"), openssl(t, directory, "dgst", "-sha256", "-binary")...)
	share := openssl(t, nil, "kdf", "-binary", "-keylen", "32", "-kdfopt", "digest:SHA256",
		"-kdfopt", "hexkey:"+v.Keys[v.Epoch], "-kdfopt", "hexinfo:"+hex.EncodeToString(info), "HKDF")
	if got := "z" + base58.Encode(share); got != v.Share {
		t.Errorf("share: got %s, want %s", got, v.Share)
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
