package gateway

import (
	"fmt"
	"net/http"
	"time"

	"github.com/ipfs/go-cid"
)

// yearOfCache is for what its name describes to the last bit (RFC 8246).
const yearOfCache = 365 * 24 * time.Hour

// share gives out B, the gateway's half of the key, which opens nothing without the link.
func (g *gateway) share(w *response, r *http.Request, c cid.Cid) error {
	w.route, w.machine = "share", true
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	share, err := g.vault.Share(r.Context(), c)
	if err != nil {
		return err
	}
	if err := writeString(w, "text/plain; charset=utf-8", share.Encode()); err != nil {
		return err
	}
	g.done(w, r)
	return nil
}

// sealed streams an entry of the object as it is stored.
func (g *gateway) sealed(w *response, r *http.Request, c cid.Cid, name string) error {
	w.route, w.machine = name, true
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	if err := g.cacheable(w, r, c); err != nil {
		return err
	}
	content, err := g.vault.Sealed(r.Context(), c, name)
	if err != nil {
		return err
	}
	defer content.Close()
	h := w.Header()
	h.Set("Content-Disposition", `attachment; filename="`+c.String()+"."+name+`"`)
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Etag", etag(c, name))
	if err := w.stream(r, content, content.Size()); err != nil {
		return err
	}
	g.done(w, r)
	return nil
}

// cacheable lets caches hold ciphertext, but not for longer than it is served here: what a cache
// gives out after that, nobody could decrypt with the help of this server anyway.
func (g *gateway) cacheable(w *response, r *http.Request, c cid.Cid) error {
	stat, err := g.vault.Stat(r.Context(), c)
	if err != nil {
		return err
	}
	age := yearOfCache
	if !stat.Expires.IsZero() {
		age = max(0, min(age, time.Until(stat.Expires)))
	}
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d, immutable, no-transform", int64(age.Seconds())))
	return nil
}
