package gateway

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/gateway/viewer"
	"github.com/nkirchhoffer/detach-mta/internal/faults"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// viewed opens a file as the page's frame does.
func (f *fixture) viewed(l link.Link) (frame *http.Response, at string) {
	f.t.Helper()
	resp := f.request(http.MethodPost, "/"+l.CID.String(), url.Values{"key": {l.Fragment.Encode()}, "view": {"1"}}.Encode())
	wantStatus(f.t, resp, http.StatusSeeOther)
	at = strings.TrimPrefix(resp.Header.Get("Location"), prefix)
	if !strings.Contains(at, "/v/") {
		f.t.Fatalf("the frame is sent to %s", at)
	}
	return f.get(at), at
}

// A frame shows the file, and a kind of file that a browser might run is refused in it. Neither has an
// origin, nor stays in a cache.
func TestFrameShowsTheFile(t *testing.T) {
	faults.Covers(t, 83)
	f := newFixture(t, options{})
	pdf := "application/pdf"
	if viewer.Version() == "" {
		pdf = ""
	}
	for name, tt := range map[string]struct{ content, want string }{
		"named.exe": {"GIF89a rest", "image/gif"},
		"a.mp3":     {"ID3 rest", "audio/mpeg"},
		"a.txt":     {"grüße", "text/plain; charset=utf-8"},
		"paper.pdf": {"%PDF-1.7 rest", pdf},
		"page.png":  {"<!doctype html><script>alert(1)</script>", ""},
	} {
		frame, at := f.viewed(f.put(name, []byte(tt.content)))
		answers := []*http.Response{frame}
		switch {
		case tt.want == "":
			wantStatus(t, frame, http.StatusUnsupportedMediaType)
			wantHeader(t, frame, "Content-Type", plain)
			wantHeader(t, frame, "Content-Disposition", "")
		case !strings.HasPrefix(tt.want, "text/"):
			wantStatus(t, frame, http.StatusOK)
			wantHeader(t, frame, "Content-Type", page)
			if body := string(readAll(t, frame)); !strings.Contains(body, `="`+prefix+at+`/file"`) {
				t.Errorf("%s: the frame is %s", name, body)
			}
			answers = append(answers, f.get(at+"/file"))
			piece := f.get(at+"/file", "Range", "bytes=1-3") // as players ask, and PDF.js
			wantStatus(t, piece, http.StatusPartialContent)
			wantHeader(t, piece, "Access-Control-Allow-Origin", "*")
			fallthrough
		default:
			file := answers[len(answers)-1]
			wantStatus(t, file, http.StatusOK)
			wantHeader(t, file, "Content-Type", tt.want)
			wantHeader(t, file, "Content-Disposition", "inline")
			if got := readAll(t, file); string(got) != tt.content {
				t.Errorf("%s: got %q, want %q", name, got, tt.content)
			}
		}
		for _, resp := range answers {
			wantHeader(t, resp, "X-Content-Type-Options", "nosniff")
			wantHeader(t, resp, "X-Frame-Options", "SAMEORIGIN")
			wantHeader(t, resp, "Referrer-Policy", "no-referrer")
			if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "; sandbox") || !strings.Contains(policy, "frame-ancestors 'self'") {
				t.Errorf("%s: the policy is %s", name, policy)
			}
			if !strings.HasPrefix(resp.Header.Get("Cache-Control"), noStore) {
				t.Errorf("%s: Cache-Control %q", name, resp.Header.Get("Cache-Control"))
			}
		}
	}
	l := f.put("a.txt", []byte("a"))
	wantStatus(t, f.get("/"+l.CID.String()+"/v/2026-01.AAAA"), http.StatusGone)
	wantStatus(t, f.request(http.MethodPost, "/"+l.CID.String()+"/v/2026-01.AAAA", ""), http.StatusMethodNotAllowed)
	wantStatus(t, f.get(viewer.Path+"0.0.0/LICENSE"), http.StatusNotFound)
	wantStatus(t, f.request(http.MethodPost, viewer.Path+"0.0.0/LICENSE", ""), http.StatusMethodNotAllowed)
}

// Switched off, the viewer leaves nothing but Download: no offer in the page, and no address.
func TestWithoutViewOnlyDownloadIsLeft(t *testing.T) {
	f := newFixture(t, options{})
	l := f.put("a.txt", []byte("a"))
	_, at := f.viewed(l)
	if body := string(readAll(t, f.get("/"+l.CID.String()))); !strings.Contains(body, ` data-shows="png `) {
		t.Error("the page does not offer to show files")
	}
	f.serve(f.vault, Config{DisableView: true})
	if body := string(readAll(t, f.get("/"+l.CID.String()))); strings.Contains(body, `id="view"`) {
		t.Error("the page offers to show files")
	}
	resp := f.request(http.MethodPost, "/"+l.CID.String(), url.Values{"key": {l.Fragment.Encode()}, "view": {"1"}}.Encode())
	if to := resp.Header.Get("Location"); !strings.Contains(to, "/t/") {
		t.Errorf("the form leads to %s, want a download", to)
	}
	for _, unknown := range []string{at, at + "/file", viewer.Path, viewer.Path + viewer.Version() + "/LICENSE"} {
		wantStatus(t, f.get(unknown), http.StatusNotFound)
	}
}
