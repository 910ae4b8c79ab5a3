package keyring_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/vectors"
)

// The vectors of docs/format.md are made without this package's code.

func keyringWith(t *testing.T, files map[string][]byte) (string, *keyring.Keyring) {
	t.Helper()
	dir := t.TempDir()
	must.Succeed(t, os.Chmod(dir, 0o700))
	for name, content := range files {
		path := filepath.Join(dir, name)
		must.Succeed(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must.Succeed(t, os.WriteFile(path, content, 0o600))
	}
	r, err := keyring.Open(dir)
	must.Succeed(t, err)
	return dir, r
}

// coreOf returns a core with this path. The other bytes of its digest do not matter.
func coreOf(t *testing.T, path []byte) cid.Cid {
	t.Helper()
	c, err := cid.Cast(append(append([]byte("\x01\x70\x12\x20"), path...), make([]byte, 24)...))
	must.Succeed(t, err)
	return c
}

// nodesOf returns what follows the paths in a key file, without the checksum: the nodes.
func nodesOf(file []byte) []byte {
	return file[50+8*binary.BigEndian.Uint32(file[46:50]) : len(file)-32]
}

func TestTreeVectors(t *testing.T) {
	var trees []vectors.Tree
	vectors.Read(t, "tree.json", &trees)
	var files vectors.KeyFiles
	vectors.Read(t, "keyfile.json", &files)
	whole := files.Files[0]
	epoch := crypto.Epoch(whole.Epoch)
	for _, v := range trees {
		if !bytes.Equal(nodesOf(whole.File), v.Root) {
			t.Fatalf("%s: the tree has another root than the first key file", v.Comment)
		}
		_, r := keyringWith(t, map[string][]byte{whole.Epoch + ".key": whole.File})
		var cores []cid.Cid
		for _, p := range v.Punctured {
			cores = append(cores, coreOf(t, p))
		}
		must.Succeed(t, r.Destroy(epoch, cores...))
		file, err := r.Export(epoch)
		must.Succeed(t, err)
		if sum := sha256.Sum256(nodesOf(file)); !bytes.Equal(sum[:], v.CoverSum) || len(nodesOf(file)) != 32*v.Nodes {
			t.Errorf("%s: other nodes are left", v.Comment)
		}
		for _, l := range v.Leaves {
			checkLeaf(t, r, epoch, v.Comment, l)
		}
	}
}

func checkLeaf(t *testing.T, r *keyring.Keyring, e crypto.Epoch, comment string, l vectors.TreeLeaf) {
	t.Helper()
	core := coreOf(t, l.Path)
	share, err := r.Share(e, core)
	if len(l.Leaf) == 0 {
		if !errors.Is(err, keyring.ErrDestroyed) {
			t.Errorf("%s: leaf %x: got %v, want ErrDestroyed", comment, []byte(l.Path), err)
		}
		return
	}
	want, hkdfErr := hkdf.Key(sha256.New, l.Leaf, nil, "detach/v1 share"+core.KeyString(), 32)
	must.Succeed(t, hkdfErr)
	if err != nil || !bytes.Equal(share.Bytes(), want) {
		t.Errorf("%s: leaf %x: %v, or another share", comment, []byte(l.Path), err)
	}
}

func TestKeyFileVectors(t *testing.T) {
	var files vectors.KeyFiles
	vectors.Read(t, "keyfile.json", &files)
	for _, v := range files.Files {
		dir := t.TempDir()
		must.Succeed(t, os.Chmod(dir, 0o700))
		path := filepath.Join(dir, v.Epoch+".key")
		must.Succeed(t, os.WriteFile(path, v.File, 0o600))
		r, err := keyring.Open(dir)
		must.Succeed(t, err)
		err = r.Check(crypto.Epoch(v.Epoch))
		if v.Expect == "ok" && err != nil || v.Expect != "ok" && !errors.Is(err, keyring.ErrDamaged) {
			t.Errorf("%s: got %v, want %s", v.Comment, err, v.Expect)
		}
		if left, err := os.ReadFile(path); err != nil || !bytes.Equal(left, v.File) {
			t.Errorf("%s: the file was changed, %v", v.Comment, err)
		}
	}
}

func TestMergeVectors(t *testing.T) {
	var files vectors.KeyFiles
	vectors.Read(t, "keyfile.json", &files)
	for _, v := range files.Merges {
		for order, pair := range [][2][]byte{{v.A, v.B}, {v.B, v.A}} {
			_, r := keyringWith(t, map[string][]byte{v.Epoch + ".key": pair[0]})
			must.Succeed(t, r.Merge(crypto.Epoch(v.Epoch), pair[1]))
			if got, err := r.Export(crypto.Epoch(v.Epoch)); err != nil || !bytes.Equal(got, v.Merged) {
				t.Errorf("%s, order %d: another file, %v", v.Comment, order, err)
			}
		}
	}
}

func TestExtensionVectors(t *testing.T) {
	var all []vectors.Extension
	vectors.Read(t, "extension.json", &all)
	for _, v := range all {
		_, r := keyringWith(t, map[string][]byte{v.New + ".key": v.KeyFile, filepath.Join("extended", v.New, v.Core): v.Record})
		root, err := cid.Decode(v.Root)
		must.Succeed(t, err)
		core, err := cid.Decode(v.Core)
		must.Succeed(t, err)
		to, link, share, err := r.Extension(root, core, crypto.Epoch(v.Old))
		switch {
		case v.Expect != "ok" && err == nil:
			t.Errorf("%s: it opened", v.Comment)
		case v.Expect == "ok" && (err != nil || string(to) != v.New || link != v.Link || share.Encode() != v.Share):
			t.Errorf("%s: got %s, %t, %v, or another share", v.Comment, to, link, err)
		}
	}
}
