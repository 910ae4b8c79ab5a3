package viewer

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

// none are the files of a build without PDF.js.
var none = fstest.MapFS{}

// some stand for the package of PDF.js.
var some = fstest.MapFS{
	"package.json":                     {Data: []byte(`{"name": "pdfjs-dist", "version": "1.2.3"}`)},
	"LICENSE":                          {Data: []byte("license")},
	"legacy/build/pdf.min.mjs":         {Data: bytes.Repeat([]byte("export const one = 1;\n"), 1000)},
	"wasm/jbig2.wasm":                  {Data: []byte("\x00asm")},
	"cmaps/UniJIS-UCS2-H.bcmap":        {Data: []byte("map")},
	"standard_fonts/FoxitDingbats.pfb": {Data: []byte("font")},
}

// The bytes decide what a file is. A file that a browser might run is refused, whatever its name says.
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
		"%PDF-1.7":                                         mimePDF,
		"grüße\n":                                          "text/plain; charset=utf-8",
		strings.Repeat("a", sniffed-1) + "ü":               "text/plain; charset=utf-8", // cut within a character
		"gr\xfc\xdfe\n":                                    "text/plain; charset=windows-1252",
		"":                                                 "text/plain; charset=utf-8",
		"<!doctype html><script>alert(1)</script>":                                         refused,
		"  <script>alert(1)</script>":                                                      refused,
		"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>": refused,
		"MZ\x90\x00\x03": refused,
		"PK\x03\x04":     refused,
	} {
		reader := strings.NewReader(content)
		w := httptest.NewRecorder()
		send, err := newViewer("", some).Show(w, File{Content: reader})
		if want == refused {
			if !errors.Is(err, ErrKind) || send {
				t.Errorf("%q: got %v, %v, want %v", content, send, err, ErrKind)
			}
			continue
		}
		rest, _ := io.ReadAll(reader)
		if got := w.Header().Get("Content-Type"); got != want || !send || err != nil || string(rest) != content {
			t.Errorf("%q: got %q, %v, %v, and %d bytes to send, want %q", content, got, send, err, len(rest), want)
		}
	}
}

// A frame has no origin, and its policy allows no script but the viewer's own, which draws a PDF.
func TestFramesHaveNoOrigin(t *testing.T) {
	faults.Covers(t, 83)
	words := &texts.Language{Pages: map[string]string{"view.failed": "<failed>"}}
	for content, want := range map[string]struct{ body, policy string }{
		"GIF89a":                {`<img src="/p/file&amp;"`, "; sandbox; "},
		"ID3 rest":              {`<audio src="/p/file&amp;" controls>`, "; sandbox; "},
		"\x1a\x45\xdf\xa3 rest": {`<video src="/p/file&amp;" controls>`, "; sandbox; "},
		"%PDF-1.7":              {`data-file="/p/file&amp;" data-library="/p/viewer/1.2.3/" data-failed="&lt;failed&gt;"`, "; sandbox allow-scripts; "},
	} {
		w := httptest.NewRecorder()
		Secure(w.Header())
		send, err := newViewer("/p", some).Show(w, File{Content: strings.NewReader(content), Address: "/p/file&", Language: words})
		if send || err != nil || !strings.Contains(w.Body.String(), want.body) {
			t.Errorf("%q: got %v, %v and the frame %s", content, send, err, w.Body)
		}
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'; ") || !strings.Contains(policy, want.policy) || strings.Contains(policy, "'unsafe-") {
			t.Errorf("%q: the policy is %s", content, policy)
		}
		_, style, _ := strings.Cut(w.Body.String(), "<style>")
		style, _, _ = strings.Cut(style, "</style>")
		if !strings.Contains(policy, "style-src "+BlockHash(style)) {
			t.Errorf("%q: the policy does not allow the style: %s", content, policy)
		}
	}
}

// A build without PDF.js works in all else.
func TestWithoutPDFJSPDFsAreRefused(t *testing.T) {
	v := newViewer("", none)
	if _, err := v.Show(httptest.NewRecorder(), File{Content: strings.NewReader("%PDF-1.7"), Address: "/f"}); !errors.Is(err, ErrKind) {
		t.Errorf("got %v, want %v", err, ErrKind)
	}
	if send, err := v.Show(httptest.NewRecorder(), File{Content: strings.NewReader("text"), Address: "/f"}); !send || err != nil {
		t.Errorf("a text: got %v, %v", send, err)
	}
	if got := v.Extensions(); strings.Contains(got, "pdf") || newViewer("", some).Extensions() != got+" pdf" {
		t.Errorf("got the extensions %q", got)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if err := v.ServeLibrary(httptest.NewRecorder(), r, "1.2.3/LICENSE"); !errors.Is(err, ErrNoFile) {
		t.Errorf("got %v, want %v", err, ErrNoFile)
	}
}

// The files of PDF.js are served as they are, compressed for clients that accept it, under their version.
func TestLibraryIsServedByteForByte(t *testing.T) {
	faults.Covers(t, 83)
	v := newViewer("", some)
	types := map[string]string{"LICENSE": "text/plain; charset=utf-8", "legacy/build/pdf.min.mjs": "text/javascript; charset=utf-8", "wasm/jbig2.wasm": "application/wasm"}
	for name, f := range some {
		for _, encoding := range []string{"", "br, gzip"} {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("Accept-Encoding", encoding)
			w := httptest.NewRecorder()
			if err := v.ServeLibrary(w, r, "1.2.3/"+name); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := plainBody(t, w); !bytes.Equal(got, f.Data) {
				t.Errorf("%s: got %d bytes, want %d", name, len(got), len(f.Data))
			}
			want := types[name]
			if want == "" {
				want = "application/octet-stream"
			}
			if got := w.Header().Get("Content-Type"); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
			if got := w.Header().Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
				t.Errorf("%s: Cache-Control %q", name, got)
			}
		}
	}
	for _, below := range []string{"1.2.3/legacy/build/pdf.sandbox.min.mjs", "1.2.3/legacy", "1.2.3/", "0.0.0/LICENSE", "LICENSE", ""} {
		if err := v.ServeLibrary(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil), below); !errors.Is(err, ErrNoFile) {
			t.Errorf("%q: got %v, want %v", below, err, ErrNoFile)
		}
	}
}

// plainBody undoes the encoding of an answer.
func plainBody(t *testing.T, w *httptest.ResponseRecorder) []byte {
	t.Helper()
	body := io.Reader(w.Body)
	if w.Header().Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			t.Fatal(err)
		}
		body = z
	}
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
