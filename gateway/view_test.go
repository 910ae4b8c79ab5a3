package gateway

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

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

func (f *fixture) wantFile(resp *http.Response, contentType, content string) {
	f.t.Helper()
	wantStatus(f.t, resp, http.StatusOK)
	wantHeader(f.t, resp, "Content-Type", contentType)
	wantHeader(f.t, resp, "Content-Disposition", "inline")
	if got := readAll(f.t, resp); string(got) != content {
		f.t.Errorf("%s: %d bytes", contentType, len(got))
	}
}

// What is shown, the bytes decide; what a browser might run is not shown, whatever it is called.
func TestView(t *testing.T) {
	faults.Covers(t, 83)
	f := newFixture(t, options{})
	const refused = ""
	for _, tt := range []struct{ name, content, want string }{
		{"a.png", "\x89PNG\r\n\x1a\n rest", "image/png"},
		{"a.jpg", "\xff\xd8\xff rest", "image/jpeg"},
		{"a.gif", "GIF89a rest", "image/gif"},
		{"a.webp", "RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"},
		{"a.avif", "\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1miaf", "image/avif"},
		{"a.mp3", "ID3 rest", "audio/mpeg"},
		{"a.wav", "RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav"},
		{"a.mp4", "\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "video/mp4"},
		{"a.webm", "\x1a\x45\xdf\xa3 rest", "video/webm"},
		{"a.txt", "grüße\n", "text/plain; charset=utf-8"},
		{"cut.txt", strings.Repeat("a", sniffed-1) + "ü", "text/plain; charset=utf-8"},
		{"latin1.txt", "gr\xfc\xdfe\n", "text/plain; charset=windows-1252"},
		{"empty.txt", "", "text/plain; charset=utf-8"},
		{"named.exe", "GIF89a rest", "image/gif"},
		{"page.png", "<!doctype html><script>alert(1)</script>", refused},
		{"page.txt", "  <script>alert(1)</script>", refused},
		{"drawing.png", "<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", refused},
		{"program.txt", "MZ\x90\x00\x03", refused},
		{"archive.zip", "PK\x03\x04", refused},
	} {
		frame, at := f.viewed(f.put(tt.name, []byte(tt.content)))
		answers := []*http.Response{frame}
		switch kind, _, _ := strings.Cut(tt.want, "/"); kind {
		case refused:
			wantStatus(t, frame, http.StatusUnsupportedMediaType)
			wantHeader(t, frame, "Content-Type", plain)
			wantHeader(t, frame, "Content-Disposition", "")
		case "text":
			f.wantFile(frame, tt.want, tt.content)
		default:
			wantStatus(t, frame, http.StatusOK)
			wantHeader(t, frame, "Content-Type", page)
			if body := string(readAll(t, frame)); !strings.Contains(body, `src="`+prefix+at+`/file"`) || !strings.Contains(body, "<style>"+viewStyle+"</style>") {
				t.Errorf("%s: the frame is %s", tt.name, body)
			}
			file := f.get(at + "/file")
			f.wantFile(file, tt.want, tt.content)
			answers = append(answers, file)
		}
		for _, resp := range answers {
			for name, want := range map[string]string{
				"Content-Security-Policy": fmt.Sprintf(viewCSP, cspHash(viewStyle)), "X-Content-Type-Options": "nosniff",
				"X-Frame-Options": "SAMEORIGIN", "Referrer-Policy": "no-referrer",
			} {
				wantHeader(t, resp, name, want)
			}
			if !strings.HasPrefix(resp.Header.Get("Cache-Control"), noStore) {
				t.Errorf("%s: Cache-Control %q", tt.name, resp.Header.Get("Cache-Control"))
			}
		}
	}
	// A PDF is drawn by a script of ours, in a frame that has no origin either. The script fetches the file.
	frame, at := f.viewed(f.put("paper.pdf", []byte("%PDF-1.7")))
	wantStatus(t, frame, http.StatusOK)
	wantHeader(t, frame, "Content-Type", page)
	policy := frame.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "; sandbox allow-scripts; ") || !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "'unsafe-") {
		t.Errorf("the policy of the PDF's frame is %s", policy)
	}
	if body := string(readAll(t, frame)); !strings.Contains(body, `data-file="`+prefix+at+`/file"`) {
		t.Errorf("the PDF's frame is %s", body)
	}
	file := f.get(at+"/file", "Range", "bytes=1-3")
	wantStatus(t, file, http.StatusPartialContent)
	wantHeader(t, file, "Content-Type", mimePDF)
	wantHeader(t, file, "Access-Control-Allow-Origin", "*")
	wantHeader(t, file, "Content-Security-Policy", fmt.Sprintf(viewCSP, cspHash(viewStyle)))
	// A player asks for pieces.
	_, at = f.viewed(f.put("a.mp3", []byte("ID3 rest")))
	wantStatus(t, f.get(at+"/file", "Range", "bytes=2-4"), http.StatusPartialContent)
	l := f.put("a.txt", []byte("a"))
	wantStatus(t, f.get("/"+l.CID.String()+"/v/2026-01.AAAA"), http.StatusGone)
	wantStatus(t, f.request(http.MethodPost, "/"+l.CID.String()+"/v/2026-01.AAAA", ""), http.StatusMethodNotAllowed)
}

// The files of PDF.js are what is in the ZIP, compressed for those who take that. What runs the scripts of a PDF is not among them.
func TestViewerFiles(t *testing.T) {
	faults.Covers(t, 83)
	f := newFixture(t, options{})
	const name = "legacy/build/pdf.min.mjs"
	plainly := f.get(viewerPath+name, "Accept-Encoding", "identity")
	wantStatus(t, plainly, http.StatusOK)
	want := readAll(t, plainly)
	zipped := f.get(viewerPath+name, "Accept-Encoding", "br, gzip")
	wantHeader(t, zipped, "Content-Encoding", "gzip")
	packed := readAll(t, zipped)
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(unpacked)
	if err != nil || !bytes.Equal(got, want) || len(got) < 100_000 || len(packed) > len(got)/2 {
		t.Errorf("%d bytes packed are %d, want %d: %v", len(packed), len(got), len(want), err)
	}
	for _, resp := range []*http.Response{plainly, zipped} {
		wantHeader(t, resp, "Content-Type", "text/javascript; charset=utf-8")
		wantHeader(t, resp, "Cache-Control", "public, max-age=31536000, immutable")
		wantHeader(t, resp, "Access-Control-Allow-Origin", "*")
		wantHeader(t, resp, "Content-Security-Policy", sandboxCSP)
	}
	for name := range newViewer().files {
		head := f.request(http.MethodHead, viewerPath+name, "")
		wantStatus(t, head, http.StatusOK)
		if head.Header.Get("Content-Type") == "" || strings.Contains(name, "sandbox") || strings.Contains(name, "quickjs") {
			t.Errorf("%s: %q", name, head.Header.Get("Content-Type"))
		}
	}
	wantStatus(t, f.get(viewerPath+"legacy/build/pdf.sandbox.min.mjs"), http.StatusNotFound)
	wantStatus(t, f.get("/viewer/0.0.0/"+name), http.StatusNotFound)
	wantStatus(t, f.request(http.MethodPost, viewerPath+name, ""), http.StatusMethodNotAllowed)
}
