package gateway

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/installation"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/upkeep"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
)

var _ Vault = (*vault.Vault)(nil)

const prefix = "/mail"

// fixture is a gateway over the real vault and embedded store. The store can be told to fail.
type fixture struct {
	t      *testing.T
	dir    string
	store  *faultyStore
	keys   *keyring.Keyring
	vault  *vault.Vault
	upkeep *upkeep.Keeper
	srv    *httptest.Server
	logs   *buffer
	now    *clock

	retention time.Duration // of what is stored
}

func newFixture(t *testing.T, retention time.Duration) *fixture {
	t.Helper()
	dir := t.TempDir()
	embedded, err := embedded.Open(filepath.Join(dir, "objects"), nil)
	check(t, err)
	t.Cleanup(func() { embedded.Close() })
	keys, err := keyring.Open(filepath.Join(dir, "keys"))
	check(t, err)
	f := &fixture{t: t, dir: dir, store: &faultyStore{Store: embedded}, keys: keys, logs: new(buffer), now: &clock{at: time.Now()}, retention: retention}
	const base = "https://files.example.org" + prefix
	f.vault, f.upkeep = installation.Open(t, dir, vault.Config{BaseURL: base}, f.store, keys, f.now.Now)
	f.serve(f.vault, Config{})
	return f
}

// serve starts another gateway.
func (f *fixture) serve(v Vault, cfg Config) {
	f.srv = httptest.NewServer(f.handler(v, cfg))
	f.t.Cleanup(f.srv.Close)
}

func (f *fixture) handler(v Vault, cfg Config) http.Handler {
	f.t.Helper()
	cfg.BaseURL = "https://files.example.org" + prefix
	log := slog.New(slog.NewJSONHandler(f.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	handler, err := New(cfg, v, log)
	check(f.t, err)
	return handler
}

// put stores a file and returns its link.
func (f *fixture) put(name string, content []byte) link.Link {
	f.t.Helper()
	b := f.vault.Begin(f.retention)
	l, err := b.Detach(context.Background(), name, "application/pdf", bytes.NewReader(content))
	check(f.t, err)
	check(f.t, b.Commit(context.Background()))
	return l
}

// request sends one request to a path below the prefix. pairs are names and values of headers.
func (f *fixture) request(method, path, body string, pairs ...string) *http.Response {
	f.t.Helper()
	req, err := http.NewRequest(method, f.srv.URL+prefix+path, strings.NewReader(body))
	check(f.t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(pairs); i += 2 {
		req.Header.Set(pairs[i], pairs[i+1])
	}
	resp, err := noRedirects.Do(req)
	check(f.t, err)
	f.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (f *fixture) get(path string, pairs ...string) *http.Response {
	f.t.Helper()
	return f.request(http.MethodGet, path, "", pairs...)
}

func (f *fixture) post(path, key string) *http.Response {
	f.t.Helper()
	return f.request(http.MethodPost, path, url.Values{"key": {key}}.Encode())
}

// ticket opens a link like its page's button, and returns the path of the download.
func (f *fixture) ticket(l link.Link) string {
	f.t.Helper()
	path, _, _ := strings.Cut(strings.TrimPrefix(l.URL(), l.Base), "#")
	resp := f.post(path, l.Fragment.Encode())
	wantStatus(f.t, resp, http.StatusSeeOther)
	return strings.TrimPrefix(resp.Header.Get("Location"), prefix)
}

// proof returns the header with which a program that has the link asks for its share.
func (f *fixture) proof(l link.Link) []string {
	f.t.Helper()
	o, err := f.vault.Object(context.Background(), l.CID)
	check(f.t, err)
	defer o.Close()
	return []string{"Authorization", "Detach " + l.Fragment.Proof(o.Core()).Encode()}
}

var noRedirects = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{DisableCompression: true},
}

var check = must.Succeed

// wantSameHead wants the answer to HEAD to have the headers of resp, the answer to GET.
func (f *fixture) wantSameHead(path string, resp *http.Response) {
	f.t.Helper()
	head := f.request(http.MethodHead, path, "")
	wantStatus(f.t, head, resp.StatusCode)
	for name := range resp.Header {
		if name != "Date" {
			wantHeader(f.t, head, name, resp.Header.Get(name))
		}
	}
}

func wantStatus(t *testing.T, resp *http.Response, want int) {
	t.Helper()
	if resp.StatusCode != want {
		t.Errorf("%s %s: got status %d, want %d", resp.Request.Method, resp.Request.URL, resp.StatusCode, want)
	}
}

func wantHeader(t *testing.T, resp *http.Response, name, want string) {
	t.Helper()
	if got := resp.Header.Get(name); got != want {
		t.Errorf("%s %s: %s: got %q, want %q", resp.Request.Method, resp.Request.URL, name, got, want)
	}
}

func readAll(t *testing.T, resp *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	check(t, err)
	return b
}

// wantText wants all of the texts in an answer's body or a log.
func wantText(t *testing.T, where, body string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(body, text) {
			t.Errorf("%s: %q is not in it", where, text)
		}
	}
}

func wantNoText(t *testing.T, where, body string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(body, text) {
			t.Errorf("%s: %q is in it", where, text)
		}
	}
}

// body returns the body of the answer to a GET.
func (f *fixture) body(path string, pairs ...string) string {
	f.t.Helper()
	return string(readAll(f.t, f.get(path, pairs...)))
}

// deny makes the deny list of these files.
func (f *fixture) deny(links ...link.Link) {
	f.t.Helper()
	var list string
	for _, l := range links {
		list += l.CID.String() + " # by mistake\n"
	}
	check(f.t, os.WriteFile(filepath.Join(f.dir, "denied"), []byte(list), 0o600))
}

// noise returns n random bytes, always the same.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// buffer is a bytes.Buffer that is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// faultyStore is a store whose reads a test can make fail, lie or hang.
type faultyStore struct {
	ipfs.Store
	mu    sync.Mutex
	opens int
	open  error
	// get sees, and may change, each block that is read. n counts the blocks of an object.
	get func(ctx context.Context, n int, data []byte) ([]byte, error)
}

func (s *faultyStore) fail(open error, get func(ctx context.Context, n int, data []byte) ([]byte, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.get = open, get
}

func (s *faultyStore) Open(ctx context.Context, root cid.Cid) (ipfs.Blocks, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	if s.open != nil {
		return nil, s.open
	}
	b, err := s.Store.Open(ctx, root)
	if err != nil || s.get == nil {
		return b, err
	}
	return &faultyBlocks{Blocks: b, get: s.get}, nil
}

type faultyBlocks struct {
	ipfs.Blocks
	n   int
	get func(ctx context.Context, n int, data []byte) ([]byte, error)
}

func (b *faultyBlocks) Get(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	data, err := b.Blocks.Get(ctx, c, buf)
	if err != nil {
		return nil, err
	}
	b.n++
	return b.get(ctx, b.n, data)
}
