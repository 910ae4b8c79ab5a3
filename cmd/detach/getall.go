package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/filename"
	"github.com/nkirchhoffer/detach-mta/internal/zipstream"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// all downloads a ZIP of the files in a list. It is put together here, from files that are fetched, verified and decrypted one after the
// other. Those that are no longer there are left out, as by the gateway.
func (c *getCmd) all(e *env, r *remote) error {
	list, err := r.list(e.ctx)
	if err != nil {
		return err
	}
	files, err := r.left(e.ctx, list.Files)
	if err != nil {
		return err
	}
	zip := zipstream.New(entries(files), r.meta.Created, func(i int, _ int64) (io.ReadCloser, error) { // always from its beginning
		return r.part(e.ctx, files[i].Link)
	})
	defer zip.Close()
	out, err := create(c.Output, filelist.Name, r.link.CID, e.stdout)
	if err != nil {
		return err
	}
	if err := out.restart(); err != nil {
		return out.finish(err, 0)
	}
	err = c.watched(e, out, 0, zip.Size(), func(w io.Writer) error {
		_, err := io.Copy(w, zip)
		return err
	})
	if err = out.finish(err, 0); err != nil || out.path == "" {
		return err
	}
	_, err = fmt.Fprintf(e.stderr, "%s: %d files of %d, each checked against its SHA-256\n", plain(out.path), len(files), len(list.Files))
	return err
}

// list reads the list that r is.
func (r *remote) list(ctx context.Context) (filelist.List, error) {
	if r.meta.Size > filelist.MaxSize {
		return filelist.List{}, filelist.ErrTooMany
	}
	var text bytes.Buffer
	if err := r.copy(ctx, &text, newSum()); err != nil {
		return filelist.List{}, err
	}
	return filelist.Read(&text)
}

// left are the files that can still be opened.
func (r *remote) left(ctx context.Context, all []filelist.File) (files []filelist.File, err error) {
	for _, f := range all {
		file, err := r.open(ctx, f.Link)
		switch {
		case errors.Is(err, badStatus(http.StatusNotFound)), errors.Is(err, badStatus(http.StatusGone)), errors.Is(err, ipfs.ErrNotFound):
			continue
		case err != nil:
			return nil, err
		}
		file.close()
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, badStatus(http.StatusGone)
	}
	return files, nil
}

// entries are the files under the names that they would be saved by, each its own.
func entries(files []filelist.File) []zipstream.Entry {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = filename.Clean(f.Name)
	}
	entries := make([]zipstream.Entry, len(files))
	for i, name := range zipstream.Names(names) {
		entries[i] = zipstream.Entry{Name: name, Size: files[i].Size, CRC32: files[i].CRC32}
	}
	return entries
}
