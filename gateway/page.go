package gateway

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/gateway/viewer"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

//go:embed web
var web embed.FS

// pages renders what people see. Style and script are in the page itself, so that a page is one
// request, and the policy allows these two blocks alone, by their hashes.
type pages struct {
	site      site
	look      look
	templates *template.Template
	style     template.CSS
	script    template.JS
	worker    string
	csp       string
}

// newPages returns an error if the brand is wrong. It panics if the embedded files are broken, like
// template.Must.
func newPages(site site, brand Brand) (*pages, error) {
	look, err := brand.look()
	if err != nil {
		return nil, err
	}
	style, script := mustRead("page.css")+look.colors, scripts("link.js", "browser.js", "all.js", "page.js")
	return &pages{
		site:      site,
		look:      look,
		templates: template.Must(template.ParseFS(web, "web/page.html")),
		style:     template.CSS(style),
		script:    template.JS(script),
		worker:    mustRead("worker.js"),
		csp:       fmt.Sprintf(pageCSP, viewer.BlockHash(script), viewer.BlockHash(style)),
	}, nil
}

func scripts(names ...string) string {
	for i, name := range names {
		names[i] = mustRead(name)
	}
	return strings.Join(names, "\n")
}

func mustRead(name string) string {
	b, err := web.ReadFile("web/" + name)
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(b))
}

// view is the data of the templates.
type view struct {
	*texts.Language
	Site, Title string
	Look        look
	Style       template.CSS
	Script      template.JS

	Path string // where the form goes

	// the page of a file
	CID, Size      string
	Base           string // what the addresses of files begin with
	All            bool   // the address says that the file is a file list
	Share, Meta    string // the script opens the name with these and the fragment
	Shows          string // the extensions of files that are shown in the page, or empty
	Source, Worker string // for decrypting in the browser: the ciphertext's address, and the worker's
	Until, Stored  *moment

	// a message
	Message string
	Field   bool
}

// message is a page without a file: an error, or the way in.
type message struct {
	Key   string // in the catalogue, with .title and .text
	Field bool
	Path  string
}

func (p *pages) message(w *response, r *http.Request, status int, m message) error {
	t := preferred(r)
	return p.write(w, status, "message", view{
		Language: t, Title: t.Text(m.Key + ".title"), Message: t.Text(m.Key + ".text"), Field: m.Field, Path: m.Path,
	})
}

func (p *pages) write(w *response, status int, name string, v view) error {
	v.Site, v.Look, v.Style, v.Script = p.site.host, p.look, p.style, p.script
	var page bytes.Buffer
	if err := p.templates.ExecuteTemplate(&page, name, v); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	h := w.Header()
	h.Set("Content-Security-Policy", p.csp)
	h.Set("Content-Language", v.Code)
	h.Set("Vary", "Accept-Language")
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(page.Len()))
	w.WriteHeader(status)
	_, err := w.Write(page.Bytes())
	return err
}

// preferred returns the texts in the reader's language.
func preferred(r *http.Request) *texts.Language {
	return texts.Preferred(r.Header.Get("Accept-Language"))
}

// sizeOf returns a size that is not broken into two lines, as the script of the pages writes it.
func sizeOf(t *texts.Language, n int64) string { return strings.ReplaceAll(t.Size(n), " ", "\u00a0") }

// SizeWords has the words of sizes, for the script.
func (v view) SizeWords() (string, error) {
	words, err := json.Marshal(map[string]any{"bytes": v.Bytes, "units": v.Units.Names, "decimal": v.Units.DecimalSign})
	return string(words), err
}

// A moment is a point in time in the sentence that a page says it in. The script replaces Shown by
// the time in the reader's own zone.
type moment struct{ Before, Time, Shown, After string }

func momentOf(t *texts.Language, key string, at time.Time) *moment {
	m := &moment{Time: at.UTC().Format(time.RFC3339), Shown: t.Moment(at)}
	m.Before, m.After, _ = strings.Cut(t.Text(key), "{date}")
	return m
}

// home answers people who have the gateway's address and no link, or a link to paste.
func (g *gateway) home(w *response, r *http.Request) error {
	w.route = "home"
	if r.Method == http.MethodPost {
		return g.open(w, r, cid.Undef)
	}
	if err := allow(w, r, http.MethodGet, http.MethodHead, http.MethodPost); err != nil {
		return err
	}
	return g.pages.message(w, r, http.StatusOK, message{Key: "home", Field: true, Path: g.site.prefix + "/"})
}

// page shows what the server knows of a file. The script opens the name with the fragment. Whether
// the file is a file list is in the metadata too: until that is open, the page believes its
// address.
func (g *gateway) page(w *response, r *http.Request, c cid.Cid, list bool) error {
	w.route = "page"
	if err := allow(w, r, http.MethodGet, http.MethodHead, http.MethodPost); err != nil {
		return err
	}
	o, err := g.vault.Object(r.Context(), c)
	if err != nil {
		return err
	}
	defer o.Close()
	t := preferred(r)
	v := view{
		Language: t, Title: t.Text("page.title"), Path: g.site.page(c, list), CID: c.String(), Share: o.Share().Encode(), Meta: string(o.Meta()),
		Base: g.site.prefix + "/", All: list,
		Source: g.site.prefix + "/ipfs/" + c.String() + "/data?format=car", Worker: g.site.prefix + workerPath,
		Size: sizeOf(t, o.Size), Stored: momentOf(t, "about.stored", o.Created),
	}
	if g.viewer != nil {
		v.Shows = g.viewer.Extensions()
	}
	if !o.Expires.IsZero() {
		v.Until = momentOf(t, "page.until", o.Expires)
	}
	return g.pages.write(w, http.StatusOK, "file", v)
}

// workerPath is the address of the service worker, and its folder is the worker's scope: the worker
// answers for the addresses below, and for no page.
const workerPath = "/w/worker.js"

func (p *pages) serveWorker(w *response, r *http.Request) error {
	w.route, w.machine = "worker", true
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	w.Header().Set("Content-Security-Policy", workerCSP)
	return writeString(w, "text/javascript; charset=utf-8", p.worker)
}

func robots(w *response, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	return writeString(w, "text/plain; charset=utf-8", "User-agent: *\nDisallow: /\n")
}

// favicon answers browsers that ask for the default icon. Pages have theirs inline.
func favicon(w *response, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
