package gateway

import (
	"fmt"
	"net/http"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

// yearOfCache is for addresses that determine their content (RFC 8246).
const yearOfCache = 365 * 24 * time.Hour

// sendShare sends B, the gateway's half of the key, which is useless without the link.
func sendShare(w *response, _ *http.Request, o *vault.Object) error {
	return writeString(w, "text/plain; charset=utf-8", o.Share().Encode())
}

// sendEntry streams the ciphertext of an entry of the object.
func sendEntry(name string) sender {
	return func(w *response, r *http.Request, o *vault.Object) error {
		content, err := o.Entry(r.Context(), name)
		if err != nil {
			return err
		}
		defer content.Close()
		cacheable(w, o)
		h := w.Header()
		h.Set("Content-Disposition", `attachment; filename="`+o.CID("").String()+"."+name+`"`)
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Etag", etag(o.CID(""), name))
		return w.stream(r, content, content.Size())
	}
}

// cacheable lets caches hold ciphertext until the object expires.
func cacheable(w *response, o *vault.Object) {
	age := yearOfCache
	if !o.Expires.IsZero() {
		age = max(0, min(age, time.Until(o.Expires)))
	}
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d, immutable, no-transform", int64(age.Seconds())))
}
