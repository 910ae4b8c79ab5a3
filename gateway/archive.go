package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/filename"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/internal/zipstream"
)

// archiveForm is in the ETag: whoever changes a byte of what the same list gives has to count it up.
const archiveForm = "zip1"

// archive streams all of a mail's files as one ZIP, by the list of them. The files are opened like any other:
// only our own, and only while they are served. Its bytes follow from the list and from which of the files are
// left, so a download resumes, after a restart too and on another gateway.
func (g *gateway) archive(w *response, r *http.Request, c cid.Cid, file *vault.File) error {
	w.route = "archive"
	list, err := filelist.Read(file)
	if err != nil {
		return err
	}
	form, files, err := g.left(w, r, list.Files)
	if err != nil {
		return err
	}
	ctx := r.Context()
	zip := zipstream.New(entries(files), file.Meta.Created, func(i int, offset int64) (io.ReadCloser, error) {
		return g.openEntry(ctx, files[i], offset)
	})
	defer zip.Close()
	w.Header().Set("Etag", etag(c, form))
	if err := w.stream(r, zip, zip.Size()); err != nil {
		return err
	}
	g.done(w, r)
	return nil
}

// left returns the files that are still served, and a name for this choice of them.
func (g *gateway) left(w *response, r *http.Request, all []filelist.File) (form string, files []filelist.File, err error) {
	choice := sha256.New()
	for i, f := range all {
		w.stall.Reset(w.cfg.StoreTimeout)
		_, err := g.vault.Stat(r.Context(), f.Link.CID)
		switch {
		case errors.Is(err, vault.ErrRevoked), errors.Is(err, vault.ErrExpired), errors.Is(err, vault.ErrNotFound):
			fmt.Fprintln(choice, i)
		case err != nil:
			return "", nil, fmt.Errorf("file %d of the list: %w", i, err)
		default:
			files = append(files, f)
		}
	}
	switch len(files) {
	case 0:
		return "", nil, errAllGone
	case len(all):
		return archiveForm, files, nil
	}
	return fmt.Sprintf("%s-%x", archiveForm, choice.Sum(nil)[:16]), files, nil
}

// entries are the files under the names that they would be saved by, each its own.
func entries(files []filelist.File) []zipstream.Entry {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = filename.Clean(f.Name)
	}
	names = zipstream.Names(names)
	es := make([]zipstream.Entry, len(files))
	for i, f := range files {
		es[i] = zipstream.Entry{Name: names[i], Size: f.Size, CRC32: f.CRC32}
	}
	return es
}

// openEntry opens a file where it is to be read from.
func (g *gateway) openEntry(ctx context.Context, f filelist.File, offset int64) (io.ReadCloser, error) {
	file, err := g.vault.Open(ctx, f.Link.CID, f.Link.Fragment)
	if errors.Is(err, vault.ErrWrongKey) {
		return nil, fmt.Errorf("%w: %v", filelist.ErrInvalid, err) // the list's key, and not the reader's
	}
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// list gives the sealed list of a mail's files to the script of a page, with what opens it beside the key:
// all in one answer. It is for lists alone, which are short.
func (g *gateway) list(w *response, r *http.Request, c cid.Cid) error {
	w.route, w.machine = "list", true
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	share, err := g.vault.Share(r.Context(), c)
	if err != nil {
		return err
	}
	meta, err := g.readSealed(r.Context(), c, "meta.jwe", crypto.MaxMeta)
	if err != nil {
		return err
	}
	data, err := g.readSealed(r.Context(), c, "data", filelist.MaxSize)
	if err != nil {
		return err
	}
	answer, err := json.Marshal(sealedList{share.Encode(), string(meta), data})
	if err != nil {
		return fmt.Errorf("sealed list: %w", err)
	}
	if err := writeString(w, "application/json", string(answer)); err != nil {
		return err
	}
	g.done(w, r)
	return nil
}

// sealedList is a list and what opens it beside its key.
type sealedList struct {
	Share string `json:"share"`
	Meta  string `json:"meta"`
	Data  []byte `json:"data"` // in base64
}
