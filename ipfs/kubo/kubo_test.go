package kubo_test

import (
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// The operator is told what to do about this node, by what the node said.
func TestRemedyFitsTheError(t *testing.T) {
	for want, h := range map[string]http.HandlerFunc{
		"start the node":                answer(http.StatusInternalServerError, `{"Message":"lock is held"}`),
		"correct store.kubo.api":        typed("text/html", http.StatusOK, "<html>Welcome</html>"),
		"correct store.kubo.token_file": answer(http.StatusForbidden, "403 - Forbidden"),
		"free some space":               answer(http.StatusInternalServerError, noSpace),
	} {
		node := httptest.NewServer(newFakeNode(map[string]http.HandlerFunc{"dag/import": h}))
		s := openStore(t, kubo.Config{API: node.URL})
		if err := s.Check(t.Context()); !strings.HasPrefix(s.Remedy(err), want) {
			t.Errorf("%v: the remedy is %q, want %q", err, s.Remedy(err), want)
		}
		node.Close()
	}
	s := openStore(t, kubo.Config{API: "/ip4/127.0.0.1/tcp/1"})
	if err := s.Check(t.Context()); s.Remedy(err) != "start the node, or correct store.kubo.api" {
		t.Errorf("%v: the remedy is %q", err, s.Remedy(err))
	}
}

func openStore(t testing.TB, cfg kubo.Config) *kubo.Store {
	t.Helper()
	s, err := kubo.New(cfg)
	must.Succeed(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	faults.Covers(t, 38, 44, 48, 53, 77)
	node := servers.Kubo(t)
	storetest.Run(t, func(t *testing.T) storetest.Backend {
		return storetest.Backend{
			Store:   openStore(t, kubo.Config{API: node.API()}),
			Objects: func(t *testing.T) []string { return node.Pins() },
			Collect: func(t *testing.T) { node.Run("repo", "gc", "-q") },
			Damage: func(t *testing.T, root cid.Cid, b ipfs.Block, how storetest.Damage) {
				damageFlatfs(t, node.Repo, b, how)
			},
			Stop: func(t *testing.T) {
				node.Kill()
				t.Cleanup(node.Start)
			},
		}
	})
	t.Run("PinName", func(t *testing.T) { testPinName(t, node) })
	t.Run("CIDs", func(t *testing.T) { testKuboCIDs(t, node) })
	t.Run("ImportsCARs", func(t *testing.T) { testKuboImports(t, node) })
	t.Run("Addresses", func(t *testing.T) { testKuboAddresses(t, node) })
}

// damageFlatfs damages the file in which the node keeps one block.
func damageFlatfs(t *testing.T, repo string, b ipfs.Block, how storetest.Damage) {
	t.Helper()
	key := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b.CID.Hash())
	found, err := filepath.Glob(filepath.Join(repo, "blocks", "*", key+".data"))
	if err != nil || len(found) != 1 {
		t.Fatalf("block %s is in %d files, %v", b.CID, len(found), err)
	}
	data, err := os.ReadFile(found[0])
	must.Succeed(t, err)
	switch how {
	case storetest.Flip:
		data[len(data)/2] ^= 0x10
	case storetest.Truncate:
		data = data[:len(data)-1]
	case storetest.Remove:
		must.Succeed(t, os.Remove(found[0]))
		return
	}
	must.Succeed(t, os.WriteFile(found[0], data, 0o600))
}

func testPinName(t *testing.T, node *servers.KuboNode) {
	s := openStore(t, kubo.Config{API: node.API()})
	root, err := s.Put(t.Context(), "detach/v1 2026-11", func(add ipfs.AddFunc) (cid.Cid, error) {
		n, err := ipfs.AddFile(add, strings.NewReader("named"))
		return n.CID, err
	})
	must.Succeed(t, err)
	if want := root.String() + " detach/v1 2026-11"; !strings.Contains(strings.Join(node.Pins(), "\n"), want) {
		t.Errorf("pins: got %q, want %q among them", node.Pins(), want)
	}
	if got := s.Warnings(t.Context()); len(got) != 1 || !strings.Contains(got[0], `"sync": false`) {
		t.Errorf("warnings: got %q, want one about sync", got)
	}
}

// Kubo computes the CIDs of the vectors, and the same CID as this package for a directory.
func testKuboCIDs(t *testing.T, node *servers.KuboNode) {
	form := []string{"add", "-Q", "--cid-version=1", "--raw-leaves", "--chunker=size-1048576", "--max-file-links=1024", "--only-hash"}
	for _, v := range storetest.Vectors() {
		if v.Size >= 1<<30 && v.Size != 1.3e9 {
			continue // kubo takes longer than we do: one large file is enough
		}
		got := strings.TrimSpace(node.RunInput(io.LimitReader(storetest.Chacha(uint64(v.Size)), v.Size), form...))
		if got != v.CID {
			t.Errorf("%d bytes: kubo says %s, the vector is %s", v.Size, got, v.CID)
		}
	}

	dir := t.TempDir()
	data, meta := storetest.Content(40, 5<<20+77), storetest.Content(41, 300)
	must.Succeed(t, os.WriteFile(filepath.Join(dir, "data"), data, 0o600))
	must.Succeed(t, os.WriteFile(filepath.Join(dir, "meta.jwe"), meta, 0o600))
	want := strings.TrimSpace(node.Run(append(form, "-r", dir)...))
	d, m := storetest.AddFile(t, storetest.Discard, data), storetest.AddFile(t, storetest.Discard, meta)
	got, err := ipfs.AddDirectory(storetest.Discard, ipfs.Entry{Name: "meta.jwe", Node: m}, ipfs.Entry{Name: "data", Node: d})
	must.Succeed(t, err)
	if got.CID.String() != want {
		t.Errorf("directory: got %s, kubo says %s", got.CID, want)
	}
}

// A node imports the CAR files of the embedded store and of ExportCAR unchanged.
func testKuboImports(t *testing.T, node *servers.KuboNode) {
	dir := t.TempDir()
	s, err := embedded.Open(dir, nil)
	must.Succeed(t, err)
	defer s.Close()
	for i, size := range []int{0, 1, 3<<20 + 9} {
		data := storetest.Content(uint64(20+i), size)
		root, err := s.Put(t.Context(), "n", func(add ipfs.AddFunc) (cid.Cid, error) {
			d, err := ipfs.AddDirectory(add, ipfs.Entry{Name: "data", Node: storetest.AddFile(t, add, data)})
			return d.CID, err
		})
		must.Succeed(t, err)
		blocks, err := s.Open(t.Context(), root)
		must.Succeed(t, err)
		exported := filepath.Join(t.TempDir(), "exported.car")
		f, err := os.Create(exported)
		must.Succeed(t, err)
		must.Succeed(t, ipfs.ExportCAR(t.Context(), f, blocks, root, "", 0))
		must.Succeed(t, errors.Join(f.Close(), blocks.Close()))
		for _, car := range []string{filepath.Join(dir, root.String()+".car"), exported} {
			if out := node.Run("dag", "import", car); !strings.Contains(out, root.String()) {
				t.Errorf("%d bytes: import says %q, want root %s", size, out, root)
			}
			if got := node.Run("cat", root.String()+"/data"); got != string(data) {
				t.Errorf("%d bytes: cat gives %d other bytes", size, len(got))
			}
			node.Run("pin", "rm", root.String())
			node.Run("repo", "gc", "-q")
		}
	}
}

// A store reaches its node through every kind of address.
func testKuboAddresses(t *testing.T, node *servers.KuboNode) {
	target, err := url.Parse(node.URL())
	must.Succeed(t, err)
	_, port, err := net.SplitHostPort(target.Host)
	must.Succeed(t, err)
	sock := filepath.Join(t.TempDir(), "api.sock")
	tcp := "/ip4/127.0.0.1/tcp/" + port
	node.Run("config", "--json", "Addresses.API", fmt.Sprintf("[%q, %q]", tcp, "/unix"+sock))
	node.Stop()
	node.Start()
	defer node.Run("config", "Addresses.API", tcp) // the socket ends with this test
	for _, api := range []string{
		"/unix" + sock,
		node.URL(),
		node.URL() + "/",
		"/ip4/127.0.0.1/tcp/" + port + "/http",
		"/dns4/localhost/tcp/" + port,
		"/dns/localhost/tcp/" + port, // may be ::1 first, where the node does not listen
	} {
		if err := openStore(t, kubo.Config{API: api}).Check(t.Context()); err != nil {
			t.Errorf("%s: %v", api, err)
		}
	}
}

func TestNewRefusesBadAddresses(t *testing.T) {
	for _, api := range []string{"", "localhost:5001", "ftp://x", "http://", "/ip4/1.2.3.4", "/nonsense", "http://user:pass@host:1", "http://h?x=1", "http://h#f"} {
		s, err := kubo.New(kubo.Config{API: api})
		if err == nil {
			t.Errorf("%q: got %v, want an error", api, s)
		} else if strings.Contains(err.Error(), "user:pass@") {
			t.Errorf("%q: the error contains the password", api)
		}
	}
}

func Benchmark(b *testing.B) {
	storetest.Benchmark(b, openStore(b, kubo.Config{API: servers.Kubo(b).API()}))
}
