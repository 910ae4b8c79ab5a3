package kubo_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
)

// secret returns a token that never changes.
func secret(s string) func() (string, error) { return func() (string, error) { return s, nil } }

// root names no object; a healthy node answers that it is not pinned.
var root = cid.MustParse("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")

// guarded is a node that answers 403 to requests without one of its tokens, as kubo does.
type guarded struct {
	node    http.Handler
	mu      sync.Mutex
	allowed []string
}

func (g *guarded) allow(tokens ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.allowed = tokens
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, token := range g.allowed {
		if r.Header.Get("Authorization") == "Bearer "+token {
			g.node.ServeHTTP(w, r)
			return
		}
	}
	http.Error(w, "403 - Forbidden", http.StatusForbidden)
}

// guardedNode returns a store whose token is in a file, and the node.
func guardedNode(t *testing.T, file string) (*kubo.Store, *guarded) {
	node := newFakeNode(nil)
	g := &guarded{node: node}
	srv := httptest.NewUnstartedServer(nil)
	srv.Config.Handler = g
	srv.Start()
	t.Cleanup(srv.Close)
	cfg := &config.Kubo{API: srv.URL, TokenFile: file}
	return openStore(t, kubo.Config{API: srv.URL, Token: cfg.Token}), g
}

// An operator adds a second token at the node, writes it to the file, and takes the first one back.
// No request fails meanwhile, and the process is not restarted.
func TestTokenChangesWithoutARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	must.Succeed(t, os.WriteFile(file, []byte("bearer:old\n"), 0o600))
	s, node := guardedNode(t, file)
	steps := []struct {
		what string
		do   func()
	}{
		{"the old token", func() { node.allow("old") }},
		{"both at the node", func() { node.allow("old", "new") }},
		{"the file is empty for a moment", func() { must.Succeed(t, os.Truncate(file, 0)) }},
		{"the file is gone for a moment", func() { must.Succeed(t, os.Remove(file)) }},
		{"the new one in the file", func() { must.Succeed(t, os.WriteFile(file, []byte("bearer:new\n"), 0o600)) }},
		{"only the new one at the node", func() { node.allow("new") }},
	}
	for _, step := range steps {
		step.do()
		if err := s.Delete(t.Context(), root); err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
	}
	node.allow("third")
	err := s.Delete(t.Context(), root)
	if !errors.Is(err, ipfs.ErrUnavailable) || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "new") {
		t.Errorf("a token that the node has taken back: %v", err)
	}
}

func TestTokenThatCannotBeReadAtTheStartIsAnError(t *testing.T) {
	want := errors.New("no such file")
	_, err := kubo.New(kubo.Config{API: "/ip4/127.0.0.1/tcp/5001", Token: func() (string, error) { return "", want }})
	if !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

func TestTokenIsReadFromManyGoroutines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	must.Succeed(t, os.WriteFile(file, []byte("t0"), 0o600))
	s, node := guardedNode(t, file)
	all := make([]string, 20)
	for i := range all {
		all[i] = fmt.Sprint("t", i)
	}
	node.allow(all...)
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 20 {
				if err := s.Delete(t.Context(), root); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, token := range all {
		must.Succeed(t, os.WriteFile(file, []byte(token), 0o600))
	}
	running.Wait()
}
