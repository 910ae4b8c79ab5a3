package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

// archiveForm versions the ZIP's layout in its ETag: increment it with any change to the bytes.
const archiveForm = "zip1"

// sendArchive streams the files of a file list as one ZIP. Each is opened like a single file, when
// its turn comes, so only files that this installation serves are in it. The file list, and which
// of its files are left, determine every byte: a download resumes after a restart and on another
// gateway. A file that the store has lost breaks the download off, and the next one leaves it out.
func (g *gateway) sendArchive(w *response, r *http.Request, c cid.Cid, list *vault.File) error {
	w.route = "archive"
	var all filelist.List
	err := g.readList(r.Context(), func() (err error) {
		all, err = filelist.Read(list)
		return err
	})
	if err != nil {
		return err
	}
	g.limits.charge(r, len(all.Files)/filesPerRequest)
	release, err := w.keep(r, 2*list.Meta.Size) // unpacked, the list is about twice as long
	if err != nil {
		return err
	}
	defer release()
	for {
		err := g.sendZIP(w, r, c, all.Files, list)
		if w.status != 0 || !errors.Is(err, errLost) {
			return err
		}
		w.Header().Del("Content-Range") // nothing is sent yet: begin again without the lost file
	}
}

// filesPerRequest is how many files of a list cost as much as a request: their links are parsed and
// their names made unique, whatever part of the ZIP is asked for.
const filesPerRequest = 50

// sendZIP sends the ZIP of the files of a list that are left.
func (g *gateway) sendZIP(w *response, r *http.Request, c cid.Cid, all []filelist.File, list *vault.File) error {
	form, files, err := g.left(all)
	if err != nil {
		return err
	}
	ctx := r.Context()
	zip := filelist.ZIP(files, list.Meta.Created, func(i int, offset int64) (io.ReadCloser, error) {
		return g.openListed(ctx, files[i], offset)
	})
	defer zip.Close()
	w.Header().Set("Etag", etag(c, form))
	return w.stream(r, allowed{zip, list}, zip.Size())
}

// allowed is content that is read for as long as the file may be served that it came from.
type allowed struct {
	io.ReadSeeker
	from *vault.File
}

func (a allowed) Read(p []byte) (int, error) {
	if err := a.from.Allowed(); err != nil {
		return 0, err
	}
	return a.ReadSeeker.Read(p)
}

// left returns the files that may be opened, and a name for this choice. It does not ask the store,
// so a request for a few bytes costs no more than they do.
func (g *gateway) left(all []filelist.File) (form string, files []filelist.File, err error) {
	choice := sha256.New()
	for i, f := range all {
		err := g.vault.Admit(f.Link.CID)
		switch {
		case g.lost.Has(f.Link.CID), errors.Is(err, vault.ErrRevoked), errors.Is(err, vault.ErrExpired), errors.Is(err, vault.ErrNotFound):
			fmt.Fprintln(choice, i)
		case err != nil:
			return "", nil, fmt.Errorf("file %d of the file list: %w", i, err)
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

// openListed opens a file of the file list at an offset.
func (g *gateway) openListed(ctx context.Context, f filelist.File, offset int64) (io.ReadCloser, error) {
	file, err := openFile(ctx, g.vault, f.Link.CID, f.Link.Fragment)
	if errors.Is(err, vault.ErrNotFound) {
		g.lost.Add(f.Link.CID)
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
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

// errLost means that the store has lost a file of the list.
var errLost = errors.New("a file of the file list is lost")

const (
	// lostTime is how long ZIPs leave a lost file out without asking the store for it again.
	lostTime = 10 * time.Minute
	maxLost  = 10_000
)
