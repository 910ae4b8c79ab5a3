package gateway

import (
	"net/http"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/gateway/viewer"
	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
)

// The destinations (Fetch Metadata, Sec-Fetch-Dest) for which a browser gets the frame, and the
// file in the frame. PDF.js fetches, so its destination is empty. Browsers have sent the
// destination since 2023 (Safari 16.4 was the last). Older ones get neither: the gateway could not
// tell the frame from a page of its own.
var (
	frameFor = []string{"iframe"}
	fileFor  = []string{"image", "audio", "video", "empty"}
)

// view serves the frame that shows a file (rest is TICKET), and the file (TICKET/file). Neither is
// ever a page of its own, under the gateway's name in the address bar: a sender could make one that
// looks like ours.
func (g *gateway) view(w *response, r *http.Request, c cid.Cid, rest string) error {
	w.route, w.machine = "view", true // an error in a frame is a line, not a page
	viewer.Secure(w.Header())
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	ticket, below, _ := strings.Cut(rest, "/")
	served := frameFor
	switch below {
	case "":
	case "file":
		served = fileFor
	default:
		return errNothing
	}
	switch dest := r.Header.Get("Sec-Fetch-Dest"); {
	case dest == "document": // for example a picture that is opened in a tab of its own
		return seeOther(w, g.site.page(c, false))
	case !slices.Contains(served, dest):
		return viewer.ErrKind
	}
	file, err := g.openTicket(r, c, ticket)
	if err != nil {
		return err
	}
	defer file.Close()
	if file.Meta.Type == skeleton.Type || file.Meta.Type == filelist.Type {
		return viewer.ErrKind // the download is not this object
	}
	shown := viewer.File{Content: file, Language: preferred(r)}
	if below == "" {
		shown.Address = g.site.path(c, "/v/"+ticket+"/file")
	}
	sendContent, err := g.viewer.Show(w, shown)
	if err != nil || !sendContent {
		return err
	}
	w.Header().Set("Cache-Control", fileCache)
	w.Header().Set("Etag", etag(c, "view"))
	return w.stream(r, file, file.Meta.Size)
}

// viewerFile serves a file of PDF.js.
func (g *gateway) viewerFile(w *response, r *http.Request, below string) error {
	w.route, w.machine = "viewer", true
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	return g.viewer.ServeLibrary(w, r, below)
}
