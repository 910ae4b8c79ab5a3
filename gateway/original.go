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
func sendOriginal(w *response, r *http.Request, v Vault, c cid.Cid, file *vault.File) error {
	w.route = "original"
	m, err := skeleton.Open(file)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Accept-Ranges", "none")
	h.Set("Content-Length", strconv.FormatInt(m.Size(), 10))
	h.Set("Etag", etag(c, "original"))
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	out := bufio.NewWriterSize(&original{w}, bufferSize)
	err = m.Restore(r.Context(), out, func(ctx context.Context, l link.Link) (io.ReadCloser, error) {
		w.storeClock()
		return openFile(ctx, v, l.CID, l.Fragment)
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

// original writes a message to the client. The store's clock stops meanwhile.
type original struct{ *response }

func (o *original) Write(p []byte) (int, error) {
	o.stall.Stop()
	defer o.storeClock()
	return o.response.Write(p)
}
