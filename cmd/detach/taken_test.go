package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime/quotedprintable"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/gateway"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/installation"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
	"github.com/nkirchhoffer/detach-mta/internal/upkeep"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
)

// A file that is revoked, has expired, was deleted or has lost its secret is gone from every route,
// however its mail had encoded it: page, share, tickets, views, ciphertext, ZIP, file list,
// original and the commands.
func TestNoRouteGivesWhatWasTakenBack(t *testing.T) {
	faults.Covers(t, 90)
	for how, take := range map[string]func(*routes, link.Link){
		"revoked": func(r *routes, l link.Link) {
			must.Succeed(t, os.WriteFile(filepath.Join(r.dir, "denied"), []byte(l.CID.String()+"\n"), 0o600))
		},
		"expired": func(r *routes, _ link.Link) { r.later.Store(int64(48 * time.Hour)) },
		"destroyed": func(r *routes, l link.Link) {
			epochs, err := r.keys.Epochs()
			must.Succeed(t, err)
			must.Succeed(t, r.keys.Destroy(epochs[0], r.cores[l.CID]))
		},
		"deleted": func(r *routes, l link.Link) { must.Succeed(t, r.store.Delete(t.Context(), l.CID)) },
		"without its epoch's secret": func(r *routes, _ link.Link) {
			keys, err := filepath.Glob(filepath.Join(r.dir, "keys", "*.key"))
			if must.Succeed(t, err); len(keys) != 1 {
				t.Fatalf("%d keys", len(keys))
			}
			must.Succeed(t, os.Remove(keys[0]))
		},
	} {
		for name := range encodedFiles {
			t.Run(how+"/"+name, func(t *testing.T) {
				t.Chdir(t.TempDir())
				r := newRoutes(t)
				file := r.files[name]
				r.wantAll(t)
				paths := r.paths(t, name)
				sealed := r.sealed(t, file)
				take(r, file)
				for _, path := range append(paths, r.fresh(t, name)...) {
					r.wantGone(t, path, name, sealed)
				}
				r.wantNoCommand(t, name, sealed)
				if how == "destroyed" || how == "revoked" || how == "deleted" {
					r.wantOthers(t, name)
				}
			})
		}
	}
}

// encodedFiles are the attachments of the mail, by the encoding of their parts.
var encodedFiles = map[string]func(content []byte) (encoding string, body []byte){
	"base64": func(content []byte) (string, []byte) { return "base64", transfer.EncodeBase64(content, "\r\n") },
	"rule": func(content []byte) (string, []byte) {
		return "quoted-printable", transfer.EncodeQuoted(content, "\r\n")
	},
	"odd":  func(content []byte) (string, []byte) { return "quoted-printable", oddQuoted(content) },
	"8bit": func(content []byte) (string, []byte) { return "8bit", content },
}

// oddQuoted escapes characters as no encoder does.
func oddQuoted(content []byte) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for _, c := range content {
		if c == '=' || c >= 0x7f || c > ' ' && rnd.IntN(3) == 0 {
			fmt.Fprintf(&b, "=%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.Bytes()
}

func secretContent(name string) []byte {
	var b bytes.Buffer
	for i := range 3000 {
		fmt.Fprintf(&b, "%s secret %04d: 1 = 1 für alle\r\n", name, i)
	}
	return append(b.Bytes(), "end"...)
}

// routes is an installation with one mail, and a clock.
type routes struct {
	dir      string
	store    ipfs.Store
	keys     *keyring.Keyring
	vault    *vault.Vault
	upkeep   *upkeep.Keeper
	server   *httptest.Server
	later    atomic.Int64 // nanoseconds
	mail     []byte
	files    map[string]link.Link
	cores    map[cid.Cid]cid.Cid // of the files
	list     link.Link
	original link.Link
}

func newRoutes(t *testing.T) *routes {
	t.Helper()
	r := &routes{dir: t.TempDir(), files: map[string]link.Link{}, cores: map[cid.Cid]cid.Cid{}}
	var handler http.Handler
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { handler.ServeHTTP(w, req) }))
	t.Cleanup(r.server.Close)
	store, err := embedded.Open(filepath.Join(r.dir, "objects"), nil)
	must.Succeed(t, err)
	t.Cleanup(func() { store.Close() })
	r.store = store
	r.keys, err = keyring.Open(filepath.Join(r.dir, "keys"))
	must.Succeed(t, err)
	now := func() time.Time { return time.Now().Add(time.Duration(r.later.Load())) }
	r.vault, r.upkeep = installation.Open(t, r.dir, vault.Config{BaseURL: r.server.URL}, store, r.keys, now)
	handler, err = gateway.New(gateway.Config{BaseURL: r.server.URL}, r.vault, slog.New(slog.DiscardHandler))
	must.Succeed(t, err)
	r.send(t)
	return r
}

// send stores the attachments of a mail, and finds its links.
func (r *routes) send(t *testing.T) {
	t.Helper()
	var mail bytes.Buffer
	mail.WriteString("Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n")
	var names []string
	for name, encode := range encodedFiles {
		encoding, body := encode(secretContent(name))
		fmt.Fprintf(&mail, "--b\r\nContent-Type: text/csv; charset=utf-8\r\nContent-Disposition: attachment; filename=%s.csv\r\n"+
			"Content-Transfer-Encoding: %s\r\n\r\n%s\r\n", name, encoding, body)
		names = append(names, name)
	}
	mail.WriteString("--b--\r\n")
	r.mail = mail.Bytes()
	rewritten, n := filterMail(t, &app{vault: r.vault}, r.mail, 24*time.Hour)
	links, err := skeleton.Links(bytes.NewReader(rewritten))
	must.Succeed(t, err)
	r.original = links[0]
	_, body, _ := bytes.Cut(rewritten, []byte("\r\n\r\n"))
	found := regexp.MustCompile(regexp.QuoteMeta(r.server.URL)+`/\w{59}(/all)?#\w+`).FindAll(body, -1)
	if n != len(names) || len(found) != n+1 {
		t.Fatalf("%d of %d files detached, %d links:\n%s", n, len(names), len(found), rewritten)
	}
	for i, text := range found {
		l, err := link.Parse(string(text))
		must.Succeed(t, err)
		if l.All {
			r.list = l
		} else {
			r.files[names[i]] = l
			o, err := r.vault.Object(t.Context(), l.CID)
			must.Succeed(t, err)
			r.cores[l.CID] = o.Core()
			must.Succeed(t, o.Close())
		}
	}
}

// proof returns the header with which the share of a file is asked for.
func (r *routes) proof(name string) []string {
	l := r.files[name]
	return []string{"Authorization", "Detach " + l.Fragment.Proof(r.cores[l.CID]).Encode()}
}

// get returns the answer to a request, as far as it came, and the error that broke it off.
func (r *routes) do(t *testing.T, method, path string, header ...string) (status int, body []byte, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.server.URL+path, nil)
	must.Succeed(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(req)
	must.Succeed(t, err)
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// open returns the address that opening a link leads to, or "".
func (r *routes) open(t *testing.T, l link.Link) string {
	t.Helper()
	path, _, _ := strings.Cut(l.URL(), "#")
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).
		PostForm(path, url.Values{"key": {l.Fragment.Encode()}})
	must.Succeed(t, err)
	defer resp.Body.Close()
	return strings.TrimPrefix(resp.Header.Get("Location"), r.server.URL)
}

// wantAll wants the mail and its files from the routes before anything is taken back.
func (r *routes) wantAll(t *testing.T) {
	t.Helper()
	for name, l := range r.files {
		if _, got, err := r.do(t, http.MethodGet, r.open(t, l)); err != nil || !bytes.Equal(got, secretContent(name)) {
			t.Fatalf("%s: got %d bytes, %v, before it was taken back", name, len(got), err)
		}
		status, _, _ := r.do(t, http.MethodGet, "/ipfs/"+l.CID.String()+"/encoded?format=car")
		if (status == http.StatusOK) != (name == "odd") {
			t.Fatalf("%s: /encoded is %d: the encoded form belongs to odd quoted-printable alone", name, status)
		}
		if status, _, _ = r.do(t, http.MethodGet, "/"+l.CID.String()+"/share", r.proof(name)...); status != http.StatusOK {
			t.Fatalf("%s: /share is %d before it was taken back", name, status)
		}
	}
	if _, got, err := r.do(t, http.MethodGet, r.open(t, r.original)); err != nil || !bytes.Equal(got, r.mail) {
		t.Fatalf("the original: got %d bytes, %v, before anything was taken back", len(got), err)
	}
	var restored bytes.Buffer
	if err := (&app{vault: r.vault}).restore(t.Context(), &restored, []link.Link{r.original}); err != nil || !bytes.Equal(restored.Bytes(), r.mail) {
		t.Fatalf("restored %d bytes, %v, before anything was taken back", restored.Len(), err)
	}
	for _, args := range [][]string{nil, {"--store", r.dir}} {
		if stderr, code := runGet(t, append(args, "-o", "original", r.original.URL())...); code != 0 {
			t.Fatalf("detach get %q of the original: %s", args, stderr)
		}
		if got, _ := os.ReadFile("original"); !bytes.Equal(got, r.mail) {
			t.Fatalf("detach get %q of the original: %d bytes", args, len(got))
		}
		must.Succeed(t, os.Remove("original"))
	}
}

// paths returns the addresses that give a file, or the mail, with the tickets of now.
func (r *routes) paths(t *testing.T, name string) []string {
	t.Helper()
	c := r.files[name].CID.String()
	paths := []string{"/" + c, "/" + c + "/share", "/" + c + "/data", "/" + c + "/meta.jwe", "/" + c + "/origin", "/" + c + "/encoded"}
	for _, entry := range []string{"", "/data", "/encoded", "/meta.jwe", "/origin"} {
		for _, format := range []string{"?format=raw", "?format=car", "?format=car&dag-scope=entity&entity-bytes=9:*"} {
			paths = append(paths, "/ipfs/"+c+entry+format)
		}
	}
	paths = append(paths, "/"+r.list.CID.String()+"/all", "/"+r.original.CID.String())
	return append(paths, r.fresh(t, name)...)
}

// fresh returns addresses with tickets that are made now.
func (r *routes) fresh(t *testing.T, name string) (paths []string) {
	t.Helper()
	for _, l := range []link.Link{r.files[name], r.list, r.original} {
		if path := r.open(t, l); path != "" {
			view, _, _ := strings.Cut(strings.Replace(path, "/t/", "/v/", 1)[len("/"+l.CID.String()+"/v/"):], "/")
			view = "/" + l.CID.String() + "/v/" + view
			paths = append(paths, path, view, view+"/file")
		}
	}
	return paths
}

// sealed returns pieces of the stored bytes of a file.
func (r *routes) sealed(t *testing.T, l link.Link) (pieces [][]byte) {
	t.Helper()
	for _, path := range []string{"/" + l.CID.String() + "/data", "/ipfs/" + l.CID.String() + "/encoded?format=raw"} {
		if status, got, err := r.do(t, http.MethodGet, path); err == nil && status == http.StatusOK {
			pieces = append(pieces, got[:32], got[len(got)/2:][:32], got[len(got)-32:])
		}
	}
	return pieces
}

func (r *routes) wantGone(t *testing.T, path, name string, sealed [][]byte) {
	t.Helper()
	for _, header := range [][]string{nil, {"Range", "bytes=50-90000"}, {"Range", "bytes=-50000"}, {"Sec-Fetch-Dest", "iframe"}, r.proof(name)} {
		_, body, _ := r.do(t, http.MethodGet, path, header...)
		wantNothingOf(t, path+" "+strings.Join(header, " "), name, body, sealed)
	}
	c := r.files[name].CID.String()
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if status, _, _ := r.do(t, method, path, r.proof(name)...); strings.Contains(path, c) && status < 400 {
			t.Errorf("%s %s: status %d", method, path, status)
		}
	}
}

// wantNothingOf wants no byte of a file in text, in whatever encoding.
func wantNothingOf(t *testing.T, where, name string, text []byte, sealed [][]byte) {
	t.Helper()
	unquoted, _ := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(text)))
	unbroken := bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), nil), []byte("\n"), nil)
	content := secretContent(name)
	for at := 0; at < len(content)-90; at += 9000 {
		for shift := range 3 {
			piece := base64.StdEncoding.EncodeToString(content[at+shift:][:60])
			if bytes.Contains(unbroken, []byte(piece)) {
				t.Fatalf("%s: has the base64 of the file at %d", where, at)
			}
		}
	}
	secret := []byte(name + " secret ")
	if bytes.Contains(text, secret) || bytes.Contains(unquoted, secret) {
		t.Fatalf("%s: has lines of the file", where)
	}
	for _, piece := range sealed {
		if bytes.Contains(text, piece) {
			t.Fatalf("%s: has stored bytes of the file", where)
		}
	}
}

// wantOthers wants the other files of the mail to open.
func (r *routes) wantOthers(t *testing.T, taken string) {
	t.Helper()
	for name, l := range r.files {
		if name == taken {
			continue
		}
		if _, got, err := r.do(t, http.MethodGet, r.open(t, l)); err != nil || !bytes.Equal(got, secretContent(name)) {
			t.Errorf("%s: got %d bytes, %v, after %s was taken back", name, len(got), err, taken)
		}
	}
}

// wantNoCommand wants the commands to fail, and to write nothing of the file.
func (r *routes) wantNoCommand(t *testing.T, name string, sealed [][]byte) {
	t.Helper()
	for what, l := range map[string]link.Link{"the file": r.files[name], "the original": r.original, "the file list": r.list} {
		_, code := runGet(t, "-o", "got", l.URL())
		if got, err := os.ReadFile("got"); err == nil {
			wantNothingOf(t, "detach get of "+what, name, got, sealed)
			must.Succeed(t, os.Remove("got"))
		}
		if code == 0 && what != "the file list" {
			t.Errorf("detach get of %s succeeds", what)
		}
	}
	var restored bytes.Buffer
	if err := (&app{vault: r.vault}).restore(t.Context(), &restored, []link.Link{r.original}); err == nil {
		t.Error("detach restore succeeds")
	}
	wantNothingOf(t, "detach restore", name, restored.Bytes(), sealed)
}
