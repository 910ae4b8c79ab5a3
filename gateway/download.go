package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/filename"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

const (
	// maxForm bounds a request's body. A link is short, but people paste the text around it.
	maxForm = 16 << 10
	// formTimeout bounds how long a client may take to send a body.
	formTimeout = 15 * time.Second
)

// open proves the key from the page's form right, and redirects the browser to the file. c is
// undefined on the home page, whose form takes only a whole link.
func (g *gateway) open(w *response, r *http.Request, c cid.Cid) error {
	w.route = "open"
	c, fragment, err := g.site.readForm(r, c)
	if err != nil {
		return err
	}
	w.cid = c
	file, err := openFile(r.Context(), g.vault, c, fragment)
	if err != nil {
		return err
	}
	name := filename.Clean(file.Meta.Name)
	if err := file.Close(); err != nil {
		return err
	}
	ticket, err := g.vault.SealTicket(c, fragment)
	if err != nil {
		return fmt.Errorf("seal ticket: %w", err)
	}
	if g.viewer != nil && r.PostForm.Get("view") != "" {
		return seeOther(w, g.site.path(c, "/v/"+ticket))
	}
	return seeOther(w, g.site.path(c, "/t/"+ticket+"/"+url.PathEscape(name)))
}

func (s site) readForm(r *http.Request, c cid.Cid) (cid.Cid, crypto.Fragment, error) {
	if r.ParseForm() != nil {
		return c, crypto.Fragment{}, link.ErrIncomplete // ParseForm's error may quote the body
	}
	// Only PostForm: a key in the query would be in the log of every proxy.
	return s.parseKey(r.PostForm.Get("key"), c)
}

// takeBody reads a request's body: at most maxForm bytes, within formTimeout. Without that, the
// server would wait forever for a body that the handler does not read.
func takeBody(w *response, r *http.Request) error {
	if r.ContentLength == 0 {
		return nil
	}
	w.stall.Stop() // this waits for the client, not for the store
	_ = w.control.SetReadDeadline(time.Now().Add(formTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w.ResponseWriter, r.Body, maxForm))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return errTooLong
	}
	if err != nil {
		return link.ErrIncomplete
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	_ = w.control.SetReadDeadline(time.Time{})
	w.storeClock()
	return nil
}

// file streams the decrypted file that the ticket stands for.
func (g *gateway) file(w *response, r *http.Request, c cid.Cid, ticket string) error {
	w.route = "file"
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	file, err := g.openTicket(r, c, ticket)
	if err != nil {
		return err
	}
	defer file.Close()

	h := w.Header()
	h.Set("Cache-Control", fileCache)
	h.Set("Content-Disposition", disposition(filename.Clean(file.Meta.Name)))
	// Never the sender's type: a browser must save the file and never render it.
	h.Set("Content-Type", "application/octet-stream")
	switch file.Meta.Type {
	case skeleton.Type:
		return g.sendOriginal(w, r, c, file)
	case filelist.Type:
		return g.sendArchive(w, r, c, file)
	}
	h.Set("Etag", etag(c, "file"))
	return w.stream(r, file, file.Meta.Size)
}

// openTicket opens the file that a ticket stands for. The caller closes it.
func (g *gateway) openTicket(r *http.Request, c cid.Cid, ticket string) (*vault.File, error) {
	fragment, err := g.vault.OpenTicket(r.Context(), c, ticket)
	if err != nil {
		return nil, err
	}
	return openFile(r.Context(), g.vault, c, fragment)
}

func openFile(ctx context.Context, v Vault, c cid.Cid, f crypto.Fragment) (*vault.File, error) {
	o, err := v.Object(ctx, c)
	if err != nil {
		return nil, err
	}
	return o.Open(ctx, f)
}

// etag returns a strong ETag: the CID determines every byte, on every gateway.
func etag(c cid.Cid, what string) string { return `"` + c.String() + "." + what + `"` }
