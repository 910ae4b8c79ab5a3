package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/gateway/viewer"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/recent"
	"github.com/nkirchhoffer/detach-mta/internal/stack"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

// Vault has the files. Its methods refuse a CID that is unknown, revoked or expired.
type Vault interface {
	// Admit makes the checks that Object makes before it opens the object, without using the store.
	Admit(c cid.Cid) error
	// Object opens an object. The caller closes it.
	Object(ctx context.Context, c cid.Cid) (*vault.Object, error)
	// SealTicket returns the ticket that replaces the fragment in the address of a download.
	SealTicket(c cid.Cid, f crypto.Fragment) (string, error)
	// OpenTicket returns the fragment, or vault.ErrTicket if the ticket does not fit or is too old.
	OpenTicket(ctx context.Context, c cid.Cid, ticket string) (crypto.Fragment, error)
}

// Config configures a gateway.
type Config struct {
	// BaseURL begins every link: https://host, or https://host/prefix.
	BaseURL string
	// Brand shows the operator on the pages.
	Brand Brand
	// StoreTimeout is how long the store may take for one answer. Default 20 s.
	StoreTimeout time.Duration
	// DisableView turns showing files in their pages off. The download stays.
	DisableView bool
	// WriteTimeout is how long a client may take for one buffer of 128 KiB, and four times that is
	// how long it may take for 1 MiB. Default 60 s: a client that reads less than 4.4 KB/s for
	// minutes loses its connection.
	WriteTimeout time.Duration
	// TrustedProxies are the web servers whose X-Forwarded-For is believed, besides those on this
	// machine.
	TrustedProxies []netip.Prefix
	// Memory is the budget of the read-ahead. Nil means no limit.
	Memory *memory.Budget
}

type gateway struct {
	cfg    Config
	vault  Vault
	log    *slog.Logger
	site   site
	pages  *pages
	viewer *viewer.Viewer // nil: files are not shown
	limits *limits
	lost   *recent.Set[cid.Cid] // files that the store did not have when a ZIP came to them
	lists  chan struct{}        // a slot for each file list that is being read
}

// New returns the gateway's handler, or an error that says what is wrong with cfg. The handler sets
// deadlines that move with progress, in place of the server's ReadTimeout and WriteTimeout. The
// server still needs its ReadHeaderTimeout and IdleTimeout.
func New(cfg Config, v Vault, log *slog.Logger) (http.Handler, error) {
	if cfg.StoreTimeout <= 0 {
		cfg.StoreTimeout = 20 * time.Second
	}
	if cfg.WriteTimeout <= 0 {
		cfg.WriteTimeout = 60 * time.Second
	}
	site, err := newSite(cfg.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("base URL of the gateway: %w", err)
	}
	pages, err := newPages(site, cfg.Brand)
	if err != nil {
		return nil, err
	}
	g := &gateway{
		cfg: cfg, vault: v, log: log, site: site, pages: pages, lost: recent.NewSet[cid.Cid](maxLost, lostTime),
		lists: make(chan struct{}, listsAtOnce),
	}
	g.limits = newLimits(cfg.TrustedProxies, func() {
		log.Warn("gateway: X-Forwarded-For from a private address is not believed: if a web server of yours sends it, name its address in gateway.trusted_proxies")
	})
	if !cfg.DisableView {
		g.viewer = viewer.New(site.prefix)
	}
	return g, nil
}

// ServeHTTP implements http.Handler.
func (g *gateway) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	w := newResponse(rw, g.cfg, cancel)
	w.keyed = hasKey(r.URL)
	defer w.release()
	r = r.WithContext(ctx)
	defer func() {
		// net/http would log the panic's value and the stack's arguments: decrypted bytes, perhaps.
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			g.fail(w, r, fmt.Errorf("panic: %T at %s", p, stack.Trace()))
		}
	}()

	err := g.serve(w, r)
	if ctx.Err() != nil && err != nil && !errors.Is(err, vault.ErrCorrupt) {
		err = context.Cause(ctx) // the cause of err: the store took too long, or the client left
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	g.logRequest(w, r, slog.LevelInfo, "served", nil)
}

// serve answers a request when it has its slots.
func (g *gateway) serve(w *response, r *http.Request) error {
	leave, err := g.limits.enter(r)
	if err != nil {
		w.refuseBody(r)
		return err
	}
	defer leave()
	w.storeClock()
	if err := takeBody(w, r); err != nil {
		return err
	}
	return g.route(w, r)
}

// route finds the handler. http.ServeMux would redirect to cleaned paths, and has no pattern for a
// CID with a fragment that a scanner has escaped into the path.
func (g *gateway) route(w *response, r *http.Request) error {
	path := g.site.below(r.URL.Path)
	switch path {
	case "", "/":
		return g.home(w, r)
	case "/robots.txt":
		return robots(w, r)
	case "/favicon.ico":
		return favicon(w, r)
	case workerPath:
		return g.pages.serveWorker(w, r)
	}
	if name, ok := strings.CutPrefix(path, viewer.Path); ok && g.viewer != nil {
		return g.viewerFile(w, r, name)
	}
	if rest, ok := strings.CutPrefix(path, "/ipfs/"); ok {
		return g.trustless(w, r, rest)
	}
	return g.object(w, r, path)
}

// object serves the addresses that begin with the CID of an object.
func (g *gateway) object(w *response, r *http.Request, path string) error {
	c, rest, fragment, escaped, err := link.ParsePath(path)
	if c.Defined() {
		w.cid = c
	}
	if err != nil {
		return pathError(path, err)
	}
	list := rest == "all" || rest == "all/"
	switch {
	case escaped && (rest == "" || list):
		return unescape(w, r, g.site.page(c, list)+"#"+fragment.Encode())
	case escaped:
		return errNothing // no program makes such an address, and its answer must be kept nowhere
	case (rest == "" || list) && r.Method == http.MethodPost:
		return g.open(w, r, c)
	case rest == "" || list:
		return g.page(w, r, c, list)
	}
	switch rest {
	case "share":
		return g.share(w, r, c)
	case "data", "meta.jwe", "origin":
		return g.answer(w, r, c, rest, sendEntry(rest))
	}
	if ticket, ok := strings.CutPrefix(rest, "v/"); ok && g.viewer != nil {
		return g.view(w, r, c, ticket)
	}
	if ticket, ok := strings.CutPrefix(rest, "t/"); ok {
		ticket, _, _ = strings.Cut(ticket, "/") // the name follows, for download managers
		return g.file(w, r, c, ticket)
	}
	if strings.HasPrefix("all", rest) || cutAll.MatchString(rest) {
		return link.ErrIncomplete
	}
	return errNothing
}

// cutAll matches "all" with punctuation in place of the fragment.
var cutAll = regexp.MustCompile(`^all[^0-9A-Za-z/]+$`)

// pathError returns link.ErrIncomplete for an incomplete link, and errNothing for other addresses.
func pathError(path string, err error) error {
	if errors.Is(err, link.ErrIncomplete) || strings.HasPrefix(path, "/baf") {
		return link.ErrIncomplete
	}
	return errNothing
}

// answer opens the object and calls send. route names the kind of request in the log.
func (g *gateway) answer(w *response, r *http.Request, c cid.Cid, route string, send sender) error {
	w.route, w.machine = route, true
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	o, err := g.vault.Object(r.Context(), c)
	if err != nil {
		return err
	}
	defer o.Close()
	w.storeClock()
	return send(w, r, o)
}

// A sender answers a program's request from an object. The caller closes the object.
type sender func(w *response, r *http.Request, o *vault.Object) error

// unescape redirects a link whose # was escaped into the path (/CID%23A) to the link.
// QUIRK: mail scanners that rewrite links, and some mail programs, escape the #.
func unescape(w *response, r *http.Request, link string) error {
	w.route = "unescape"
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	// The Location must be a path: the client sets the Host header.
	return seeOther(w, link)
}

func seeOther(w *response, location string) error {
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// allow sets Allow and returns errMethod unless the method is one of methods (RFC 9110, 15.5.6).
func allow(w *response, r *http.Request, methods ...string) error {
	if slices.Contains(methods, r.Method) {
		return nil
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	return errMethod
}

// writeString sends a small answer with its length.
func writeString(w *response, contentType, body string) error {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, err := io.WriteString(w, body)
	return err
}
