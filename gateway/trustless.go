package gateway

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

const (
	typeRaw = "application/vnd.ipld.raw"
	typeCAR = "application/vnd.ipld.car"
)

// trustless implements https://specs.ipfs.tech/http-gateways/trustless-gateway/ for the objects of
// this installation, /ipfs/CID, and their entries. It answers with blocks, never with files.
func (g *gateway) trustless(w *response, r *http.Request, path string) error {
	w.route, w.machine = "ipfs", true
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	name, entry, _ := strings.Cut(path, "/")
	c, err := link.ParseCID(name)
	if err != nil {
		return errNothing
	}
	w.cid = c
	format := blockFormat(r)
	if format == "" {
		return errFormat
	}
	return g.answer(w, r, c, "ipfs", func(w *response, r *http.Request, o *vault.Object) error {
		if !o.CID(entry).Defined() { // also for what few objects have
			return errNothing
		}
		cacheable(w, o)
		h := w.Header()
		h.Set("Vary", "Accept")
		h.Set("X-Ipfs-Path", strings.TrimSuffix("/ipfs/"+path, "/"))
		h.Set("X-Ipfs-Roots", roots(o, entry))
		if format == typeRaw {
			return sendBlock(w, r, o, entry)
		}
		return sendCAR(w, r, o, entry)
	})
}

// blockFormat returns the requested format, or "". The parameter precedes the header (spec).
func blockFormat(r *http.Request) string {
	switch r.URL.Query().Get("format") {
	case "raw":
		return typeRaw
	case "car":
		return typeCAR
	case "":
	default:
		return ""
	}
	for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		mediaType, _, _ := strings.Cut(part, ";")
		switch strings.TrimSpace(mediaType) {
		case typeRaw:
			return typeRaw
		case typeCAR:
			return typeCAR
		}
	}
	return ""
}

// roots returns the CIDs of the path's elements.
func roots(o *vault.Object, entry string) string {
	root := o.CID("").String()
	if entry == "" {
		return root
	}
	return root + "," + o.CID(entry).String()
}

// sendBlock sends the block at the end of the path.
func sendBlock(w *response, r *http.Request, o *vault.Object, entry string) error {
	c := o.CID(entry)
	h := w.Header()
	h.Set("Content-Disposition", `attachment; filename="`+c.String()+`.bin"`)
	h.Set("Content-Type", typeRaw)
	h.Set("Etag", etag(c, "raw"))
	if c.Type() == cid.Raw { // a leaf is the whole entry, and may be large
		leaf, err := o.Entry(r.Context(), entry)
		if err != nil {
			return err
		}
		defer leaf.Close()
		return w.stream(r, leaf, leaf.Size())
	}
	node, err := o.Blocks().Get(r.Context(), c, nil)
	if err == nil {
		err = ipfs.Verify(c, node)
	}
	if err != nil {
		return err
	}
	return w.stream(r, bytes.NewReader(node), int64(len(node)))
}

// sendCAR sends the directory, which proves the path, and all blocks below the end of the path.
// With entity-bytes it leaves out leaves before that offset. Other scopes get all blocks.
func sendCAR(w *response, r *http.Request, o *vault.Object, entry string) error {
	c, from, scope := o.CID(entry), entityFrom(r), "car"
	if from > 0 {
		scope += strconv.FormatInt(from, 10)
	}
	h := w.Header()
	h.Set("Accept-Ranges", "none")
	h.Set("Content-Disposition", `attachment; filename="`+c.String()+`.car"`)
	h.Set("Content-Type", typeCAR+"; version=1; order=dfs; dups=y")
	h.Set("Etag", `W/`+etag(c, scope)) // weak (spec): another server may send the blocks in another order
	if r.Header.Get("If-None-Match") == h.Get("Etag") {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	release, err := w.keep(r, ipfs.ExportMemory(o.Size))
	if err != nil {
		return err
	}
	defer release()
	return ipfs.ExportCAR(r.Context(), w, patient{o.Blocks(), w}, o.CID(""), entry, from)
}

// entityFrom returns FROM of entity-bytes=FROM:TO, or 0 if FROM is negative or malformed.
func entityFrom(r *http.Request) int64 {
	from, _, _ := strings.Cut(r.URL.Query().Get("entity-bytes"), ":")
	n, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// patient runs the store's clock while a block is fetched.
type patient struct {
	ipfs.Blocks
	w *response
}

func (p patient) Get(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	p.w.storeClock()
	defer p.w.stall.Stop()
	return p.Blocks.Get(ctx, c, buf)
}

func (p patient) GetPart(ctx context.Context, c cid.Cid, off int64, buf []byte) error {
	p.w.storeClock()
	defer p.w.stall.Stop()
	return p.Blocks.GetPart(ctx, c, off, buf)
}
