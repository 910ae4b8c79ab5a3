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

// sendOriginal streams the whole message as it was before Detach, put together from its skeleton
// and its attachments, which are opened like any other: only our own, and only while they are
// served.
//
// Range is not supported: the offset of a byte is known only after everything before it was
// encoded.
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
		return err // without flushing out, which could make the message look whole
	}
	if err := out.Flush(); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK) // of a message of no bytes
	return nil
}

// original is the client's side of a message that is being restored. The store's clock does not run
// while a slow client is served.
type original struct{ *response }

func (o *original) Write(p []byte) (int, error) {
	o.stall.Stop()
	defer o.storeClock()
	return o.response.Write(p)
}
