package main

import (
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/manifest"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/proxy/rewrite"
)

type getCmd struct {
	Output string `short:"o" placeholder:"FILE" help:"Where to write: a file (replaced if it exists), a directory, or - for standard output. Default: the file's own name, here, and never over another."`
	Link   string `arg:"" help:"The link, as it stands in the mail. Put it in quotes."`
}

// Run downloads one file. Only verified bytes are written, and only a whole file gets its name.
func (c *getCmd) Run(e *env) error {
	l, err := link.Parse(c.Link)
	if errors.Is(err, link.ErrIncomplete) {
		return usageError{errors.New("the link is incomplete: copy all of it, to the last letter after #, and put it in quotes")}
	}
	if err != nil {
		return usageError{errors.New("this is no link to a detached file: it looks like https://HOST/bafy…#z…")}
	}
	var out *output
	var bar *progress
	begin := func(name string, size int64) (w io.Writer, err error) {
		if out, err = create(c.Output, cleanName(name), e.stdout); err != nil {
			return nil, err
		}
		bar = newProgress(e.stderr, size)
		return io.MultiWriter(out, bar), nil
	}
	var bones *rewrite.Spool
	meta, err := fetch(e.ctx, l, func(m crypto.Meta) (io.Writer, error) {
		if m.Type == skeleton.Type || m.Type == manifest.Type {
			bones = rewrite.NewSpool("")
			return bones, nil
		}
		return begin(m.Name, m.Size)
	})
	what := "the whole original message"
	if bones != nil {
		switch {
		case err != nil:
		case meta.Type == manifest.Type:
			what, err = fetchAll(e.ctx, l, bones, meta.Created, begin)
		default:
			err = fetchOriginal(e.ctx, l, bones, begin)
		}
		err = errors.Join(err, bones.Close())
	}
	if bar != nil {
		bar.clear()
	}
	if out != nil {
		err = out.finish(err)
	}
	if err != nil || out.path == "" {
		return err
	}
	if bones != nil {
		_, err = fmt.Fprintf(e.stderr, "%s: %s\n", out.path, what)
		return err
	}
	_, err = fmt.Fprintf(e.stderr, "%s: %s, checked against SHA-256 %x\n", out.path, bytesOf(meta.Size), meta.SHA256)
	return err
}

// fetch gets, verifies and decrypts what l names. It asks for the destination once the key is proved right, and writes to it only bytes
// of blocks that match their CIDs. What was written is the whole file only if the error is nil.
func fetch(ctx context.Context, l link.Link, destination func(crypto.Meta) (io.Writer, error)) (crypto.Meta, error) {
	g := newGatewayClient(l.Base)
	defer g.close()
	key, meta, err := g.unlock(ctx, l)
	if err != nil {
		return meta, err
	}
	body, err := g.open(ctx, "/ipfs/"+l.CID.String()+"?format=car", "application/vnd.ipld.car")
	if err != nil {
		return meta, err
	}
	defer body.Close()
	file, err := openData(ctx, l, body)
	if err != nil {
		return meta, damaged(err)
	}
	if file.Size() != meta.Size {
		return meta, damaged(fmt.Errorf("%d bytes are stored of %d", file.Size(), meta.Size))
	}
	w, err := destination(meta)
	if err != nil {
		return meta, err
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, sum), cipher.StreamReader{S: key.Stream(0), R: file}); err != nil {
		return meta, damaged(err)
	}
	if [sha256.Size]byte(sum.Sum(nil)) != meta.SHA256 {
		return meta, damaged(errors.New("its SHA-256 is another"))
	}
	return meta, nil
}

// fetchOriginal puts a message together from its skeleton and what the skeleton names, all of it from the gateway of l.
func fetchOriginal(ctx context.Context, l link.Link, bones *rewrite.Spool, begin func(name string, size int64) (io.Writer, error)) error {
	m, err := skeleton.Open(bones.Section(0, bones.Size()))
	if err != nil {
		return err
	}
	w, err := begin(skeleton.Name, m.Size())
	if err != nil {
		return err
	}
	return m.Restore(ctx, w, func(ctx context.Context, part link.Link) (io.ReadCloser, error) {
		if part.Base != l.Base {
			return nil, errors.New("an attachment of the message is said to be at another gateway")
		}
		return fetching(ctx, part), nil
	})
}

// fetching is a file that is fetched while it is read. What was read is the whole file only if it ends with io.EOF.
func fetching(ctx context.Context, l link.Link) io.ReadCloser {
	r, pipe := io.Pipe()
	go func() {
		_, err := fetch(ctx, l, func(crypto.Meta) (io.Writer, error) { return pipe, nil })
		pipe.CloseWithError(err)
	}()
	return r
}

// openData finds the file in the object that arrives, and nothing is believed: neither the root the gateway says, nor a block.
func openData(ctx context.Context, l link.Link, car io.Reader) (*ipfs.File, error) {
	root, blocks, err := ipfs.ReadCAR(car)
	if err != nil {
		return nil, err
	}
	if !root.Equals(l.CID) {
		return nil, fmt.Errorf("%w: the gateway sent another object", ipfs.ErrCorrupt)
	}
	entries, err := ipfs.OpenDirectory(ctx, blocks, root)
	if err != nil {
		return nil, err
	}
	data, ok := entries["data"]
	if !ok {
		return nil, fmt.Errorf("%w: the object has no data", ipfs.ErrCorrupt)
	}
	return ipfs.OpenFile(ctx, blocks, data)
}

// unlock joins the key and proves it.
func (g *gatewayClient) unlock(ctx context.Context, l link.Link) (key crypto.Key, meta crypto.Meta, err error) {
	text, err := g.read(ctx, "/"+l.CID.String()+"/share")
	if err != nil {
		return key, meta, err
	}
	share, err := crypto.ParseShare(text)
	if err != nil {
		return key, meta, errors.New("the gateway's answer is not one of Detach: is the link's address right?")
	}
	key = crypto.Join(l.Fragment, share)
	jwe, err := g.read(ctx, "/"+l.CID.String()+"/meta.jwe")
	if err != nil {
		return key, meta, err
	}
	meta, err = key.OpenMeta([]byte(jwe))
	if errors.Is(err, crypto.ErrWrongKey) {
		err = errors.New("the link does not open this file: it was cut short or changed on its way; copy all of it, to the last letter after #")
	}
	return key, meta, err
}

// damaged puts before an error what it means to whoever waits for a file.
func damaged(err error) error {
	switch {
	case errors.Is(err, ipfs.ErrCorrupt), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, ipfs.ErrNotFound):
		return fmt.Errorf("the file did not arrive whole, so nothing is kept of it; try again: %w", err)
	}
	return err
}

var (
	errNotFound = errors.New("the file is not found at this gateway: is the link complete?")
	errGone     = errors.New("the link no longer works: the file has expired or was withdrawn; ask the sender for it")
)

// sentence is what an answer other than 200 means.
func sentence(status int) error {
	switch status {
	case http.StatusNotFound:
		return errNotFound
	case http.StatusGone:
		return errGone
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return errors.New("the gateway cannot reach its storage, or is busy: try again later")
	}
	return fmt.Errorf("the gateway answered %d %s", status, http.StatusText(status))
}
