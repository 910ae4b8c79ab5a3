package life

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
)

// copyNew copies the files below a directory that take accepts. Files that vanish meanwhile are left
// out.
func copyNew(to, from string, take func(path string) bool) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(path, from)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		if !entry.Type().IsRegular() || !take(path) {
			return nil
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o600)
	})
}

// wantStolen is the attack. The attacker has every link, a copy of everything that ever was in the
// data directory and in the store, and of the key files as they are now. He leaves out the lists of
// what was revoked and destroyed, and sets his clock back to the beginning. His gateway opens these
// files and no others, and so does a search for keys in all bytes that he has.
func (l *life) wantStolen(names ...string) {
	l.t.Helper()
	dir := filepath.Join(l.t.TempDir(), "data")
	listed := func(path string) bool {
		below, _ := filepath.Rel(l.loot, path)
		return below == "denied" || below == "clock" || strings.HasPrefix(below, "keys/destroyed")
	}
	stage.Must(l.t, copyNew(dir, l.loot, func(path string) bool { return !listed(path) }))
	stage.Must(l.t, os.RemoveAll(filepath.Join(dir, "keys/destroyed")))
	stage.Must(l.t, copyNew(filepath.Join(dir, "keys"), filepath.Join(l.first.DataDir, "keys"), func(path string) bool {
		return strings.HasSuffix(path, ".key")
	}))
	stage.Must(l.t, os.RemoveAll(filepath.Join(dir, "keys/destroyed")))
	gateway := l.gateway(dir, `kind = "embedded"`, stage.NewClock(l.t, l.ahead).Env())
	defer gateway.Terminate(l.t)
	secrets := readSecrets(l.t, filepath.Join(dir, "keys"))
	for _, name := range l.names() {
		f, want := l.files[name], slices.Contains(names, name)
		status, sum := f.open(l.t, gateway)
		if got := status == http.StatusOK; got != want || got && f.sum != "" && sum != f.sum {
			l.t.Errorf("day %d: the attacker's gateway answers %d for %q, want it served: %v", l.day(), status, name, want)
		}
		if got := secrets.open(l.t, filepath.Join(dir, "objects"), f.Link); got != want {
			l.t.Errorf("day %d: the attacker finds the key of %q: %v, want %v", l.day(), name, got, want)
		}
	}
}

// secrets is what an attacker finds in a keyring. The code below shares nothing with the keyring's.
type secrets struct {
	windows [][]byte // any 32 bytes
	nodes   [][]byte // of key trees; and the key files' hashes
	records []record // of extensions
}

type record struct {
	content []byte
	epoch   string // into which the object was extended
}

const secretSize = 32

// nodesAt returns where the nodes of the key tree begin in a key file: behind a line, the service
// secret, and the list of destroyed paths, 8 bytes each.
func nodesAt(file []byte) int {
	count := len("detach/v1 key\n") + secretSize
	return count + 4 + 8*int(binary.BigEndian.Uint32(file[count:]))
}

func readSecrets(t *testing.T, keys string) (s secrets) {
	t.Helper()
	stage.Must(t, filepath.WalkDir(keys, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i := 0; i+secretSize <= len(content); i++ {
			s.windows = append(s.windows, content[i:i+secretSize])
		}
		if strings.HasSuffix(path, ".key") {
			s.nodes = slices.AppendSeq(s.nodes, slices.Chunk(content[nodesAt(content):], secretSize))
		}
		if epoch := filepath.Base(filepath.Dir(path)); strings.Contains(path, "/extended/") {
			s.records = append(s.records, record{content, epoch})
		}
		return nil
	}))
	return s
}

// open reports whether the file's key follows from its link and the secrets.
func (s secrets) open(t *testing.T, objects string, l stage.Link) bool {
	t.Helper()
	o := readObject(t, objects, l.CID)
	fragment, err := crypto.ParseFragment(l.Fragment)
	stage.Must(t, err)
	core := o.Core.Bytes()
	opens := func(b []byte) bool {
		key := make([]byte, secretSize)
		subtle.XORBytes(key, fragment.Bytes(), b)
		commit := derive(key, "detach/v1 commit", core)
		return subtle.ConstantTimeCompare(commit, o.Origin[32:64]) == 1
	}
	leaves := append(slices.Clone(s.windows), s.leaves(o.Core.Hash()[2:])...)
	return slices.ContainsFunc(s.windows, opens) || slices.ContainsFunc(leaves, func(leaf []byte) bool {
		return opens(derive(leaf, "detach/v1 share", core))
	}) || slices.ContainsFunc(s.records, func(r record) bool { return s.openRecord(r, leaves, o, opens) })
}

func readObject(t *testing.T, objects, name string) *object.Sealed {
	t.Helper()
	store, err := embedded.OpenReadOnly(objects)
	stage.Must(t, err)
	defer store.Close()
	root, err := cid.Decode(name)
	stage.Must(t, err)
	blocks, err := store.Open(context.Background(), root)
	stage.Must(t, err)
	defer blocks.Close()
	o, err := object.Read(context.Background(), blocks, root)
	stage.Must(t, err)
	return o
}

// leaves goes down from every node, as if it stood at each depth of the path.
func (s secrets) leaves(digest []byte) (leaves [][]byte) {
	for _, node := range s.nodes {
		for depth := range 64 {
			leaf := node
			for i := depth; i < 64; i++ {
				mac := hmac.New(sha256.New, leaf)
				mac.Write([]byte{digest[i/8] >> (7 - i%8) & 1})
				leaf = mac.Sum(nil)
			}
			leaves = append(leaves, leaf)
		}
	}
	return leaves
}

// openRecord tries every leaf on a record of an extension. Its plaintext is B.
func (s secrets) openRecord(r record, leaves [][]byte, o *object.Sealed, opens func([]byte) bool) bool {
	const sealed = 12 + secretSize + 16
	root := o.Root.Bytes()
	if len(r.content) < len(root)+sealed || string(r.content[:len(root)]) != string(root) {
		return false
	}
	head, box := r.content[:len(r.content)-sealed], r.content[len(r.content)-sealed:]
	old, mode := head[len(root)+1:len(head)-1], head[len(head)-1]
	aad := slices.Concat(root, old, []byte{0}, []byte(r.epoch), []byte{mode})
	return slices.ContainsFunc(leaves, func(leaf []byte) bool {
		block, err := aes.NewCipher(derive(leaf, "detach/v1 extend", o.Core.Bytes()))
		if err != nil {
			return false
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return false
		}
		b, err := aead.Open(nil, box[:12], box[12:], aad)
		return err == nil && opens(b)
	})
}

func derive(secret []byte, label string, core []byte) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, label+string(core), secretSize)
	if err != nil {
		panic(err) // only for a length that is too large
	}
	return key
}
