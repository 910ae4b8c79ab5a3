package gateway

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

const (
	page     = "text/html; charset=utf-8"
	plain    = "text/plain; charset=utf-8"
	script   = "text/javascript; charset=utf-8"
	jsonText = "application/json"
	sealed   = "application/octet-stream"
	none     = ""
)

// answer is a request, and the status and type of its answer.
type answer struct {
	method, path, body string
	headers            []string
	status             int
	contentType        string
}

// surface returns every kind of answer.
func surface(f *fixture) []answer {
	l := f.put("report.pdf", noise(1000))
	c, file, key := "/"+l.CID.String(), f.ticket(l), l.Fragment.Encode()
	revoked := f.put("old.pdf", noise(10))
	list, _ := f.putAll(named{"a", noise(1)}, named{"b", noise(2)})
	all, archive := "/"+list.CID.String()+"/all", f.ticket(list)
	const foreign = "/bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"
	proof := f.proof(l)
	f.deny(revoked)
	return []answer{
		{"GET", "/", "", nil, 200, page},
		{"GET", "", "", nil, 200, page},
		{"POST", "/", "key=x", nil, 400, page},
		{"PUT", "/", "", nil, 405, page},
		{"GET", "/robots.txt", "", nil, 200, plain},
		{"GET", "/favicon.ico", "", nil, 204, none},
		{"GET", "/elsewhere", "", nil, 404, page},
		{"GET", workerPath, "", nil, 200, script},
		{"POST", workerPath, "", nil, 405, plain},
		{"GET", "/w/elsewhere", "", nil, 404, page},
		{"GET", c, "", nil, 200, page},
		{"HEAD", c, "", nil, 200, page},
		{"GET", c + "/", "", nil, 200, page},
		{"DELETE", c, "", nil, 405, page},
		{"GET", c[:40], "", nil, 400, page},
		{"GET", foreign, "", nil, 404, page},
		{"GET", "/" + revoked.CID.String(), "", nil, 410, page},
		{"POST", c, "key=" + key, nil, 303, none},
		{"POST", c, "key=" + revoked.Fragment.Encode(), nil, 403, page},
		{"POST", c, "key=z123", nil, 400, page},
		{"POST", c, "key=" + strings.Repeat("z", 1<<20), nil, 413, page},
		{"GET", c + "%23" + key, "", nil, 303, none},
		{"GET", all, "", nil, 200, page},
		{"HEAD", all, "", nil, 200, page},
		{"PUT", all, "", nil, 405, page},
		{"POST", all, "key=" + list.Fragment.Encode(), nil, 303, none},
		{"POST", all, "key=" + key, nil, 403, page},
		{"GET", all + "%23" + list.Fragment.Encode(), "", nil, 303, none},
		{"GET", all + ".json", "", nil, 404, page},
		{"GET", archive, "", nil, 200, sealed},
		{"HEAD", archive, "", nil, 200, sealed},
		{"GET", archive, "", []string{"Range", "bytes=3-7"}, 206, sealed},
		{"GET", archive, "", []string{"Range", "bytes=1000000-"}, 416, plain},
		{"GET", archive, "", []string{"If-None-Match", etag(list.CID, archiveForm)}, 304, none},
		{"POST", archive, "", nil, 405, page},
		{"GET", c + "/share", "", proof, 200, jsonText},
		{"HEAD", c + "/share", "", proof, 200, jsonText},
		{"GET", c + "/share", "", nil, 401, plain},
		{"GET", "/" + list.CID.String() + "/share", "", proof, 403, plain},
		{"POST", c + "/share", "", proof, 405, plain},
		{"GET", foreign + "/share", "", proof, 404, plain},
		{"GET", "/" + revoked.CID.String() + "/share", "", proof, 410, plain},
		{"GET", c + "/elsewhere", "", nil, 404, page},
		{"GET", file, "", nil, 200, sealed},
		{"HEAD", file, "", nil, 200, sealed},
		{"GET", file, "", []string{"Range", "bytes=3-7"}, 206, sealed},
		{"GET", file, "", []string{"Range", "bytes=1000-"}, 416, plain},
		{"GET", file, "", []string{"If-None-Match", etag(l.CID, "file")}, 304, none},
		{"GET", file, "", []string{"If-Match", `"other"`}, 412, none},
		{"POST", file, "", nil, 405, page},
		{"GET", c + "/t/2026-01.AAAA/report.pdf", "", nil, 410, page},
		{"GET", c + "/data", "", nil, 200, sealed},
		{"GET", c + "/meta.jwe", "", nil, 200, sealed},
		{"GET", c + "/origin", "", nil, 200, sealed},
		{"GET", c + "/data", "", []string{"Range", "bytes=9999-"}, 416, plain},
		{"GET", "/ipfs" + c + "?format=raw", "", nil, 200, typeRaw},
		{"GET", "/ipfs" + c + "?format=car", "", nil, 200, typeCAR + "; version=1; order=dfs; dups=y"},
		{"GET", "/ipfs" + c, "", nil, 406, plain},
		{"GET", "/ipfs" + foreign + "?format=raw", "", nil, 404, plain},
		{"OPTIONS", "/ipfs" + c, "", nil, 405, plain},
	}
}

func TestEveryAnswerHasTheHeaders(t *testing.T) {
	faults.Covers(t, 83, 94)
	f := newFixture(t, 0)
	for _, a := range surface(f) {
		resp := f.request(a.method, a.path, a.body, a.headers...)
		wantStatus(t, resp, a.status)
		wantHeader(t, resp, "Content-Type", a.contentType)
		for name, want := range map[string]string{
			"X-Content-Type-Options":       "nosniff",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Referrer-Policy":              "no-referrer",
			"X-Robots-Tag":                 "noindex, nofollow, noarchive",
			"X-Frame-Options":              "DENY",
			"Permissions-Policy":           "interest-cohort=(), browsing-topics=()",
			"Set-Cookie":                   "",
		} {
			wantHeader(t, resp, name, want)
		}
		csp := resp.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; ") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s %s: policy %q", a.method, a.path, csp)
		}
		if strings.Contains(csp, "; sandbox;") == (a.contentType == page || a.contentType == script) {
			t.Errorf("%s %s: policy %q for %q", a.method, a.path, csp, a.contentType)
		}
		ciphertext := strings.HasPrefix(a.path, "/ipfs") || strings.HasSuffix(a.path, "/data") || strings.HasSuffix(a.path, ".jwe") || strings.HasSuffix(a.path, "/origin")
		if got := resp.Header.Get("Cache-Control"); strings.HasPrefix(got, noStore) == (ciphertext && a.status < 400) {
			t.Errorf("%s %s: status %d with Cache-Control %q", a.method, a.path, a.status, got)
		}
		if a.contentType == sealed && !strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment; ") {
			t.Errorf("%s %s: would be rendered", a.method, a.path)
		}
	}
}

// A page is one answer, and its policy allows only its own script and style.
func TestPageAllowsItsOwnBlocksAlone(t *testing.T) {
	f := newFixture(t, 30*24*time.Hour)
	l := f.put("secret name.pdf", noise(12_345_678))
	resp := f.get("/" + l.CID.String())
	html := string(readAll(t, resp))
	if len(html) > 30_000 {
		t.Errorf("the page has %d bytes, want at most 30,000", len(html))
	}
	wantText(t, "the page", html, "12\u00a0MB", `action="/mail/`+l.CID.String()+`"`, `lang="en"`, "Available until", "files.example.org")
	wantBlockAllowed(t, resp, html, "script")
	wantBlockAllowed(t, resp, html, "style")
	wantNoText(t, "the page", strings.ReplaceAll(html, "From https:// to", ""), "secret", "https://", "src=", "{{", "<no value>")
	if n := strings.Count(html, "<h1"); n != 1 {
		t.Errorf("the page has %d h1, want 1", n)
	}
}

func TestReadingChangesNothing(t *testing.T) {
	faults.Covers(t, 91)
	f := newFixture(t, 0)
	l := f.put("a.pdf", noise(10))
	for range 3 {
		for _, path := range []string{"", "/share", "/meta.jwe", "/origin", "/data"} {
			wantStatus(t, f.request("HEAD", "/"+l.CID.String()+path, "", f.proof(l)...), 200)
			wantStatus(t, f.get("/"+l.CID.String()+path, f.proof(l)...), 200)
		}
	}
	wantStatus(t, f.get(f.ticket(l)), 200)
}

// Each answer opens its object once, and a ZIP each of its files once, when their turn comes.
func TestEachAnswerOpensItsObjectOnce(t *testing.T) {
	f := newFixture(t, 0)
	list, each := f.putAll(threeFiles()...)
	c, proof := "/"+list.CID.String(), f.proof(list)
	for path, want := range map[string]int{
		c: 1, c + "/all": 1, c + "/share": 1, c + "/data": 1, "/ipfs" + c + "/data?format=car": 1,
		f.ticket(each[1]): 1,
		f.ticket(list):    1 + len(each),
	} {
		f.store.opens = 0
		resp := f.get(path, proof...)
		wantStatus(t, resp, 200)
		readAll(t, resp)
		if f.store.opens != want {
			t.Errorf("%.20s…%s: the store's objects were opened %d times, want %d", path, path[len(path)-9:], f.store.opens, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no base URL":    {},
		"a base's query": {BaseURL: "https://host/?x"},
		"a brand":        {BaseURL: "https://host", Brand: Brand{Color: "red"}},
	} {
		if _, err := New(cfg, nil, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A link whose # a scanner has escaped, even several times, is mended.
func TestEscapedLinksAreMended(t *testing.T) {
	faults.Covers(t, 78)
	f := newFixture(t, 0)
	l := f.put("a.pdf", noise(10))
	c, key := "/"+l.CID.String(), l.Fragment.Encode()
	for _, path := range []string{c + "%23" + key, c + "%2523" + key, c + "%252523" + key, c + "%23" + key + "%3E", c + "%23" + key + "."} {
		resp := f.get(path)
		wantStatus(t, resp, http.StatusSeeOther)
		wantHeader(t, resp, "Location", prefix+c+"#"+key)
		wantHeader(t, resp, "Referrer-Policy", "no-referrer")
	}
	for _, path := range []string{c + "%23" + key[:20], c + "%23", c + "%2523" + key[:20]} {
		wantStatus(t, f.get(path), http.StatusBadRequest)
	}
}

// No cache may keep an answer under an address with a key in it, whatever the address leads to.
// Behind an escaped #, there is only the page.
func TestAddressesWithAKeyAreNotCached(t *testing.T) {
	faults.Covers(t, 78, 94)
	f := newFixture(t, 0)
	l := f.put("a.pdf", noise(10))
	c, key, file := "/"+l.CID.String(), l.Fragment.Encode(), f.ticket(l)
	rests := []string{
		"/data", "/meta.jwe", "/origin", "/share", "/all", "/all/x", "/x", "/t/x/y", "/v/x", "/v/x/file", strings.TrimPrefix(file, c),
	}
	for _, hash := range []string{"%23", "%2523", "%26%2335%3B"} {
		for _, rest := range rests {
			resp := f.get(c + hash + key + rest)
			wantHeader(t, resp, "Cache-Control", noStore)
			if rest != "/all" {
				wantStatus(t, resp, http.StatusNotFound)
			}
		}
		resp := f.get("/ipfs" + c + hash + key + "/data?format=raw")
		wantStatus(t, resp, http.StatusNotFound)
		wantHeader(t, resp, "Cache-Control", noStore)
	}
	moved := []string{c + "/data", c + "/meta.jwe", "/ipfs" + c + "?format=raw", "/ipfs" + c + "/data?format=car"}
	for _, path := range moved {
		if cache := f.get(path).Header.Get("Cache-Control"); !strings.HasPrefix(cache, "public") {
			t.Errorf("%s: Cache-Control is %s", path, cache)
		}
		with := "?"
		if strings.Contains(path, "?") {
			with = "&"
		}
		for _, query := range []string{key, "key=" + key, "u=%23" + key, "%7a" + key[1:]} {
			resp := f.get(path + with + query)
			wantStatus(t, resp, http.StatusOK)
			wantHeader(t, resp, "Cache-Control", noStore)
			resp = f.get(path+with+query, "If-None-Match", resp.Header.Get("Etag"))
			wantStatus(t, resp, http.StatusNotModified)
			wantHeader(t, resp, "Cache-Control", noStore)
		}
	}
}

func TestTakenBackFilesAreGone(t *testing.T) {
	faults.Covers(t, 90)
	f := newFixture(t, 24*time.Hour)
	old := f.put("old.pdf", noise(1000))
	oldFile := f.ticket(old)
	f.now.add(47 * time.Hour)
	withdrawn, kept := f.put("withdrawn.pdf", noise(1001)), f.put("kept.pdf", noise(1002))
	withdrawnFile, keptFile := f.ticket(withdrawn), f.ticket(kept)
	proof := f.proof(kept)
	f.deny(withdrawn)
	f.now.add(time.Hour)
	_, err := os.Stat(filepath.Join(f.dir, "objects", old.CID.String()+".car"))
	check(t, err)

	paths := func(c, file string) []string {
		return []string{"/" + c, "/" + c + "/share", "/" + c + "/data", "/" + c + "/meta.jwe", "/" + c + "/origin", "/ipfs/" + c + "?format=raw", "/ipfs/" + c + "?format=car", file}
	}
	for _, path := range append(paths(old.CID.String(), oldFile), paths(withdrawn.CID.String(), withdrawnFile)...) {
		wantStatus(t, f.get(path, proof...), http.StatusGone)
	}
	for _, path := range paths(kept.CID.String(), keptFile) {
		wantStatus(t, f.get(path, proof...), http.StatusOK)
	}
	foreign := "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"
	for _, path := range paths(foreign, "/"+foreign+strings.TrimPrefix(keptFile, "/"+kept.CID.String())) {
		wantStatus(t, f.get(path, proof...), http.StatusNotFound)
	}
	wantStatus(t, f.post("/"+old.CID.String(), old.Fragment.Encode()), http.StatusGone)
	wantStatus(t, f.post("/"+foreign, old.Fragment.Encode()), http.StatusNotFound)

	wantText(t, "the page of an expired file", f.body("/"+old.CID.String()), "has expired")
	wantText(t, "the page of a revoked file", f.body("/"+withdrawn.CID.String()), "was withdrawn")
	// A cache must not keep the file longer than the gateway.
	age := f.get("/" + kept.CID.String() + "/data").Header.Get("Cache-Control")
	if !strings.HasPrefix(age, "public, max-age=") || strings.Contains(age, "max-age=31536000") {
		t.Errorf("got Cache-Control %q for a file that expires within two days", age)
	}
}

func TestUnreachableStoreIs503(t *testing.T) {
	faults.Covers(t, 87)
	f := newFixture(t, 0)
	l := f.put("a.pdf", noise(10))
	c, file, proof := "/"+l.CID.String(), f.ticket(l), f.proof(l)
	f.store.fail(ipfs.ErrUnavailable, nil)
	for _, path := range []string{c, c + "/share", c + "/data", c + "/meta.jwe", file, "/ipfs" + c + "?format=car"} {
		resp := f.get(path, proof...)
		wantStatus(t, resp, http.StatusServiceUnavailable)
		wantHeader(t, resp, "Retry-After", retryAfter)
		wantHeader(t, resp, "Cache-Control", noStore)
		wantHeader(t, resp, "Content-Disposition", "")
	}
	wantStatus(t, f.post(c, l.Fragment.Encode()), http.StatusServiceUnavailable)
	f.store.fail(nil, nil)
	wantStatus(t, f.get(file), http.StatusOK)
}

func TestOddPathsLeadNowhere(t *testing.T) {
	faults.Covers(t, 92, 93)
	f := newFixture(t, 0)
	l := f.put("a.pdf", noise(10))
	c := l.CID.String()
	for _, path := range []string{
		"/../" + c, "//evil.example/" + c, "//" + c, "/ipfs/../" + c, "/ipfs//" + c + "?format=raw", "/ipfs/" + c + "/../x?format=raw",
		"/ipfs/bafkqaaa?format=raw",                                                    // identity hash
		"/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKU7ay?format=raw",              // CIDv0
		"/ipfs/bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e?format=raw", // raw leaf
		"/" + strings.ToUpper(c), "/z" + c, "/" + c + "/t", "/" + c + "/data/x", "/" + c + "/t/../share", "/%2e%2e/" + c,
		"/" + c + "%00", "/" + strings.Repeat("a", 100_000),
	} {
		resp := f.get(path)
		if resp.StatusCode != 404 && resp.StatusCode != 400 && resp.StatusCode != 410 {
			t.Errorf("%.80s: got status %d", path, resp.StatusCode)
		}
		wantHeader(t, resp, "Location", "")
	}
	req, err := http.NewRequest("POST", f.srv.URL+prefix+"/"+c, strings.NewReader(url.Values{"key": {l.Fragment.Encode()}}.Encode()))
	check(t, err)
	req.Host = "evil.example"
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Forwarded-Host", "evil.example")
	resp, err := noRedirects.Do(req)
	check(t, err)
	resp.Body.Close()
	if got := resp.Header.Get("Location"); !strings.HasPrefix(got, prefix+"/"+c+"/t/") {
		t.Errorf("got Location %q, want a path", got)
	}
}

// A reverse proxy may have removed the prefix.
func TestPrefixMayBeTakenOff(t *testing.T) {
	f := newFixture(t, 0)
	l := f.put("a.pdf", noise(10))
	resp, err := noRedirects.Get(f.srv.URL + "/" + l.CID.String())
	check(t, err)
	defer resp.Body.Close()
	wantStatus(t, resp, 200)
	wantText(t, "the page", string(readAll(t, resp)), `action="`+prefix+"/"+l.CID.String())
}

// After every kind of request, the log has CIDs but no key, ticket or name.
func TestNothingSecretInTheLog(t *testing.T) {
	faults.Covers(t, 82)
	f := newFixture(t, 0)
	l := f.put("Kündigung Müller.pdf", noise(3<<20))
	proof := f.proof(l)
	c, key := "/"+l.CID.String(), l.Fragment.Encode()
	file := f.ticket(l)
	for _, path := range []string{
		c, c + "/share", c + "/data", c + "/meta.jwe", file, c + "%23" + key, c + "%2523" + key, c + "%23" + key[:30], c + "/" + key,
		c + "/t/" + key + "/Kündigung", "/" + key, file + "x", "/ipfs" + c + "?format=car&key=" + key, c + "?key=" + key, c[:50] + "%23" + key,
	} {
		f.get(path, proof...)
	}
	other := f.put("other.pdf", noise(5))
	f.post(c, other.Fragment.Encode())
	f.post(c, key+"Ü%zz")
	f.post("/", l.URL())
	f.request("POST", c+"?key=%zz"+key, "key="+key+"%zz")
	f.store.fail(nil, atLeaf(2, flip))
	if _, err := io.ReadAll(f.get(file).Body); err == nil {
		t.Error("a damaged file was served as if it were whole")
	}
	f.store.fail(ipfs.ErrUnavailable, nil)
	f.get(file)
	f.srv.Close()

	log := f.logs.String()
	ticket := strings.Split(file, "/")[3]
	wantNoText(t, "the log", log, key, key[1:20], strings.TrimPrefix(proof[1], "Detach z"), other.Fragment.Encode(), ticket, ticket[10:], "ndigung", "ller.pdf", "other.pdf", url.QueryEscape("ü"))
	wantText(t, "the log", log, l.CID.String(), `"request":"file"`, "answer broken off", "unavailable")
}

// panicky is a vault that panics.
type panicky struct{ Vault }

func (panicky) Object(context.Context, cid.Cid) (*vault.Object, error) { panic("a secret") }

// A panic causes an error page and a log line without the panic's value and the stack's arguments.
func TestPanicTellsNothing(t *testing.T) {
	faults.Covers(t, 82)
	f := newFixture(t, 0)
	l := f.put("a.pdf", []byte("x"))
	f.serve(panicky{f.vault}, Config{})
	resp := f.get("/" + l.CID.String())
	wantStatus(t, resp, http.StatusInternalServerError)
	body := string(readAll(t, resp))
	f.srv.Close()
	log := f.logs.String()
	wantNoText(t, "the page", body, "a secret")
	wantNoText(t, "the log", log, "a secret", "(0x")
	wantText(t, "the log", log, "gateway_test.go:")
}
