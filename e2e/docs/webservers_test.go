package docs

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
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// certificate makes a certificate for 127.0.0.1, in dir, and returns a pool that trusts it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	stage.Must(t, err)
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	stage.Must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	stage.Must(t, err)
	stage.Must(t, os.WriteFile(filepath.Join(dir, "fullchain.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	stage.Must(t, os.WriteFile(filepath.Join(dir, "privkey.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	trusted, err := x509.ParseCertificate(cert)
	stage.Must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(trusted)
	return pool
}

// front is a web server that runs the configuration of docs/gateway.md in front of a gateway.
type front struct {
	url    string
	plain  string   // where it answers without TLS
	dir    string   // where it may write
	logs   []string // files
	client *http.Client
}

// gatewayGuide returns the configuration in docs/gateway.md for a web server.
func gatewayGuide(t *testing.T, server string) string {
	t.Helper()
	text, err := os.ReadFile(stage.Path("docs", "gateway.md"))
	stage.Must(t, err)
	m := regexp.MustCompile("(?s)```" + server + "\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatalf("docs/gateway.md has no configuration of %s", server)
	}
	return string(m[1])
}

// run starts the server, and returns when it listens.
func (f *front) run(t *testing.T, trusted *x509.CertPool, cmd *exec.Cmd) {
	t.Helper()
	f.client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, ForceAttemptHTTP2: true, DisableCompression: true},
		CheckRedirect: stage.NoRedirects.CheckRedirect,
	}
	servers.Run(t, cmd, f.logs[0], strings.TrimPrefix(f.url, "https://"))
	t.Cleanup(f.client.CloseIdleConnections)
}

func (f *front) do(t *testing.T, method, address string, form url.Values, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	stage.Must(t, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := f.client.Do(req)
	stage.Must(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// behind does by way of a web server what a recipient and a scanner do. Pages and downloads pass
// unchanged, and a download that broke off resumes also after the gateway was restarted. The web
// server keeps nothing on disk. No log has a key or a file's name: neither after a scanner has
// escaped a link, nor after requests while the gateway was away.
func behind(t *testing.T, start func(t *testing.T, gateway, public string) *front) (*front, stage.Link) {
	t.Helper()
	public := servers.FreeAddr(t)
	d := stage.Serve(t, stage.Setup{Policy: "min_size = \"1\"\nrestore = false", URL: "https://" + public})
	f := start(t, strings.TrimPrefix(d.URL, "http://"), public)
	file := stage.FileOf("behind the web server.bin", stage.Noise(81, 8<<20+3))
	l := d.Put(t, file)[0]
	f.pages(t, l)

	opened := f.do(t, "POST", l.Page, url.Values{"key": {l.Fragment}})
	where, err := opened.Location()
	stage.Must(t, err)
	if where.Host != public {
		t.Errorf("the file is at %s, want %s", where.Host, public)
	}
	stage.KeepSecret(stage.TicketSecret, strings.Split(where.Path, "/")[3])
	first := f.do(t, "GET", where.String(), nil)
	half := make([]byte, len(file.Content)/2)
	_, err = io.ReadFull(first.Body, half)
	stage.Must(t, err)
	first.Body.Close() // the connection breaks
	d.Terminate(t)
	for _, address := range []string{where.String(), l.Page + "%23" + l.Fragment} {
		if away := f.do(t, "GET", address, nil); away.StatusCode != 502 {
			t.Errorf("without a gateway: %s, want 502", away.Status)
		}
	}
	d.Start(t)
	rest := f.do(t, "GET", where.String(), nil, "Range", fmt.Sprintf("bytes=%d-", len(half)), "If-Range", first.Header.Get("Etag"))
	if rest.StatusCode != 206 || first.Header.Get("Etag") == "" {
		t.Errorf("resumed: %s with ETag %q, want 206", rest.Status, first.Header.Get("Etag"))
	}
	sum := sha256.New()
	sum.Write(half)
	_, err = io.Copy(sum, rest.Body)
	stage.Must(t, err)
	if got := hex.EncodeToString(sum.Sum(nil)); got != file.SHA256() {
		t.Errorf("half and half have SHA-256 %s, want %s", got, file.SHA256())
	}
	if out, err := exec.Command("curl", "-sfk", "-LOJ", "--output-dir", t.TempDir(), "--data-urlencode", "key="+l.URL, l.Page).CombinedOutput(); err != nil {
		t.Errorf("curl: %v\n%s", err, out)
	}
	f.checkLogs(t, l)
	f.checkKept(t, file.Content)
	return f, l
}

func (f *front) pages(t *testing.T, l stage.Link) {
	t.Helper()
	page := f.do(t, "GET", l.Page, nil)
	if page.StatusCode != 200 || page.ProtoMajor != 2 {
		t.Errorf("the page: %s %s, want 200 over HTTP/2", page.Proto, page.Status)
	}
	for name, want := range map[string]string{"Strict-Transport-Security": "max-age=31536000", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "private, no-store"} {
		if got := page.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, escaped := range []string{"%23", "%2523"} {
		resp := f.do(t, "GET", l.Page+escaped+l.Fragment, nil)
		if got := resp.Header.Get("Location"); resp.StatusCode != 303 || !strings.HasSuffix(got, "/"+l.CID+"#"+l.Fragment) {
			t.Errorf("%s: %s to %.20q, want the link as it was", escaped, resp.Status, got)
		}
	}
	path := strings.TrimPrefix(l.Page, f.url)
	plain := f.do(t, "GET", f.plain+path, nil)
	if got := plain.Header.Get("Location"); plain.StatusCode/100 != 3 || got != "https://127.0.0.1"+path {
		t.Errorf("without TLS: %s to %q, want the page with it", plain.Status, got)
	}
}

// checkLogs looks in the logs for what must not be there; stage.Main looks for everything else.
func (f *front) checkLogs(t *testing.T, l stage.Link) {
	t.Helper()
	f.client.CloseIdleConnections()
	for _, path := range f.logs {
		text, err := os.ReadFile(path)
		stage.Must(t, err)
		stage.KeepLog("the web server", string(text))
		if strings.Contains(string(text), l.Fragment) || strings.Contains(string(text), "behind") {
			t.Errorf("%s has a key or a file name", filepath.Base(path))
		}
	}
}

// checkKept looks for a piece of the file in everything that the server has on disk.
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
	stage.Must(t, err)
}

func startNginx(t *testing.T, gateway, public string) *front {
	t.Helper()
	servers.Need(t, "nginx")
	dir, plain := t.TempDir(), servers.FreeAddr(t)
	f := &front{url: "https://" + public, plain: "http://" + plain, dir: dir, logs: []string{filepath.Join(dir, "main.log"), filepath.Join(dir, "detach.log"), filepath.Join(dir, "detach-error.log")}}
	trusted := certificate(t, dir)
	site := strings.NewReplacer("listen 80;", "listen "+plain+";", "listen 443", "listen "+public, "/etc/letsencrypt/live/files.example.org", dir,
		"/var/log/nginx", dir, "127.0.0.1:8080", gateway, "files.example.org", "127.0.0.1").Replace(gatewayGuide(t, "nginx"))
	temp := filepath.Join(dir, "temp")
	stage.Must(t, os.Mkdir(temp, 0o700))
	main := "user root;\npid " + dir + "/pid;\ndaemon off;\nevents {}\nhttp {\nclient_body_temp_path " + temp + "/body;\nproxy_temp_path " + temp +
		"/proxy;\nfastcgi_temp_path " + temp + "/f;\nuwsgi_temp_path " + temp + "/u;\nscgi_temp_path " + temp + "/s;\n" + site + "}\n"
	stage.Must(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(main), 0o600))
	f.run(t, trusted, exec.Command(servers.LookPath("nginx"), "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr"))
	return f
}

// nginx is set up as docs/gateway.md says.
func TestGatewayGuideWithNginx(t *testing.T) {
	f, l := behind(t, startNginx)
	text, err := os.ReadFile(f.logs[1])
	stage.Must(t, err)
	if !strings.Contains(string(text), " GET "+l.CID+" 303 ") || !strings.Contains(string(text), " GET "+l.CID+"/t 206 ") {
		t.Errorf("the access log does not have the requests:\n%s", text)
	}
	temp, err := filepath.Glob(filepath.Join(f.dir, "temp", "*", "*"))
	stage.Must(t, err)
	if len(temp) > 0 {
		t.Errorf("nginx has kept %q", temp)
	}
}

func startCaddy(t *testing.T, gateway, public string) *front {
	t.Helper()
	servers.Need(t, "caddy")
	dir, plain := t.TempDir(), servers.FreeAddr(t)
	f := &front{url: "https://" + public, plain: "http://" + plain, dir: dir, logs: []string{filepath.Join(dir, "caddy.log")}}
	trusted := certificate(t, dir)
	_, http, _ := strings.Cut(plain, ":")
	_, https, _ := strings.Cut(public, ":")
	// The ports and the certificate are the test's. Another Caddy on this machine may have the port
	// of the administration, so that is off. servers.FreeAddr holds the UDP port of public, so
	// there is no HTTP/3.
	ours := fmt.Sprintf("\n{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\thttp_port %s\n\thttps_port %s\n\tservers {\n\t\tprotocols h1 h2\n\t}\n", http, https)
	file := strings.NewReplacer("\n{\n", ours, "files.example.org {", "127.0.0.1 {\n\ttls "+dir+"/fullchain.pem "+dir+"/privkey.pem", "127.0.0.1:8080", gateway).Replace(gatewayGuide(t, "caddyfile"))
	stage.Must(t, os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(file), 0o600))
	cmd := exec.Command(servers.LookPath("caddy"), "run", "--config", filepath.Join(dir, "Caddyfile"), "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	f.run(t, trusted, cmd)
	return f
}

// Caddy is set up as docs/gateway.md says.
func TestGatewayGuideWithCaddy(t *testing.T) { behind(t, startCaddy) }
