package gateway

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strconv"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

// sendOriginal streams the message as it was before Detach, made from its skeleton and its
// attachments. Each attachment is opened like a single file, so only files that this installation
// serves are in it. Range is not supported: offsets are known only after encoding.
func (g *gateway) sendOriginal(w *response, r *http.Request, c cid.Cid, file *vault.File) error {
	w.route = "original"
	h := w.Header()
	h.Set("Accept-Ranges", "none")
	h.Set("Etag", etag(c, "original"))
	if r.Method == http.MethodHead {
		size, err := skeleton.ReadSize(file)
		if err != nil {
			return err
		}
		h.Set("Content-Length", strconv.FormatInt(size, 10))
		w.WriteHeader(http.StatusOK)
		return nil
	}
	m, err := skeleton.Open(file)
	if err != nil {
		return err
	}
	release, err := w.keep(r, skeleton.Memory+originalBuffer)
	if err != nil {
		return err
	}
	defer release()
	h.Set("Content-Length", strconv.FormatInt(m.Size(), 10))
	out := bufio.NewWriterSize(&original{w, file}, originalBuffer)
	err = m.Restore(r.Context(), out, func(ctx context.Context, l link.Link, encoded bool) (io.ReadCloser, error) {
		w.storeClock()
		if !encoded {
			return openFile(ctx, g.vault, l.CID, l.Fragment)
		}
		o, err := g.vault.Object(ctx, l.CID)
		if err != nil {
			return nil, err
		}
		return o.OpenEncoded(ctx, l.Fragment)
	})
	if err != nil {
		return err // a flush could make the message look whole
	}
	if err := out.Flush(); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK) // if the message is empty
	return nil
}

// originalBuffer is the unit in which a message is sent. A message that is shorter is checked
// before any of it is sent.
const originalBuffer = 64 << 10

// original writes a message to the client, for as long as its skeleton may be served. The store's
// clock stops meanwhile.
type original struct {
	*response
	skeleton *vault.File
}

func (o *original) Write(p []byte) (int, error) {
	if err := o.skeleton.Allowed(); err != nil {
		return 0, err
	}
	o.stall.Stop()
	defer o.storeClock()
	return o.response.Write(p)
}
