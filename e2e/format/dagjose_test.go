package format

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/vectors"
)

// joseNode is a DAG-JOSE node as kubo reads and writes it in dag-json: its bytes as base64url.
type joseNode struct {
	Protected  string `json:"protected"`
	IV         string `json:"iv"`
	Ciphertext string `json:"ciphertext"`
	Tag        string `json:"tag"`
}

// A real IPFS node keeps a meta.jwe as DAG-JOSE, and gives it back without a loss: the compact form
// that is made of the node's answer is the same, and a JOSE library opens it.
func TestNodeKeepsMetadataAsDAGJOSE(t *testing.T) {
	var v vectors.DAGJOSE
	vectors.Read(t, "dag-jose.json", &v)
	node := servers.Kubo(t)
	parts := strings.Split(v.MetaJWE, ".")
	in, err := json.Marshal(joseNode{Protected: parts[0], IV: parts[2], Ciphertext: parts[3], Tag: parts[4]})
	must.Succeed(t, err)

	cid := strings.TrimSpace(node.RunInput(bytes.NewReader(in), "dag", "put", "--input-codec", "dag-json", "--store-codec", "dag-jose"))
	if cid != v.CID {
		t.Errorf("the node stores it as %s, want %s", cid, v.CID)
	}
	if block := node.Run("block", "get", cid); block != string(v.Block) {
		t.Errorf("the block is %x, want %x", block, []byte(v.Block))
	}
	out := node.Run("dag", "get", "--output-codec", "dag-json", cid)
	var got joseNode
	dec := json.NewDecoder(strings.NewReader(out))
	dec.DisallowUnknownFields()
	must.Succeed(t, dec.Decode(&got))
	compact := strings.Join([]string{got.Protected, "", got.IV, got.Ciphertext, got.Tag}, ".")
	if compact != v.MetaJWE {
		t.Fatalf("the compact form is %s, want %s", compact, v.MetaJWE)
	}
	opened, err := jose.ParseEncryptedCompact(compact, []jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256GCM})
	must.Succeed(t, err)
	plain, err := opened.Decrypt([]byte(v.Key))
	must.Succeed(t, err)
	if !bytes.Contains(plain, []byte("grüße.txt")) {
		t.Errorf("the metadata is %s", plain)
	}
}

// A node that was made from the bytes of the block, such as from a CAR, is the same.
func TestNodeTakesADAGJOSEBlock(t *testing.T) {
	var v vectors.DAGJOSE
	vectors.Read(t, "dag-jose.json", &v)
	node := servers.Kubo(t)
	cid := strings.TrimSpace(node.RunInput(bytes.NewReader(v.Block), "dag", "put", "--input-codec", "dag-jose", "--store-codec", "dag-jose"))
	if cid != v.CID {
		t.Errorf("the node stores it as %s, want %s", cid, v.CID)
	}
}
