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

// archiveForm versions the ZIP's layout in its ETag: increment it with any change to the bytes.
const archiveForm = "zip1"

// sendArchive streams the files of a file list as one ZIP. Each is opened like a single file, so
// only files that this installation serves are in it. The file list, and which of its files are
// left, determine every byte: a download resumes after a restart and on another gateway.
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

// left returns the files that can still be opened, and a name for this choice. It asks the store
// for each file, and leaves out a file that the store has lost like one that was revoked.
func left(w *response, r *http.Request, v Vault, all []filelist.File) (form string, files []filelist.File, err error) {
	choice := sha256.New()
	for i, f := range all {
		w.storeClock()
		o, err := v.Object(r.Context(), f.Link.CID)
		switch {
		case errors.Is(err, vault.ErrRevoked), errors.Is(err, vault.ErrExpired), errors.Is(err, vault.ErrNotFound):
			fmt.Fprintln(choice, i)
		case err != nil:
			return "", nil, fmt.Errorf("file %d of the file list: %w", i, err)
		default:
			_ = o.Close()
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

// openListed opens a file of the file list at an offset.
func openListed(ctx context.Context, v Vault, f filelist.File, offset int64) (io.ReadCloser, error) {
	file, err := openFile(ctx, v, f.Link.CID, f.Link.Fragment)
	if errors.Is(err, vault.ErrWrongKey) {
		return nil, fmt.Errorf("%w: %v", filelist.ErrInvalid, err) // the reader's own key was right
	}
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
