package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// certificate makes one for 127.0.0.1, in dir, and returns who trusts it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "fullchain.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "privkey.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	trusted, err := x509.ParseCertificate(cert)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(trusted)
	return pool
}

// front is a web server that runs the configuration of docs/gateway.md in front of a gateway.
type front struct {
	url    string
	plain  string   // where it answers without TLS
	dir    string   // where it keeps what it keeps
	logs   []string // files
	client *http.Client
}

// gatewayGuide returns the configuration in docs/gateway.md for a web server.
func gatewayGuide(t *testing.T, server string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/gateway.md")
	must(t, err)
	m := regexp.MustCompile("(?s)```" + server + "\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatalf("docs/gateway.md has no configuration of %s", server)
	}
	return string(m[1])
}

// run starts the server, and returns when it answers.
func (f *front) run(t *testing.T, trusted *x509.CertPool, cmd *exec.Cmd) {
	t.Helper()
	out, err := os.Create(f.logs[0])
	must(t, err)
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(f.logs[0])
			t.Logf("%s: %s", filepath.Base(cmd.Path), text)
		}
	})
	f.client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, ForceAttemptHTTP2: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(f.client.CloseIdleConnections)
	servers.Eventually(t, servers.Patience, filepath.Base(cmd.Path), func() bool {
		resp, err := f.client.Get(f.url + "/robots.txt")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
}

func (f *front) do(t *testing.T, method, address string, form url.Values, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	must(t, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := f.client.Do(req)
	must(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// behind plays what a recipient and a scanner do by way of a web server: pages and downloads pass as they are, a download that broke
// off resumes also after the gateway was started anew, nothing is kept on disk, and neither what scanners make of a link nor what was
// asked for while the gateway was away leaves a key or a file's name in any log.
func behind(t *testing.T, start func(t *testing.T, gateway, public string) *front) (*front, link) {
	t.Helper()
	public := servers.FreeAddr(t)
	d := configure(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, policy: "min_size = \"1\"\nrestore = false"})
	config, err := os.ReadFile(d.config)
	must(t, err)
	must(t, os.WriteFile(d.config, bytes.Replace(config, []byte("url = \""+d.url), []byte("url = \"https://"+public), 1), 0o600))
	m := &mortal{detach: d, t: t}
	m.start(t)
	t.Cleanup(func() {
		m.terminate(t)
		must(t, keepLogFile("detach", d.logFile))
	})
	f := start(t, strings.TrimPrefix(d.url, "http://"), public)
	file := fileOf("behind the web server.bin", noise(81, 8<<20+3))
	l := d.put(t, file)[0]
	f.pages(t, l)

	opened := f.do(t, "POST", l.page, url.Values{"key": {l.fragment}})
	where, err := opened.Location()
	must(t, err)
	if where.Host != public {
		t.Errorf("the file is at %s, want %s", where.Host, public)
	}
	keepSecret(ticketSecret, strings.Split(where.Path, "/")[3])
	first := f.do(t, "GET", where.String(), nil)
	half := make([]byte, len(file.content)/2)
	_, err = io.ReadFull(first.Body, half)
	must(t, err)
	first.Body.Close() // the connection breaks
	m.terminate(t)
	for _, address := range []string{where.String(), l.page + "%23" + l.fragment} {
		if away := f.do(t, "GET", address, nil); away.StatusCode != 502 {
			t.Errorf("without a gateway: %s, want 502", away.Status)
		}
	}
	m.start(t)
	rest := f.do(t, "GET", where.String(), nil, "Range", fmt.Sprintf("bytes=%d-", len(half)), "If-Range", first.Header.Get("Etag"))
	if rest.StatusCode != 206 || first.Header.Get("Etag") == "" {
		t.Errorf("resumed: %s with ETag %q, want 206", rest.Status, first.Header.Get("Etag"))
	}
	sum := sha256.New()
	sum.Write(half)
	_, err = io.Copy(sum, rest.Body)
	must(t, err)
	if got := hex.EncodeToString(sum.Sum(nil)); got != file.sha256() {
		t.Errorf("half and half have SHA-256 %s, want %s", got, file.sha256())
	}
	if out, err := exec.Command("curl", "-sfk", "-LOJ", "--output-dir", t.TempDir(), "--data-urlencode", "key="+l.url, l.page).CombinedOutput(); err != nil {
		t.Errorf("curl: %v\n%s", err, out)
	}
	f.checkLogs(t, l)
	f.checkKept(t, file.content)
	return f, l
}

func (f *front) pages(t *testing.T, l link) {
	t.Helper()
	page := f.do(t, "GET", l.page, nil)
	if page.StatusCode != 200 || page.ProtoMajor != 2 {
		t.Errorf("the page: %s %s, want 200 over HTTP/2", page.Proto, page.Status)
	}
	for name, want := range map[string]string{"Strict-Transport-Security": "max-age=31536000", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "private, no-store"} {
		if got := page.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, escaped := range []string{"%23", "%2523"} {
		resp := f.do(t, "GET", l.page+escaped+l.fragment, nil)
		if got := resp.Header.Get("Location"); resp.StatusCode != 303 || !strings.HasSuffix(got, "/"+l.cid+"#"+l.fragment) {
			t.Errorf("%s: %s to %.20q, want the link as it was", escaped, resp.Status, got)
		}
	}
	path := strings.TrimPrefix(l.page, f.url)
	plain := f.do(t, "GET", f.plain+path, nil)
	if got := plain.Header.Get("Location"); plain.StatusCode/100 != 3 || got != "https://127.0.0.1"+path {
		t.Errorf("without TLS: %s to %q, want the page with it", plain.Status, got)
	}
}

// checkLogs looks in the logs for what must not be there; see TestLogs for all the rest.
func (f *front) checkLogs(t *testing.T, l link) {
	t.Helper()
	f.client.CloseIdleConnections()
	for _, path := range f.logs {
		text, err := os.ReadFile(path)
		must(t, err)
		keepLog("the web server", string(text))
		if strings.Contains(string(text), l.fragment) || strings.Contains(string(text), "behind") {
			t.Errorf("%s has a key or a file name", filepath.Base(path))
		}
	}
}

// checkKept looks for a piece of the file in all that the server has on disk.
func (f *front) checkKept(t *testing.T, content []byte) {
	t.Helper()
	err := filepath.WalkDir(f.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		kept, err := os.ReadFile(path)
		if bytes.Contains(kept, content[1<<20:1<<20+64]) || bytes.Contains(kept, content[7<<20:7<<20+64]) {
			t.Errorf("the web server has kept %s", path)
		}
		return err
	})
	must(t, err)
}
