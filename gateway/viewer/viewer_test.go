package viewer

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

var (
	none = fstest.MapFS{} // a build without PDF.js
	some = fstest.MapFS{
		packagePath + "/package.json":             {Data: []byte(`{"name": "pdfjs-dist", "version": "1.2.3"}`)},
		packagePath + "/LICENSE":                  {Data: []byte("license")},
		packagePath + "/legacy/build/pdf.min.mjs": {Data: bytes.Repeat([]byte("export const one = 1;\n"), 1000)},
		packagePath + "/wasm/jbig2.wasm":          {Data: []byte("\x00asm")},
		packagePath + "/cmaps/Uni.bcmap":          {Data: []byte("map")},
	}
)

// show calls Show in a build. It returns the answer and whether the caller is to send the content.
func show(build fstest.MapFS, content, address string) (*httptest.ResponseRecorder, bool, error) {
	w := httptest.NewRecorder()
	Secure(w.Header())
	words := &texts.Language{Pages: map[string]string{"view.failed": "<failed>"}}
	send, err := newViewer("/p", build).Show(w, File{strings.NewReader(content), address, words})
	return w, send, err
}

// The first bytes alone decide the type. A file that a browser might run is refused.
func TestBytesDecideWhatIsShown(t *testing.T) {
	faults.Covers(t, 83)
	const refused = ""
	for content, want := range map[string]string{
		"\x89PNG\r\n\x1a\n rest":       "image/png",
		"\xff\xd8\xff rest":            "image/jpeg",
		"GIF89a rest":                  "image/gif",
		"RIFF\x00\x00\x00\x00WEBPVP8 ": "image/webp",
		"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1miaf": "image/avif",
		"ID3 rest":                     "audio/mpeg",
		"RIFF\x00\x00\x00\x00WAVEfmt ": "audio/wav",
		"OggS\x00 rest":                "audio/ogg",
		"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom": "video/mp4",
		"\x1a\x45\xdf\xa3 rest":                            "video/webm",
		"%PDF-1.7":                                         "application/octet-stream",
		"grüße\n":                                          "text/plain; charset=utf-8",
		strings.Repeat("a", sniffed-1) + "ü":               "text/plain; charset=utf-8", // sniffed ends within a character
		"gr\xfc\xdfe\n":                                    "text/plain; charset=windows-1252",
		"":                                                 "text/plain; charset=utf-8",
		"<!doctype html><script>alert(1)</script>":                                         refused,
		"  <script>alert(1)</script>":                                                      refused,
		"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>": refused,
		"MZ\x90\x00\x03": refused,
		"PK\x03\x04":     refused,
	} {
		w, send, err := show(some, content, "")
		if got := w.Header().Get("Content-Type"); got != want || send != (want != refused) || (err != nil) != (want == refused) || err != nil && !errors.Is(err, ErrKind) {
			t.Errorf("%q: got %q, %v, %v, want %q", content, got, send, err, want)
		}
	}
}

// A frame has no origin. Its policy allows scripts only for a PDF: ours and PDF.js.
func TestFramesHaveNoOrigin(t *testing.T) {
	faults.Covers(t, 83)
	for content, want := range map[string]struct{ body, policy string }{
		"GIF89a":                {`<img src="/p/file&amp;"`, "; sandbox"},
		"ID3 rest":              {`<audio src="/p/file&amp;" controls>`, "; sandbox"},
		"\x1a\x45\xdf\xa3 rest": {`<video src="/p/file&amp;" controls>`, "; sandbox"},
		"%PDF-1.7":              {`data-file="/p/file&amp;" data-library="/p/viewer/1.2.3/" data-failed="&lt;failed&gt;"`, "; sandbox allow-scripts"},
	} {
		w, send, err := show(some, content, "/p/file&")
		if send || err != nil || !strings.Contains(w.Body.String(), want.body) {
			t.Errorf("%q: got %v, %v and the frame %s", content, send, err, w.Body)
		}
		_, style, _ := strings.Cut(w.Body.String(), "<style>")
		style, _, _ = strings.Cut(style, "</style>")
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'; style-src "+BlockHash(style)+"; ") || !strings.HasSuffix(policy, want.policy) || strings.Contains(policy, "'unsafe-") {
			t.Errorf("%q: the policy is %s", content, policy)
		}
	}
}

func TestBuildWithoutPDFJSRefusesPDFsAlone(t *testing.T) {
	if _, _, err := show(none, "%PDF-1.7", "/f"); !errors.Is(err, ErrKind) {
		t.Errorf("a PDF: got %v, want %v", err, ErrKind)
	}
	if _, send, err := show(none, "text", "/f"); !send || err != nil {
		t.Errorf("a text: got %v, %v", send, err)
	}
	v := newViewer("", none)
	if got := v.Extensions(); strings.Contains(got, "pdf") || newViewer("", some).Extensions() != got+" pdf" {
		t.Errorf("got the extensions %q", got)
	}
	if err := v.ServeLibrary(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), "1.2.3/LICENSE"); !errors.Is(err, ErrNoFile) {
		t.Errorf("got %v, want %v", err, ErrNoFile)
	}
}

// Files of PDF.js have the version in their address, and are compressed if the client allows it.
func TestLibraryIsServedByteForByte(t *testing.T) {
	faults.Covers(t, 83)
	v := newViewer("", some)
	r := httptest.NewRequest("GET", "/", nil)
	for _, tt := range []struct{ name, encoding, contentType string }{
		{"LICENSE", "", "text/plain; charset=utf-8"},
		{"legacy/build/pdf.min.mjs", "", "text/javascript; charset=utf-8"},
		{"legacy/build/pdf.min.mjs", "gzip", "text/javascript; charset=utf-8"},
		{"wasm/jbig2.wasm", "gzip", "application/wasm"},
		{"cmaps/Uni.bcmap", "", "application/octet-stream"},
	} {
		r.Header.Set("Accept-Encoding", tt.encoding)
		w := httptest.NewRecorder()
		err := v.ServeLibrary(w, r, "1.2.3/"+tt.name)
		body, err2 := io.Reader(w.Body), error(nil)
		if tt.encoding != "" {
			body, err2 = gzip.NewReader(w.Body)
		}
		if err != nil || err2 != nil {
			t.Fatalf("%s: %v, %v", tt.name, err, err2)
		}
		if got, err := io.ReadAll(body); !bytes.Equal(got, some[packagePath+"/"+tt.name].Data) || err != nil {
			t.Errorf("%s: got %d other bytes, %v", tt.name, len(got), err)
		}
		h := w.Header()
		if h.Get("Content-Type") != tt.contentType || h.Get("Content-Encoding") != tt.encoding || h.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s: got the headers %v", tt.name, h)
		}
	}
	for _, below := range []string{"1.2.3/legacy/build/pdf.sandbox.min.mjs", "1.2.3/legacy", "1.2.3/", "0.0.0/LICENSE", "LICENSE", ""} {
		if err := v.ServeLibrary(httptest.NewRecorder(), r, below); !errors.Is(err, ErrNoFile) {
			t.Errorf("%q: got %v, want %v", below, err, ErrNoFile)
		}
	}
}
