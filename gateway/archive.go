package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

// archiveForm versions the form of the ZIP in its ETag. Increment it with any change to the bytes
// that the same list gives.
const archiveForm = "zip1"

// sendArchive streams the files of a file list as one ZIP. The files are opened like any other:
// only our own, and only while they are served. Its bytes follow from the list and from which of
// the files are left, so a download resumes, after a restart too and on another gateway.
func sendArchive(w *response, r *http.Request, v Vault, c cid.Cid, list *vault.File) error {
	w.route = "archive"
	all, err := filelist.Read(list)
	if err != nil {
		return err
	}
	form, files, err := left(w, r, v, all.Files)
	if err != nil {
		return err
	}
	ctx := r.Context()
	zip := filelist.ZIP(files, list.Meta.Created, func(i int, offset int64) (io.ReadCloser, error) {
		return openListed(ctx, v, files[i], offset)
	})
	defer zip.Close()
	w.Header().Set("Etag", etag(c, form))
	return w.stream(r, zip, zip.Size())
}

// left returns the files that can still be opened, and a name for this choice of them. It asks the
// store for each: a file that the store has lost is left out like one that was revoked.
func left(w *response, r *http.Request, v Vault, all []filelist.File) (form string, files []filelist.File, err error) {
	choice := sha256.New()
	for i, f := range all {
		w.storeClock()
		o, err := v.Object(r.Context(), f.Link.CID)
		switch {
		case errors.Is(err, vault.ErrRevoked), errors.Is(err, vault.ErrExpired), errors.Is(err, vault.ErrNotFound):
			fmt.Fprintln(choice, i)
		case err != nil:
			return "", nil, fmt.Errorf("file %d of the list: %w", i, err)
		default:
			_ = o.Close() // it was only asked for
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

// openListed opens a file of the list at the offset where it is to be read from.
func openListed(ctx context.Context, v Vault, f filelist.File, offset int64) (io.ReadCloser, error) {
	file, err := openFile(ctx, v, f.Link.CID, f.Link.Fragment)
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
