package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

const (
	typeRaw = "application/vnd.ipld.raw"
	typeCAR = "application/vnd.ipld.car"
)

// trustless is https://specs.ipfs.tech/http-gateways/trustless-gateway/ for the objects of this
// installation: /ipfs/CID, and the two entries below it. It answers with blocks, never with files.
func (g *gateway) trustless(w *response, r *http.Request, path string) error {
	w.route, w.machine = "ipfs", true
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	name, entry, _ := strings.Cut(path, "/")
	c, err := link.ParseCID(name)
	if err != nil || entry != "" && entry != "data" && entry != "meta.jwe" {
		return errNothing
	}
	w.cid = c
	if err := g.serveBlocks(w, r, c, entry); err != nil {
		return err
	}
	g.done(w, r)
	return nil
}

func (g *gateway) serveBlocks(w *response, r *http.Request, c cid.Cid, entry string) error {
	format := blockFormat(r)
	if format == "" {
		return errFormat
	}
	if err := g.cacheable(w, r, c); err != nil {
		return err
	}
	blocks, err := g.vault.Blocks(r.Context(), c)
	if err != nil {
		return err
	}
	defer blocks.Close()
	t, err := resolve(r.Context(), patient{blocks, w}, c, entry)
	if err != nil {
		return err
	}
	defer t.close()

	h := w.Header()
	h.Set("Vary", "Accept")
	h.Set("X-Ipfs-Path", strings.TrimSuffix("/ipfs/"+c.String()+"/"+entry, "/"))
	h.Set("X-Ipfs-Roots", t.roots())
	if format == typeRaw {
		return t.serveBlock(w, r)
	}
	return t.serveCAR(w, r)
}

// blockFormat reads what is asked for. The parameter goes before the header, as the spec has it.
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

// target is where a path ends, with the blocks that lead there.
type target struct {
	blocks ipfs.Blocks
	root   cid.Cid    // the first element of the path
	c      cid.Cid    // the last one
	node   []byte     // the block of c, verified: proof, before any status, that the store answers
	leaf   *ipfs.File // the same, if it is one of a file's leaves, which are large
	above  []byte     // the block of root, if c is below it
}

func resolve(ctx context.Context, blocks ipfs.Blocks, root cid.Cid, entry string) (*target, error) {
	t := &target{blocks: blocks, root: root, c: root}
	var err error
	if t.node, err = verified(ctx, blocks, root); err != nil || entry == "" {
		return t, err
	}
	t.above = t.node
	entries, err := ipfs.OpenDirectory(ctx, blocks, root)
	if err != nil {
		return nil, err
	}
	var ok bool
	if t.c, ok = entries[entry]; !ok {
		return nil, ipfs.ErrNotFound
	}
	if t.c.Type() == cid.Raw {
		t.leaf, err = ipfs.OpenFile(ctx, blocks, t.c)
	} else {
		t.node, err = verified(ctx, blocks, t.c)
	}
	return t, err
}

func (t *target) close() {
	if t.leaf != nil {
		_ = t.leaf.Close() // which gives memory back, and cannot fail
	}
}

func verified(ctx context.Context, blocks ipfs.Blocks, c cid.Cid) ([]byte, error) {
	data, err := blocks.Get(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	return data, ipfs.Verify(c, data)
}

func (t *target) roots() string {
	if t.c == t.root {
		return t.root.String()
	}
	return t.root.String() + "," + t.c.String()
}

func (t *target) serveBlock(w *response, r *http.Request) error {
	h := w.Header()
	h.Set("Content-Disposition", `attachment; filename="`+t.c.String()+`.bin"`)
	h.Set("Content-Type", typeRaw)
	h.Set("Etag", etag(t.c, "raw"))
	if t.leaf != nil {
		return w.stream(r, t.leaf, t.leaf.Size())
	}
	return w.stream(r, bytes.NewReader(t.node), int64(len(t.node)))
}

// serveCAR sends everything below the target, and the block above it, which proves that it is
// where the path says. Of a file it may be only what is needed from some byte on (entity-bytes).
// Other scopes get everything: more blocks than asked for do no harm.
func (t *target) serveCAR(w *response, r *http.Request) error {
	from, scope := entityFrom(r), "car"
	if from > 0 {
		scope += strconv.FormatInt(from, 10)
	}
	h := w.Header()
	h.Set("Accept-Ranges", "none")
	h.Set("Content-Disposition", `attachment; filename="`+t.c.String()+`.car"`)
	h.Set("Content-Type", typeCAR+"; version=1; order=dfs; dups=y")
	h.Set("Etag", `W/`+etag(t.c, scope)) // weak, as the spec asks: another server may order blocks otherwise
	if r.Header.Get("If-None-Match") == h.Get("Etag") {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	out := &carWriter{w: w}
	if t.above != nil {
		out.section = section(t.root, t.above)
	}
	t.close()
	return ipfs.ExportCAR(r.Context(), out, t.blocks, t.c, from)
}

// entityFrom is the first byte that entity-bytes=FROM:TO asks for; 0 if it says so or counts from the
// end, which costs whoever asks no more than a longer answer.
func entityFrom(r *http.Request) int64 {
	from, _, _ := strings.Cut(r.URL.Query().Get("entity-bytes"), ":")
	n, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// carWriter puts one more section behind a CAR's header.
type carWriter struct {
	w       io.Writer
	header  int // what of the header has passed: its length and itself are one Write or more
	section []byte
}

// carHeaderSize is that of any CARv1 with one root of ours: a length byte, and 58 of DAG-CBOR.
const carHeaderSize = 59

func (c *carWriter) Write(p []byte) (int, error) {
	rest := min(carHeaderSize-c.header, len(p))
	n, err := c.w.Write(p[:rest])
	if c.header += n; err != nil || c.header < carHeaderSize {
		return n, err
	}
	if len(c.section) > 0 {
		if _, err := c.w.Write(c.section); err != nil {
			return n, err
		}
		c.section = nil
	}
	if rest == len(p) {
		return n, nil
	}
	m, err := c.w.Write(p[rest:])
	return n + m, err
}

// section is a block in a CAR: length, CID, data.
func section(c cid.Cid, data []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(c.ByteLen()+len(data)))
	return append(append(b, c.Bytes()...), data...)
}

// patient are Blocks that keep the store's clock: it runs while a block is on its way.
type patient struct {
	ipfs.Blocks
	w *response
}

func (p patient) Get(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	p.w.stall.Reset(p.w.cfg.StoreTimeout)
	defer p.w.stall.Stop()
	return p.Blocks.Get(ctx, c, buf)
}
