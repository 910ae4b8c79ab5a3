package gateway

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/gateway/viewer"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// viewed opens a file like the page's frame.
func (f *fixture) viewed(l link.Link) (frame *http.Response, at string) {
	f.t.Helper()
	resp := f.request(http.MethodPost, "/"+l.CID.String(), url.Values{"key": {l.Fragment.Encode()}, "view": {"1"}}.Encode())
	wantStatus(f.t, resp, http.StatusSeeOther)
	at = strings.TrimPrefix(resp.Header.Get("Location"), prefix)
	if !strings.Contains(at, "/v/") {
		f.t.Fatalf("the frame is sent to %s", at)
	}
	return f.get(at, "Sec-Fetch-Dest", "iframe"), at
}

// A frame shows the file, or says that it cannot. Its answers have no origin and are not cached.
func TestFrameShowsTheFile(t *testing.T) {
	faults.Covers(t, 83)
	f := newFixture(t, 0)
	const sound = "ID3 rest"
	frame, at := f.viewed(f.put("named.exe", []byte(sound)))
	wantHeader(t, frame, "Content-Type", page)
	wantText(t, "the frame", string(readAll(t, frame)), `src="`+prefix+at+`/file"`)
	// Players and PDF.js send Range.
	file, piece := f.get(at+"/file", "Sec-Fetch-Dest", "audio"), f.get(at+"/file", "Range", "bytes=1-3", "Sec-Fetch-Dest", "audio")
	text, _ := f.viewed(f.put("a.txt", []byte(sound[1:])))
	refused, _ := f.viewed(f.put("page.png", []byte("<!doctype html><script>alert(1)</script>")))
	for resp, want := range map[*http.Response]struct {
		status     int
		kind, body string
	}{
		file:    {http.StatusOK, "audio/mpeg", sound},
		piece:   {http.StatusPartialContent, "audio/mpeg", sound[1:4]},
		text:    {http.StatusOK, plain, sound[1:]},
		refused: {http.StatusUnsupportedMediaType, plain, "This file cannot be shown here\n"},
	} {
		wantStatus(t, resp, want.status)
		wantHeader(t, resp, "Content-Type", want.kind)
		if got := string(readAll(t, resp)); got != want.body {
			t.Errorf("got %q, want %q", got, want.body)
		}
		inline := "inline"
		if resp == refused {
			inline = ""
		}
		wantHeader(t, resp, "Content-Disposition", inline)
	}
	for _, resp := range []*http.Response{frame, file, piece, text, refused} {
		wantHeader(t, resp, "X-Content-Type-Options", "nosniff")
		wantHeader(t, resp, "X-Frame-Options", "SAMEORIGIN")
		wantHeader(t, resp, "Referrer-Policy", "no-referrer")
		if policy := resp.Header.Get("Content-Security-Policy"); !strings.HasSuffix(policy, "; sandbox") {
			t.Errorf("the policy is %s", policy)
		}
		if cache := resp.Header.Get("Cache-Control"); !strings.HasPrefix(cache, noStore) {
			t.Errorf("Cache-Control is %s", cache)
		}
	}
	closed := path.Dir(at) + "/2026-01.AAAA"
	wantStatus(t, f.get(closed, "Sec-Fetch-Dest", "iframe"), http.StatusGone)
	wantStatus(t, f.request(http.MethodPost, closed, ""), http.StatusMethodNotAllowed)
	wantStatus(t, f.get(at+"/files", "Sec-Fetch-Dest", "empty"), http.StatusNotFound)
	wantStatus(t, f.get(viewer.Path+"0.0.0/LICENSE"), http.StatusNotFound)
	wantStatus(t, f.request(http.MethodPost, viewer.Path+"0.0.0/LICENSE", ""), http.StatusMethodNotAllowed)
}

// A browser gets the frame and the file only for their places in a page, never as a page of their
// own. A PDF is never a PDF to the browser.
func TestFilesAreNoPagesOfTheirOwn(t *testing.T) {
	faults.Covers(t, 83)
	f := newFixture(t, 0)
	for content, into := range map[string]string{"GIF89a": "image", "ID3 rest": "audio", "\x1a\x45\xdf\xa3 rest": "video", "text": "iframe"} {
		l := f.put("a.pdf", []byte(content))
		_, at := f.viewed(l)
		for _, dest := range []string{"", "document", "iframe", "frame", "embed", "object", "fencedframe", "image", "audio", "video", "empty", "script", "style", "worker"} {
			for _, below := range []string{"", "/file"} {
				want := http.StatusUnsupportedMediaType
				switch {
				case dest == "document":
					want = http.StatusSeeOther
				case (dest == "iframe") == (below == "") && (dest == "iframe" || slices.Contains(fileFor, dest)):
					want = http.StatusOK
				}
				resp := f.get(at+below, "Sec-Fetch-Dest", dest)
				wantStatus(t, resp, want)
				if want == http.StatusSeeOther {
					wantHeader(t, resp, "Location", prefix+"/"+l.CID.String())
				}
				if want != http.StatusOK {
					wantNoText(t, dest+" "+below, string(readAll(t, resp)), content)
				}
			}
		}
		resp := f.get(at+"/file", "Sec-Fetch-Dest", into)
		if kind := resp.Header.Get("Content-Type"); into != "iframe" && !strings.HasPrefix(kind, into+"/") {
			t.Errorf("%s: the file has the type %s", into, kind)
		}
	}
}

// Without the viewer, a page offers only the download, and the viewer's addresses are unknown.
func TestWithoutViewOnlyDownloadIsLeft(t *testing.T) {
	f := newFixture(t, 0)
	l := f.put("a.txt", []byte("a"))
	_, at := f.viewed(l)
	wantText(t, "the page", f.body("/"+l.CID.String()), ` data-shows="png `)
	f.serve(f.vault, Config{DisableView: true})
	wantNoText(t, "the page", f.body("/"+l.CID.String()), `id="view"`)
	resp := f.request(http.MethodPost, "/"+l.CID.String(), url.Values{"key": {l.Fragment.Encode()}, "view": {"1"}}.Encode())
	if to := resp.Header.Get("Location"); !strings.Contains(to, "/t/") {
		t.Errorf("the form leads to %s, want a download", to)
	}
	for _, unknown := range []string{at, at + "/file", viewer.Path, viewer.Path + "0.0.0/LICENSE"} {
		wantStatus(t, f.get(unknown), http.StatusNotFound)
	}
}
