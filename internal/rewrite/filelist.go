package rewrite

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// storeManifest stores the list of the mail's files and returns the link to all of them. Of a single file
// there is no list, and of more files than one can have none either: then the link is nil.
func (w *walk) storeManifest() (*link.Link, error) {
	if len(w.cuts) < filelist.MinFiles || len(w.cuts) > filelist.MaxFiles {
		return nil, nil
	}
	files := make([]filelist.File, len(w.cuts))
	for i, c := range w.cuts {
		files[i] = filelist.File{Link: c.link, Name: c.name, Type: c.mediaType, Size: c.size, CRC32: c.crc32}
	}
	list, err := filelist.Marshal(files)
	if errors.Is(err, filelist.ErrTooMany) {
		return nil, nil // names of a megabyte: they have their own links
	}
	if err != nil {
		return nil, err
	}
	l, err := w.detacher.Detach(w.ctx, filelist.Name, filelist.Type, bytes.NewReader(list))
	if err != nil {
		return nil, fmt.Errorf("store list of files: %w", err)
	}
	l.All = true
	return &l, nil
}
