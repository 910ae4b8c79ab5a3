package gateway

import (
	"bytes"
	"embed"
	"encoding/base64"
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

// pages renders the pages. A page contains its style and script, so it is one request. The policy
// allows these two blocks by their hashes, and no others.
type pages struct {
	site      site
	look      look
	templates *template.Template
	style     template.CSS
	script    template.JS
	worker    string
	csp       string
}

// newPages returns an error if the brand is wrong. It panics if the embedded files are broken.
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

// scripts returns files of the script without their comments and indentation, which are for us.
func scripts(names ...string) string {
	var b strings.Builder
	for _, name := range names {
		for line := range strings.Lines(mustRead(name)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
				b.WriteString(line + "\n")
			}
		}
	}
	return strings.TrimSpace(b.String())
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
	CID, Size          string
	Base               string   // begins the addresses of files
	All                bool     // the address is that of a file list
	Core, Meta, Origin string   // from these, the share and the fragment, the script opens the name
	Shows              string   // the extensions of files that the page can show, or empty
	Source, Worker     string   // the addresses of the ciphertext and the service worker
	Until              *lastDay // nil: the file does not expire

	// a message
	Message string
	Field   bool
}

// message is a page without a file: an error, or the home page.
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

// sizeOf returns a size as the pages' script writes it, with a space that does not break the line.
func sizeOf(t *texts.Language, n int64) string { return strings.ReplaceAll(t.Size(n), " ", "\u00a0") }

// SizeWords returns the words with which the script writes sizes, in JSON.
func (v view) SizeWords() (string, error) {
	words, err := json.Marshal(map[string]any{"bytes": v.Bytes, "units": v.Units.Names, "decimal": v.Units.DecimalSign})
	return string(words), err
}

// lastDay is the last day of a file, and the sentence that it stands in. The script writes Shown
// anew in the reader's words.
type lastDay struct{ Before, Day, Shown, After string }

func lastDayBefore(end time.Time, t *texts.Language) *lastDay {
	day := texts.LastDay(end)
	d := &lastDay{Day: day.Format(time.DateOnly), Shown: t.Day(day)}
	d.Before, d.After, _ = strings.Cut(t.Text("page.until"), "{date}")
	return d
}

// home serves the page that takes a pasted link.
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

// page shows what the server knows of a file. The script opens the name with the fragment. Until
// the script has opened the metadata, the page takes a file for a file list if its address says so.
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
	t, origin := preferred(r), o.Origin()
	v := view{
		Language: t, Title: t.Text("page.title"), Path: g.site.page(c, list), CID: c.String(), Base: g.site.prefix + "/", All: list,
		Core: o.Core().String(), Meta: string(o.Meta()), Origin: base64.RawURLEncoding.EncodeToString(origin[:]),
		Source: g.site.prefix + "/ipfs/" + c.String() + "/data?format=car", Worker: g.site.prefix + workerPath,
		Size: sizeOf(t, o.Size),
	}
	if g.viewer != nil {
		v.Shows = g.viewer.Extensions()
	}
	if !o.Expires.IsZero() {
		v.Until = lastDayBefore(o.Expires, t)
	}
	return g.pages.write(w, http.StatusOK, "file", v)
}

// workerPath is the address of the service worker. Its folder is the worker's scope, so the worker
// answers only addresses below /w/.
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

// favicon answers requests for the default icon with no content. Pages have their icon inline.
func favicon(w *response, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
