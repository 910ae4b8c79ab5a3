package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/filename"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/installation"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

func TestDownloadIsTheWholeFile(t *testing.T) {
	f := newFixture(t, 0)
	for _, size := range []int{0, 1, 15, 16, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 77} {
		content := noise(size)
		l := f.put("report.pdf", content)
		file := f.ticket(l)
		resp := f.get(file)
		wantStatus(t, resp, 200)
		wantHeader(t, resp, "Content-Length", fmt.Sprint(size))
		wantHeader(t, resp, "Content-Disposition", "attachment; filename=report.pdf")
		wantHeader(t, resp, "Cache-Control", fileCache)
		wantHeader(t, resp, "Accept-Ranges", "bytes")
		if !bytes.Equal(readAll(t, resp), content) {
			t.Errorf("%d bytes: got others", size)
		}
		f.wantSameHead(file, resp)
	}
}

func TestRangeGivesTheseBytes(t *testing.T) {
	faults.Covers(t, 88)
	f := newFixture(t, 0)
	const size = 3<<20 + 77
	content := noise(size)
	l := f.put("report.pdf", content)
	file, tag := f.ticket(l), etag(l.CID, "file")
	sealed := readAll(t, f.get("/"+l.CID.String()+"/data"))
	many := "bytes=0-0" + strings.Repeat(",1-1", 1000)
	for _, tt := range []struct {
		header, ifRange string
		from, to        int // of what is sent; to is exclusive
		status          int
	}{
		{"bytes=0-0", "", 0, 1, 206},
		{"bytes=1-1", "", 1, 2, 206},
		{"bytes=0-", "", 0, size, 206},
		{"bytes=1048575-1048576", "", 1<<20 - 1, 1<<20 + 1, 206},
		{"bytes=524289-2097160", "", 524289, 2097161, 206},
		{"bytes=3145728-", "", 3 << 20, size, 206},
		{"bytes=-1", "", size - 1, size, 206},
		{"bytes=-99999999", "", 0, size, 206},
		{"bytes=100-99999999", "", 100, size, 206},
		{fmt.Sprintf("bytes=%d-", size), "", 0, 0, 416},
		{"bytes=99999999-", "", 0, 0, 416},
		{"bytes=-0", "", 0, 0, 416},
		{"bytes= -00", "", 0, 0, 416},
		{"bytes=99999999999999999999-", "", 0, 0, 416},
		{"bytes=99999999999999999999-99999999999999999999", "", 0, 0, 416},
		{"bytes=5-99999999999999999999", "", 5, size, 206},
		{"bytes=-99999999999999999999", "", 0, size, 206},
		{"bytes=7-7", "", 7, 8, 206},
		{"bytes=007-08", "", 7, 9, 206},
		{"bytes= 7-7 ", "", 7, 8, 206},
		{"bytes=,7-7, ,", "", 7, 8, 206}, // a list with empty elements: 5.6.1.2
		{"Bytes=0-9", "", 0, 10, 206},
		{"items=0-1", "", 0, size, 200},
		{"0-1", "", 0, size, 200},
		{"bytes", "", 0, size, 200},
		{"", "", 0, size, 200},
		{"bytes=", "", 0, size, 200},
		{"bytes=-", "", 0, size, 200},
		{"bytes=2-1", "", 0, size, 200},
		{"bytes=99999999-99999998", "", 0, size, 200},
		{"bytes=abc", "", 0, size, 200},
		{"bytes=0x1-0x2", "", 0, size, 200},
		{"bytes=+1-+2", "", 0, size, 200},
		{"bytes=--1", "", 0, size, 200},
		{"bytes=1-2-3", "", 0, size, 200},
		{"bytes=1 -2", "", 0, size, 200},
		{"bytes =1-2", "", 0, size, 200},
		{"bytes=1-2;q=1", "", 0, size, 200},
		{"bytes: 1-2", "", 0, size, 200},
		{"bytes=5-", tag, 5, size, 206},
		{"bytes=5-", `"other"`, 0, size, 200},
		{"bytes=5-", "W/" + tag, 0, size, 200},
		{"bytes=5-", "Mon, 30 Nov 2026 00:00:00 GMT", 0, size, 200}, // no answer has a Last-Modified
		{"bytes=5-", "*", 0, size, 200},
		{"bytes=-0", `"other"`, 0, size, 200},
		{"items=0-1", tag, 0, size, 200},
		{"bytes=0-1,5-6", "", 0, size, 200}, // allowed by RFC 9110, 14.2
		{"bytes=0-9,5-6", "", 0, size, 200},
		{"bytes=99999999-,-0", "", 0, size, 200},
		{"bytes=0-1,abc", "", 0, size, 200},
		{many, "", 0, size, 200},
	} {
		for path, want := range map[string][]byte{file: content, "/" + l.CID.String() + "/data": sealed} {
			headers := []string{"Range", tt.header}
			if tt.ifRange != "" {
				headers = append(headers, "If-Range", strings.Replace(tt.ifRange, tag, strings.Trim(f.request("HEAD", path, "").Header.Get("Etag"), " "), 1))
			}
			resp := f.get(path, headers...)
			wantStatus(t, resp, tt.status)
			if tt.status == 416 {
				wantHeader(t, resp, "Content-Range", fmt.Sprintf("bytes */%d", size))
				wantHeader(t, resp, "Content-Type", "text/plain; charset=utf-8")
				if got := string(readAll(t, resp)); got != "There are no such bytes\n" {
					t.Errorf("%.40s: got %q", tt.header, got)
				}
				continue
			}
			if tt.status == 206 {
				wantHeader(t, resp, "Content-Range", fmt.Sprintf("bytes %d-%d/%d", tt.from, tt.to-1, size))
			}
			wantHeader(t, resp, "Content-Length", fmt.Sprint(tt.to-tt.from))
			if got := readAll(t, resp); !bytes.Equal(got, want[tt.from:tt.to]) {
				t.Errorf("%.40s %q: got other bytes", tt.header, tt.ifRange)
			}
		}
	}
	if bytes.Equal(content, sealed) {
		t.Error("the stored file is not encrypted")
	}
}

// Every answer that has ranges treats them alike. HEAD has no ranges (RFC 9110 section 14.2), nor
// has an empty file, or an answer whose bytes have no known place before they are made.
func TestAllAnswersHaveTheSameRanges(t *testing.T) {
	faults.Covers(t, 88)
	f := newFixture(t, 0)
	list, _ := f.putAll(threeFiles()...)
	_, original, _ := f.putOriginal(noise(5), 5)
	one := f.put("report.pdf", noise(100_000))
	c := "/" + one.CID.String()
	for path, ranges := range map[string]bool{
		f.ticket(one): true, f.ticket(list): true, c + "/data": true, c + "/meta.jwe": true, "/ipfs" + c + "?format=raw": true, "/ipfs" + c + "/data?format=raw": true,
		f.ticket(original): false, "/ipfs" + c + "?format=car": false, c: false, f.ticket(f.put("empty.txt", nil)): false,
	} {
		whole := readAll(t, f.get(path))
		for header, want := range map[string]int{
			"bytes=0-0": 206, "Bytes=1-": 206, "bytes=-5": 206, "bytes=-0": 416, fmt.Sprintf("bytes=%d-", len(whole)): 416,
			"items=0-0": 200, "bytes=2-1": 200, "bytes=x": 200, "bytes=0-0,2-2": 200,
		} {
			if !ranges {
				want = 200
			}
			resp := f.get(path, "Range", header)
			wantStatus(t, resp, want)
			got := readAll(t, resp)
			if want == 200 && path != c && !bytes.Equal(got, whole) {
				t.Errorf("%s, %s: got %d bytes, want all %d", path, header, len(got), len(whole))
			}
			if wantRange := map[int]string{416: fmt.Sprintf("bytes */%d", len(whole))}[want]; want != 206 && resp.Header.Get("Content-Range") != wantRange {
				t.Errorf("%s, %s: got Content-Range %q, want %q", path, header, resp.Header.Get("Content-Range"), wantRange)
			}
			head := f.request("HEAD", path, "", "Range", header)
			wantStatus(t, head, 200)
			wantHeader(t, head, "Content-Range", "")
		}
	}
}

// A broken download of a file or a ZIP resumes on another gateway with the same keyring and ledger.
func TestDownloadResumesElsewhere(t *testing.T) {
	f := newFixture(t, 0)
	list, _ := f.putAll(threeFiles()...)
	for _, file := range []string{f.ticket(f.put("report.pdf", noise(5<<20))), f.ticket(list)} {
		whole := readAll(t, f.get(file))
		first := make([]byte, 4<<20)
		resp := f.get(file)
		_, err := io.ReadFull(resp.Body, first)
		check(t, err)
		resp.Body.Close()

		v, _ := installation.Open(t, f.dir, vault.Config{BaseURL: "https://files.example.org" + prefix}, f.store, f.keys, nil)
		f.srv.Close()
		f.serve(v, Config{})
		rest := f.get(file, "Range", fmt.Sprintf("bytes=%d-", len(first)), "If-Range", resp.Header.Get("Etag"))
		wantStatus(t, rest, 206)
		if got := append(first, readAll(t, rest)...); !bytes.Equal(got, whole) {
			t.Errorf("%s: the resumed download differs", file)
		}
	}
}

func TestFormTakesTheKeyInAnyShape(t *testing.T) {
	faults.Covers(t, 78)
	f := newFixture(t, 0)
	l, other := f.put("a.pdf", noise(10)), f.put("b.pdf", noise(11))
	c, key := "/"+l.CID.String(), l.Fragment.Encode()
	wrong := other.Fragment.Encode()
	foreign := strings.Replace(l.URL(), l.CID.String(), "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi", 1)
	for _, tt := range []struct {
		path, key string
		status    int
	}{
		{c, key, 303}, {c, "#" + key, 303}, {c, " " + key + "\r\n", 303}, {c, key + ">", 303}, {c, key + "&amp;", 303},
		{c, key[:20] + "\r\n" + key[20:], 303},
		{c, l.URL(), 303}, {c, "<" + l.URL() + ">.", 303}, {c, strings.Replace(l.URL(), "#", "%23", 1), 303},
		{c, strings.Replace(l.URL(), "#", "%2523", 1), 303}, {c, strings.TrimPrefix(l.URL(), "https://"), 303},
		{c, "https://elsewhere.example/" + l.CID.String() + "#" + key, 303}, // the host is ignored
		{"/", l.URL(), 303}, {c, other.URL(), 303},
		{c, wrong, 403}, {"/", strings.Replace(l.URL(), key, wrong, 1), 403},
		{c, "", 400}, {c, key[:len(key)-6], 400}, {c, "z", 400}, {c, "https://", 400}, {c, l.URL()[:60], 400},
		{"/", key, 400}, {"/", "", 400}, {c, "https://files.example.org" + prefix + c, 400},
		{"/", foreign, 404}, {c, foreign, 404},
	} {
		resp := f.post(tt.path, tt.key)
		wantStatus(t, resp, tt.status)
		if at := resp.Header.Get("Location"); tt.status == 303 && !strings.HasPrefix(at, prefix+"/baf") {
			t.Errorf("%.30s…: got Location %q", tt.key, at)
		}
		if tt.status >= 400 && len(tt.key) > 10 && bytes.Contains(readAll(t, resp), []byte(tt.key)) {
			t.Errorf("%.30s…: the error page repeats the key", tt.key)
		}
	}
	for _, wrapped := range []string{
		"https://eur02.safelinks.protection.outlook.com/?url=" + url.QueryEscape(other.URL()) + "&data=05%7C02&reserved=0",
		"https://urldefense.com/v3/__" + strings.Replace(other.URL(), "#", "*", 1) + "__;Iw!!Mih3wA!Wq83jaNrHwIpeQ6Nhqht$",
		url.QueryEscape(other.URL()), "eur02.safelinks.protection.outlook.com/?url=" + url.QueryEscape(other.URL()),
	} {
		for _, path := range []string{"/", c} {
			resp := f.post(path, wrapped)
			wantStatus(t, resp, 303)
			if at := resp.Header.Get("Location"); !strings.HasPrefix(at, prefix+"/"+other.CID.String()+"/t/") {
				t.Errorf("%s: got Location %q", wrapped, at)
			}
		}
	}
	// A key in the query is refused, since proxies log queries.
	wantStatus(t, f.request("POST", c+"?key="+key, ""), 400)
}

// If only the mail system's server can read a link, the page says so, and not that a piece is
// missing.
func TestPageTellsAReplacedLinkFromACutOne(t *testing.T) {
	faults.Covers(t, 78)
	f := newFixture(t, 0)
	l := f.put("a.pdf", noise(10))
	for pasted, want := range map[string]string{
		"https://protect-eu.mimecast.com/s/rADECvZvDhygB3ktQtrXG?domain=files.example.org":                                               "replaced",
		"<https://url.emailprotection.link/?b6t_II7rHqeURY3L4E7-KcEv-1AKpnboL9fCKlYHKuJE6gIsmMG5lwI0tzFVjUQ7~>":                          "replaced",
		"protect-eu.mimecast.com/s/rADECvZvDhygB3ktQtrXG?domain=files.example.org":                                                       "replaced",
		"https://eur02.safelinks.protection.outlook.com/?url=" + url.QueryEscape("https://files.example.org/"+l.CID.String()) + "&data=": "incomplete",
		"https://files.example.org/" + l.CID.String()[:30]:                                                                               "incomplete",
	} {
		for _, path := range []string{"/", "/" + l.CID.String()} {
			resp := f.post(path, pasted)
			wantStatus(t, resp, 400)
			if title := texts.English().Text("error." + want + ".title"); !bytes.Contains(readAll(t, resp), []byte("<h1>"+title+"</h1>")) {
				t.Errorf("%s: the page does not say %q", pasted, title)
			}
		}
	}
}

func TestTicketOpensOneFileForItsLife(t *testing.T) {
	faults.Covers(t, 95)
	f := newFixture(t, 0)
	l, other := f.put("a.pdf", noise(10)), f.put("b.pdf", noise(11))
	file := f.ticket(l)
	ticket := strings.Split(file, "/")[3]
	for name, path := range map[string]string{
		"of another file": "/" + other.CID.String() + "/t/" + ticket + "/a.pdf",
		"changed":         "/" + l.CID.String() + "/t/" + ticket[:len(ticket)-2] + "AA/a.pdf",
		"empty":           "/" + l.CID.String() + "/t//a.pdf",
		"a path":          "/" + l.CID.String() + "/t/..%2f..%2fkeys.x/a.pdf",
	} {
		resp := f.get(path)
		wantStatus(t, resp, http.StatusGone)
		wantText(t, "ticket "+name, string(readAll(t, resp)), `name="key"`)
	}
	wantStatus(t, f.get(strings.TrimSuffix(file, "/a.pdf")), 200) // the name may be missing
	wantStatus(t, f.get(file[:len(file)-5]+"other%2fname"), 200)
	f.now.add(24 * time.Hour)
	wantStatus(t, f.get(file), http.StatusGone)
}

func TestFileNamesCannotBreakHeaders(t *testing.T) {
	faults.Covers(t, 84)
	f := newFixture(t, 0)
	for name, want := range map[string]string{
		"report.pdf":                     "report.pdf",
		"Übersicht 2026.pdf":             "Übersicht 2026.pdf",
		"a\r\nSet-Cookie: x=1\r\n\r\nb":  "a Set-Cookie_ x=1 b",
		`x"; filename="evil.exe`:         "x_; filename=_evil.exe",
		"100%0d%0aX-Evil: 1.pdf":         "100%0d%0aX-Evil_ 1.pdf",
		"../../etc/passwd":               "passwd",
		"":                               filename.Nameless,
		"دفتر.pdf":                       "دفتر.pdf",
		"a\u0085\u2028b.txt":             "a b.txt",
		"<script>alert(1)</script>.html": "_script_alert(1)__script_.html",
		"bad\xff\xfe.pdf":                "bad\ufffd.pdf",
		strings.Repeat("x", 10_000):      filename.Shorten(strings.Repeat("x", 1000)),
	} {
		content := []byte(name)
		file := f.ticket(f.put(name, content))
		u, err := url.Parse(file)
		check(t, err)
		if strings.ContainsAny(file, "\r\n\" <>") || strings.Count(u.EscapedPath(), "/") != 4 {
			t.Errorf("%.40q: got Location %q", name, file)
		}
		resp := f.get(file)
		wantStatus(t, resp, 200)
		if len(resp.Header.Values("Content-Disposition")) != 1 || resp.Header.Get("Set-Cookie")+resp.Header.Get("X-Evil") != "" {
			t.Errorf("%.40q: got headers %v", name, resp.Header)
		}
		kind, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition"))
		got := params["filename"]
		if err != nil || kind != "attachment" || got != want {
			t.Errorf("%.40q: got %q, %v, want %q in %s", name, got, err, want, resp.Header.Get("Content-Disposition"))
		}
		if body := readAll(t, resp); !bytes.Equal(body, content) {
			t.Errorf("%.40q: got other content", name)
		}
	}
}

// atLeaf calls get for the nth leaf of a file and for every later block.
func atLeaf(n int, get func(ctx context.Context, data []byte) ([]byte, error)) func(context.Context, int, []byte) ([]byte, error) {
	return atBlock(n, 1<<20, get)
}

func atBlock(n, size int, get func(ctx context.Context, data []byte) ([]byte, error)) func(context.Context, int, []byte) ([]byte, error) {
	first := 0
	return func(ctx context.Context, i int, data []byte) ([]byte, error) {
		if i == 1 {
			first = 0 // another request
		}
		if first == 0 && len(data) >= size {
			first = i
		}
		if first == 0 || i < first+n-1 {
			return data, nil
		}
		return get(ctx, data)
	}
}

func flip(_ context.Context, data []byte) ([]byte, error) {
	if len(data) > 0 {
		data[len(data)/2] ^= 1
	}
	return data, nil
}

func TestDamageBreaksTheConnection(t *testing.T) {
	faults.Covers(t, 85, 86)
	f := newFixture(t, 0)
	content := noise(5 << 20)
	l := f.put("report.pdf", content)
	file := f.ticket(l)
	for name, get := range map[string]func(context.Context, []byte) ([]byte, error){
		"flipped bit": flip,
		"cut short":   func(_ context.Context, data []byte) ([]byte, error) { return data[:len(data)-1], nil },
		"block gone":  func(context.Context, []byte) ([]byte, error) { return nil, ipfs.ErrNotFound },
		"store gone":  func(context.Context, []byte) ([]byte, error) { return nil, fmt.Errorf("read: %w", ipfs.ErrUnavailable) },
	} {
		f.store.fail(nil, atLeaf(3, get))
		for _, path := range []string{file, "/ipfs/" + l.CID.String() + "?format=car"} {
			resp := f.get(path)
			wantStatus(t, resp, 200)
			got, err := io.ReadAll(resp.Body)
			if err == nil {
				t.Errorf("%s: %s ends after %d bytes as if it were whole", name, path[:6], len(got))
			}
			if path == file && (!bytes.HasPrefix(content, got) || len(got) > 2<<20) {
				t.Errorf("%s: got %d bytes, of which some are wrong", name, len(got))
			}
		}
	}
	// Damage before the first byte causes a status.
	f.store.fail(nil, atLeaf(1, flip))
	for _, path := range []string{file, "/" + l.CID.String() + "/data", "/ipfs/" + l.CID.String() + "/data?format=car"} {
		resp := f.get(path)
		wantStatus(t, resp, http.StatusInternalServerError)
		wantHeader(t, resp, "Content-Disposition", "")
		wantHeader(t, resp, "Etag", "")
	}
	f.srv.Close()
	wantText(t, "the log", f.logs.String(), l.CID.String())
}

// hang never answers.
func hang(ctx context.Context, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestClientGoesAway(t *testing.T) {
	faults.Covers(t, 89)
	f := newFixture(t, 0)
	l := f.put("report.pdf", noise(5<<20))
	file := f.ticket(l)
	reached := make(chan struct{})
	f.store.fail(nil, atLeaf(2, func(ctx context.Context, data []byte) ([]byte, error) {
		close(reached)
		return hang(ctx, data)
	}))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", f.srv.URL+prefix+file, nil)
	check(t, err)
	resp, err := noRedirects.Do(req)
	check(t, err)
	defer resp.Body.Close()
	<-reached
	cancel()
	f.srv.Close() // waits for the handler, which waits for the store, which waits for its context
	wantText(t, "the log", f.logs.String(), "client gone")
}

// deadlines is a ResponseWriter that counts how often the client is given more time.
type deadlines struct {
	*httptest.ResponseRecorder
	write int
}

func (d *deadlines) SetReadDeadline(time.Time) error  { return nil }
func (d *deadlines) SetWriteDeadline(time.Time) error { d.write++; return nil }

func TestDeadlineMovesWithProgress(t *testing.T) {
	rec := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	const buffers = 5
	content := noise(buffers * bufferSize)
	check(t, stream(t, rec, bytes.NewReader(content), len(content)))
	if want := 1 + buffers; rec.write != want {
		t.Errorf("the deadline was moved %d times, want %d", rec.write, want)
	}
	if !bytes.Equal(rec.Body.Bytes(), content) {
		t.Error("got other bytes")
	}
}

func stream(t *testing.T, rec http.ResponseWriter, content io.ReadSeeker, size int) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	w := newResponse(rec, Config{StoreTimeout: time.Minute, WriteTimeout: time.Minute}, cancel)
	defer w.release()
	w.Header().Set("Content-Type", "application/octet-stream")
	return w.stream(httptest.NewRequestWithContext(ctx, "GET", "/", nil), content, int64(size))
}

func TestShortContentIsAnError(t *testing.T) {
	faults.Covers(t, 85)
	if err := stream(t, httptest.NewRecorder(), strings.NewReader("only this"), 20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want io.ErrUnexpectedEOF", err)
	}
}
