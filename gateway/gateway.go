package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/gateway/viewer"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/stack"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// Vault is where the files are. Every method that takes a CID refuses one that is not in the
// ledger, is denied, or has expired.
type Vault interface {
	Stat(ctx context.Context, c cid.Cid) (vault.Stat, error)
	Share(ctx context.Context, c cid.Cid) (crypto.Share, error)
	// Open proves the key right before it returns; reading after it may still fail.
	Open(ctx context.Context, c cid.Cid, f crypto.Fragment) (*vault.File, error)
	// Sealed opens an entry of the object, "data" or "meta.jwe", as it is stored.
	Sealed(ctx context.Context, c cid.Cid, name string) (*vault.Sealed, error)
	// Blocks gives the object's blocks, which are not verified.
	Blocks(ctx context.Context, c cid.Cid) (ipfs.Blocks, error)
	SealTicket(c cid.Cid, f crypto.Fragment) (string, error)
	OpenTicket(c cid.Cid, ticket string) (crypto.Fragment, error)
}

// Config says where the gateway stands and how patient it is.
type Config struct {
	// BaseURL is what links begin with: https://host, or https://host/prefix.
	BaseURL string
	// Brand is what the pages show of the operator. New panics if its Check fails.
	Brand Brand
	// StoreTimeout is how long the store may be silent within a request. Default 20 s: a person
	// waits, and a browser shows nothing meanwhile.
	StoreTimeout time.Duration
	// DisableView leaves recipients nothing but the download: no file is shown in its page.
	DisableView bool
	// WriteTimeout is how long a client may take for one buffer of 128 KiB. Default 60 s, which
	// allows 2 KB/s and so bounds how long somebody can hold a connection by reading slowly.
	WriteTimeout time.Duration
}

type gateway struct {
	cfg    Config
	vault  Vault
	log    *slog.Logger
	base   string // BaseURL without a slash at its end
	prefix string // its path: "", or "/prefix"
	pages  *pages
	viewer *viewer.Viewer // nil: files are not shown
	limits *limits
}

// New returns the gateway's handler. It sets read and write deadlines by progress and needs no
// timeout of the server for them; the server still needs its ReadHeaderTimeout and IdleTimeout.
func New(cfg Config, v Vault, log *slog.Logger) http.Handler {
	if cfg.StoreTimeout <= 0 {
		cfg.StoreTimeout = 20 * time.Second
	}
	if cfg.WriteTimeout <= 0 {
		cfg.WriteTimeout = 60 * time.Second
	}
	g := &gateway{cfg: cfg, vault: v, log: log, base: strings.TrimRight(cfg.BaseURL, "/"), limits: newLimits()}
	var site string
	if u, err := url.Parse(g.base); err == nil {
		g.prefix, site = u.Path, u.Host
	}
	if !cfg.DisableView {
		g.viewer = viewer.New(g.prefix)
	}
	g.pages = newPages(site, cfg.Brand)
	return g
}

// ServeHTTP is the one edge: what a handler returns becomes an answer and a log line here.
func (g *gateway) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	w := newResponse(rw, g.cfg, cancel)
	defer w.release()
	r = r.WithContext(ctx)
	defer func() {
		// net/http would log the value and the arguments on the stack, which may hold what was decrypted.
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			g.fail(w, r, fmt.Errorf("panic: %T at %s", p, stack.Trace()))
		}
	}()

	err := takeBody(w, r)
	if err == nil {
		err = g.route(w, r)
	}
	if ctx.Err() != nil && err != nil && !errors.Is(err, vault.ErrCorrupt) {
		err = context.Cause(ctx) // a store out of time, or a client gone: what it led to is its consequence
	}
	if err != nil {
		g.fail(w, r, err)
	}
}

// route finds the handler by hand. http.ServeMux would clean paths by redirects of its own, and
// a pattern cannot say "CID, with a fragment that a scanner has escaped into the path".
func (g *gateway) route(w *response, r *http.Request) error {
	if !g.limits.allow(r) {
		return errTooMany
	}
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, g.prefix); ok && (rest == "" || rest[0] == '/') {
		path = rest // a proxy in front may also have taken the prefix off already
	}
	switch path {
	case "", "/":
		return g.home(w, r)
	case "/robots.txt":
		return g.robots(w, r)
	case "/favicon.ico":
		return g.favicon(w, r)
	case workerPath:
		return g.worker(w, r)
	}
	if name, ok := strings.CutPrefix(path, viewer.Path); ok && g.viewer != nil {
		return g.viewerFile(w, r, name)
	}
	if rest, ok := strings.CutPrefix(path, "/ipfs/"); ok {
		return g.trustless(w, r, rest)
	}
	return g.object(w, r, path)
}

// object serves what begins with the CID of a file.
func (g *gateway) object(w *response, r *http.Request, path string) error {
	c, rest, fragment, escaped, err := link.ParsePath(path)
	if c.Defined() {
		w.cid = c
	}
	if err != nil {
		return pathError(path, err)
	}
	all := rest == "all" || rest == "all/"
	if escaped && (rest == "" || all) {
		return g.unescape(w, r, g.pagePath(c, all)+"#"+fragment.Encode())
	}
	if rest == "" || all {
		if r.Method == http.MethodPost {
			return g.open(w, r, c)
		}
		return g.page(w, r, c, all)
	}
	switch rest {
	case "all.json":
		return g.list(w, r, c)
	case "share":
		return g.share(w, r, c)
	case "data", "meta.jwe":
		return g.sealed(w, r, c, rest)
	}
	if ticket, ok := strings.CutPrefix(rest, "v/"); ok && g.viewer != nil {
		return g.view(w, r, c, ticket)
	}
	if ticket, ok := strings.CutPrefix(rest, "t/"); ok {
		ticket, _, _ = strings.Cut(ticket, "/") // what follows is for the eyes of download managers
		return g.file(w, r, c, ticket)
	}
	if strings.HasPrefix("all", rest) || cutAll.MatchString(rest) {
		return link.ErrIncomplete
	}
	return errNothing
}

// cutAll is a link to all files that has lost its fragment, to the sentence around it.
var cutAll = regexp.MustCompile(`^all[^0-9A-Za-z/]+$`)

// unescape answers a link whose # was escaped into the path (/CID%23A): QUIRK of mail scanners
// that rewrite links, and of some mail programs. The browser gets the link as it was.
func (g *gateway) unescape(w *response, r *http.Request, link string) error {
	w.route = "unescape"
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	// A Location of a path alone: the Host header, which anybody can set, has no say in it.
	return g.seeOther(w, r, link)
}

func (g *gateway) seeOther(w *response, r *http.Request, location string) error {
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
	g.done(w, r)
	return nil
}

// path is the address of a file's page.
func (g *gateway) path(c cid.Cid) string { return g.prefix + "/" + c.String() }

// pagePath is that of a page to all of a mail's files, or of a file's.
func (g *gateway) pagePath(c cid.Cid, all bool) string {
	if all {
		return g.path(c) + "/all"
	}
	return g.path(c)
}

// pathError tells a link that lost a piece from an address that never was one.
func pathError(path string, err error) error {
	cut := errors.Is(err, link.ErrIncomplete) || strings.HasPrefix(path, "/baf")
	if cut {
		return link.ErrIncomplete
	}
	return errNothing
}

// allow refuses other methods than these, with RFC 9110's Allow (15.5.6).
func allow(w *response, r *http.Request, methods ...string) error {
	if slices.Contains(methods, r.Method) {
		return nil
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	return errMethod
}

// writeString sends a small answer whole.
func writeString(w *response, contentType, body string) error {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, err := io.WriteString(w, body)
	return err
}
