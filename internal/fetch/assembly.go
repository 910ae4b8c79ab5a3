package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// Assembly is a file that is put together from several objects, each fetched and verified when its
// turn comes. It can be written once, from its beginning. The caller closes it.
type Assembly struct {
	Size int64
	// Files counts the files in a ZIP: those that can still be opened. Listed counts its file list.
	Files, Listed int

	write func(io.Writer) error
	close func() error
}

// Copy writes the whole file to w.
func (a *Assembly) Copy(w io.Writer) error { return a.write(w) }

// Close releases what the Assembly holds.
func (a *Assembly) Close() error { return a.close() }

// Original assembles the message from its skeleton, which is o, and its attachments.
func (o *Object) Original(ctx context.Context) (*Assembly, error) {
	stored := spool.New(nil)
	if err := o.Copy(ctx, stored, nil); err != nil {
		return nil, errors.Join(err, stored.Close())
	}
	m, err := skeleton.Open(stored.Section(0, stored.Size()))
	if err != nil {
		return nil, errors.Join(err, stored.Close())
	}
	return &Assembly{
		Size:  m.Size(),
		write: func(w io.Writer) error { return m.Restore(ctx, w, o.original) },
		close: stored.Close,
	}, nil
}

// original opens an attachment of a message, or its encoded form. The encoded form is short, so it
// is not resumed after a broken connection.
func (o *Object) original(ctx context.Context, l link.Link, encoded bool) (io.ReadCloser, error) {
	if !encoded {
		return o.part(ctx, l)
	}
	if !o.leadsHere(l) {
		return nil, errElsewhere
	}
	part, err := o.client.Open(ctx, l)
	if err != nil {
		return nil, err
	}
	r, err := part.encoded(ctx)
	if err != nil {
		part.Close()
		return nil, err
	}
	return encodedPart{r, part}, nil
}

// encodedPart closes an attachment with its encoded form.
type encodedPart struct {
	io.ReadCloser
	part *Object
}

func (p encodedPart) Close() error {
	defer p.part.Close()
	return p.ReadCloser.Close()
}

var errElsewhere = errors.New("the message names a file at another gateway than its own")

// leadsHere reports whether a link is to the same gateway as the object's own. With an escrow no
// gateway is asked.
func (o *Object) leadsHere(l link.Link) bool {
	return o.client.Escrow != nil || l.Base == o.Link.Base
}

// part opens an attachment of a message, or a file of a file list. It refuses a link to another
// gateway than the message's: a sender must not lead the client elsewhere.
func (o *Object) part(ctx context.Context, l link.Link) (io.ReadCloser, error) {
	if !o.leadsHere(l) {
		return nil, errElsewhere
	}
	in, pipe := io.Pipe()
	go func() {
		_, err := o.client.Fetch(ctx, l, pipe)
		pipe.CloseWithError(err)
	}()
	return in, nil
}

// ZIP assembles the files of a file list, which is o. Like the gateway, it leaves out a file that
// can no longer be opened.
func (o *Object) ZIP(ctx context.Context) (*Assembly, error) {
	list, err := o.list(ctx)
	if err != nil {
		return nil, err
	}
	files, err := o.available(ctx, list.Files)
	if err != nil {
		return nil, err
	}
	open := func(i int, _ int64) (io.ReadCloser, error) { // the offset is 0: Copy begins there
		return o.part(ctx, files[i].Link)
	}
	zip := filelist.ZIP(files, o.Meta.Created, open)
	write := func(w io.Writer) error {
		_, err := io.Copy(w, zip)
		return err
	}
	return &Assembly{zip.Size(), len(files), len(list.Files), write, zip.Close}, nil
}

func (o *Object) list(ctx context.Context) (filelist.List, error) {
	if o.Meta.Size > filelist.MaxSize {
		return filelist.List{}, filelist.ErrTooMany
	}
	var text bytes.Buffer
	if err := o.Copy(ctx, &text, nil); err != nil {
		return filelist.List{}, err
	}
	return filelist.Read(&text)
}

// available returns the files that can still be opened.
func (o *Object) available(ctx context.Context, listed []filelist.File) (files []filelist.File, err error) {
	for _, f := range listed {
		file, err := o.client.Open(ctx, f.Link)
		switch {
		case errors.Is(err, errNotFound), errors.Is(err, errGone), errors.Is(err, ipfs.ErrNotFound):
			continue
		case err != nil:
			return nil, err
		}
		file.Close()
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, errGone
	}
	return files, nil
}
