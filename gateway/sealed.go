package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
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

// sealedFileList is a sealed file list with its share and metadata.
type sealedFileList struct {
	Share string `json:"share"`
	Meta  string `json:"meta"`
	Data  []byte `json:"data"` // in base64
}

// sendFileList sends a sealed file list to a page's script, in one answer. It refuses an object
// that is longer than a file list may be.
func sendFileList(w *response, r *http.Request, o *vault.Object) error {
	content, err := o.Entry(r.Context(), "data")
	if err != nil {
		return err
	}
	defer content.Close()
	if content.Size() > filelist.MaxSize {
		return errNothing
	}
	data, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	answer, err := json.Marshal(sealedFileList{o.Share().Encode(), string(o.Meta()), data})
	if err != nil {
		return fmt.Errorf("sealed file list: %w", err)
	}
	return writeString(w, "application/json", string(answer))
}
