// Package fetchtest serves stored objects through a real gateway, for tests of downloads.
package fetchtest

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/gateway"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/installation"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/upkeep"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
)

// Site is an installation: a vault in a data directory, and the gateway to it.
type Site struct {
	Dir    string // the data directory: objects, keys, ledger, denied
	Vault  *vault.Vault
	Upkeep *upkeep.Keeper
	// Spoil, unless nil, changes what the gateway answers to a path.
	Spoil func(path string, answer []byte) []byte

	url     string
	store   ipfs.Store
	keys    *keyring.Keyring
	handler http.Handler
}

// New returns an empty Site that is served until the test ends.
func New(t testing.TB) *Site {
	t.Helper()
	s := &Site{Dir: t.TempDir()}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	store, err := embedded.Open(filepath.Join(s.Dir, "objects"), nil)
	must.Succeed(t, err)
	t.Cleanup(func() { _ = store.Close() })
	s.store = store
	s.keys, err = keyring.Open(filepath.Join(s.Dir, "keys"))
	must.Succeed(t, err)
	s.Vault, s.Upkeep = installation.Open(t, s.Dir, vault.Config{BaseURL: s.url}, store, s.keys, nil)
	s.handler, err = gateway.New(gateway.Config{BaseURL: s.url}, s.Vault, slog.New(slog.DiscardHandler))
	must.Succeed(t, err)
	return s
}

// Store stores files as the attachments of one mail, and returns their links.
func Store(t testing.TB, v *vault.Vault, files ...File) []link.Link {
	t.Helper()
	return store(t, v, 0, files)
}

func store(t testing.TB, v *vault.Vault, retention time.Duration, files []File) []link.Link {
	t.Helper()
	batch := v.Begin(retention)
	defer batch.Close()
	links := make([]link.Link, len(files))
	for i, f := range files {
		var err error
		links[i], err = batch.Detach(t.Context(), f.Name, f.Type, bytes.NewReader(f.Content))
		must.Succeed(t, err)
	}
	must.Succeed(t, batch.Commit(t.Context()))
	return links
}

// StoreEnded stores a file that ended a while ago, and returns its link.
func (s *Site) StoreEnded(t testing.TB, f File) link.Link {
	t.Helper()
	v, _ := s.past(t)
	return store(t, v, day, []File{f})[0]
}

// Extend gives a file from StoreEnded a later end, in the future, and returns it.
func (s *Site) Extend(t testing.TB, l link.Link) time.Time {
	t.Helper()
	_, u := s.past(t)
	entries, err := u.Find(t.Context(), l.CID)
	must.Succeed(t, err)
	extended, err := u.Extend(t.Context(), entries[0], crypto.PeriodOf(time.Now(), 30*day))
	must.Succeed(t, err)
	return extended.To
}

const day = 24 * time.Hour

// past returns a vault and its upkeep as they were some days ago, over the same objects and keys.
func (s *Site) past(t testing.TB) (*vault.Vault, *upkeep.Keeper) {
	t.Helper()
	now := func() time.Time { return time.Now().Add(-9 * day) }
	return installation.Open(t, t.TempDir(), vault.Config{BaseURL: s.url}, s.store, s.keys, now)
}

// File is an attachment.
type File struct {
	Name, Type string
	Content    []byte
}

// Store stores content as a.bin and returns its link.
func (s *Site) Store(t testing.TB, content []byte) link.Link {
	t.Helper()
	return Store(t, s.Vault, File{"a.bin", "application/octet-stream", content})[0]
}

// Answer returns what the gateway answers to a path, before Spoil.
func (s *Site) Answer(path string) []byte {
	return s.answer(httptest.NewRequest(http.MethodGet, path, nil)).Body.Bytes()
}

func (s *Site) answer(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	s.handler.ServeHTTP(rec, r)
	return rec
}

func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := s.answer(r)
	body := rec.Body.Bytes()
	if s.Spoil != nil {
		body = s.Spoil(r.URL.Path, body)
	}
	maps.Copy(w.Header(), rec.Header())
	w.Header().Del("Content-Length") // Spoil may have changed it
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body)
}

// Random returns n random bytes.
func Random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}
