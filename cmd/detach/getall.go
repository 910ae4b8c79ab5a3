package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/archive"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/manifest"
	"github.com/nkirchhoffer/detach-mta/proxy/rewrite"
)

// fetchAll puts a ZIP together from the list of a mail's files, all of which are fetched, verified and decrypted here. It says what came
// of it. Files that are no longer there are left out, as the gateway does.
func fetchAll(ctx context.Context, l link.Link, list *rewrite.Spool, created time.Time, begin func(name string, size int64) (io.Writer, error)) (string, error) {
	m, err := manifest.Read(list.Section(0, list.Size()))
	if err != nil {
		return "", err
	}
	files, err := left(ctx, l, m.Files)
	if err != nil {
		return "", err
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = cleanName(f.Name)
	}
	entries := make([]archive.Entry, len(files))
	for i, name := range archive.Names(names) {
		entries[i] = archive.Entry{Name: name, Size: files[i].Size, CRC32: files[i].CRC32}
	}
	zip := archive.New(entries, created, func(i int, _ int64) (io.ReadCloser, error) { // always from its beginning
		return fetching(ctx, files[i].Link), nil
	})
	defer zip.Close()
	w, err := begin(manifest.Name, zip.Size())
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(w, zip); err != nil {
		return "", err
	}
	what := fmt.Sprintf("%d files, each checked against its SHA-256", len(files))
	if gone := len(m.Files) - len(files); gone > 0 {
		what += fmt.Sprintf("; left out, expired or withdrawn: %d", gone)
	}
	return what, nil
}

// left are the files that the gateway still serves.
func left(ctx context.Context, l link.Link, all []manifest.File) (files []manifest.File, err error) {
	g := newGatewayClient(l.Base)
	defer g.close()
	for _, f := range all {
		if f.Link.Base != l.Base {
			return nil, errors.New("the files are said to be at another gateway")
		}
		_, err := g.read(ctx, "/"+f.Link.CID.String()+"/share")
		switch {
		case errors.Is(err, errNotFound), errors.Is(err, errGone):
		case err != nil:
			return nil, err
		default:
			files = append(files, f)
		}
	}
	if len(files) == 0 {
		return nil, errGone
	}
	return files, nil
}
