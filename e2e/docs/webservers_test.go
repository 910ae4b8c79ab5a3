package docs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/privateca"
)

// certificate writes a certificate for 127.0.0.1 into dir, and returns a pool that trusts it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	ca := privateca.New(t)
	privateca.WriteServer(t, ca.Sign(t, "127.0.0.1", time.Hour), filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem"))
	return ca.Pool(t)
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
	m := regexp.MustCompile("(?s)```" + server + "\n(.*?)```").FindStringSubmatch(stage.ReadFile(t, stage.Path("docs", "gateway.md")))
	if m == nil {
		t.Fatalf("docs/gateway.md has no configuration of %s", server)
	}
	return m[1]
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

func (f *front) get(t *testing.T, address string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	stage.Must(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := f.client.Do(req)
	stage.Must(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// behind opens links through a web server, as a recipient and a scanner do. Pages and downloads
// pass unchanged, and a download that broke off resumes after a restart of the gateway. The web
// server keeps nothing on disk. No log has a key or a file's name, also after a scanner has escaped
// a link and after requests while the gateway was away.
func behind(t *testing.T, start func(t *testing.T, gateway, public string) *front) (*front, stage.Link) {
	t.Helper()
	public := servers.FreeAddr(t)
	d := stage.Serve(t, stage.Setup{Policy: "min_size = \"1\"\nrestore = false", URL: "https://" + public})
	f := start(t, strings.TrimPrefix(d.URL, "http://"), public)
	file := stage.FileOf("behind the web server.bin", stage.Noise(81, 8<<20+3))
	l := d.Put(t, file)[0]
	f.pages(t, l)

	where, err := l.Ticket(t.Context(), f.client)
	stage.Must(t, err)
	if !strings.HasPrefix(where, "https://"+public+"/") {
		t.Errorf("the file is at %.30s, want %s", where, public)
	}
	first := f.get(t, where)
	half := make([]byte, len(file.Content)/2)
	_, err = io.ReadFull(first.Body, half)
	stage.Must(t, err)
	first.Body.Close() // the connection breaks
	d.Terminate(t)
	for _, address := range []string{where, l.Page + "%23" + l.Fragment} {
		if away := f.get(t, address); away.StatusCode != 502 {
			t.Errorf("without a gateway: %s, want 502", away.Status)
		}
	}
	d.Start(t)
	rest := f.get(t, where, "Range", fmt.Sprintf("bytes=%d-", len(half)), "If-Range", first.Header.Get("Etag"))
	if rest.StatusCode != 206 || first.Header.Get("Etag") == "" {
		t.Errorf("resumed: %s with ETag %q, want 206", rest.Status, first.Header.Get("Etag"))
	}
	other, err := io.ReadAll(rest.Body)
	stage.Must(t, err)
	if got := stage.SHA256(append(half, other...)); got != file.SHA256() {
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
	page := f.get(t, l.Page)
	if page.StatusCode != 200 || page.ProtoMajor != 2 {
		t.Errorf("the page: %s %s, want 200 over HTTP/2", page.Proto, page.Status)
	}
	for name, want := range map[string]string{"Strict-Transport-Security": "max-age=31536000", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "private, no-store"} {
		if got := page.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, escaped := range []string{"%23", "%2523"} {
		resp := f.get(t, l.Page+escaped+l.Fragment)
		if got := resp.Header.Get("Location"); resp.StatusCode != 303 || !strings.HasSuffix(got, "/"+l.CID+"#"+l.Fragment) {
			t.Errorf("%s: %s to %.20q, want the link as it was", escaped, resp.Status, got)
		}
	}
	path := strings.TrimPrefix(l.Page, f.url)
	plain := f.get(t, f.plain+path)
	if got := plain.Header.Get("Location"); plain.StatusCode/100 != 3 || got != "https://127.0.0.1"+path {
		t.Errorf("without TLS: %s to %q, want the page with it", plain.Status, got)
	}
}

// checkLogs checks that the logs have no key and no file name; stage.Main looks for all secrets.
func (f *front) checkLogs(t *testing.T, l stage.Link) {
	t.Helper()
	f.client.CloseIdleConnections()
	for _, path := range f.logs {
		text := stage.ReadFile(t, path)
		stage.KeepLog("the web server", text)
		if strings.Contains(text, l.Fragment) || strings.Contains(text, "behind") {
			t.Errorf("%s has a key or a file name", filepath.Base(path))
		}
	}
}

// checkKept checks that the server has no piece of the file on disk.
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
	return runNginx(t, gateway, public, gatewayGuide(t, "nginx"))
}

// runNginx runs a configuration of docs/gateway.md.
func runNginx(t *testing.T, gateway, public, guide string) *front {
	t.Helper()
	servers.Need(t, "nginx")
	dir, plain := t.TempDir(), servers.FreeAddr(t)
	f := &front{url: "https://" + public, plain: "http://" + plain, dir: dir, logs: []string{filepath.Join(dir, "main.log"), filepath.Join(dir, "detach.log"), filepath.Join(dir, "detach-error.log")}}
	trusted := certificate(t, dir)
	site := strings.NewReplacer("listen 80;", "listen "+plain+";", "listen 443", "listen "+public, "/etc/letsencrypt/live/files.example.org", dir,
		"/var/log/nginx", dir, "127.0.0.1:8080", gateway, "files.example.org", "127.0.0.1").Replace(guide)
	temp := filepath.Join(dir, "temp")
	stage.Must(t, os.Mkdir(temp, 0o700))
	main := "user root;\npid " + dir + "/pid;\ndaemon off;\nevents {}\nhttp {\nclient_body_temp_path " + temp + "/body;\nproxy_temp_path " + temp +
		"/proxy;\nfastcgi_temp_path " + temp + "/f;\nuwsgi_temp_path " + temp + "/u;\nscgi_temp_path " + temp + "/s;\n" + site + "}\n"
	stage.Must(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(main), 0o600))
	f.run(t, trusted, exec.Command(servers.LookPath("nginx"), "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr"))
	return f
}

// nginx works as configured in docs/gateway.md.
func TestGatewayGuideWithNginx(t *testing.T) {
	f, l := behind(t, startNginx)
	text := stage.ReadFile(t, f.logs[1])
	if !strings.Contains(text, " GET "+l.CID+" 303 ") || !strings.Contains(text, " GET "+l.CID+"/t 206 ") {
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
	return runCaddy(t, gateway, public, gatewayGuide(t, "caddyfile"))
}

// runCaddy runs a configuration of docs/gateway.md.
func runCaddy(t *testing.T, gateway, public, guide string) *front {
	t.Helper()
	servers.Need(t, "caddy")
	dir, plain := t.TempDir(), servers.FreeAddr(t)
	f := &front{url: "https://" + public, plain: "http://" + plain, dir: dir, logs: []string{filepath.Join(dir, "caddy.log")}}
	trusted := certificate(t, dir)
	_, http, _ := strings.Cut(plain, ":")
	_, https, _ := strings.Cut(public, ":")
	// Ports and certificate are the test's. Another Caddy may have the port of the administration,
	// so that is off. servers.FreeAddr holds the UDP port of public, so HTTP/3 is off.
	ours := fmt.Sprintf("\n{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\thttp_port %s\n\thttps_port %s\n\tservers {\n\t\tprotocols h1 h2\n\t}\n", http, https)
	file := strings.NewReplacer("\n{\n", ours, "example.org {", "example.org {\n\ttls "+dir+"/fullchain.pem "+dir+"/privkey.pem",
		"127.0.0.1:8080", gateway).Replace(guide)
	file = strings.ReplaceAll(file, "files.example.org", "127.0.0.1")
	stage.Must(t, os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(file), 0o600))
	cmd := exec.Command(servers.LookPath("caddy"), "run", "--config", filepath.Join(dir, "Caddyfile"), "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	f.run(t, trusted, cmd)
	return f
}

// Caddy works as configured in docs/gateway.md.
func TestGatewayGuideWithCaddy(t *testing.T) { behind(t, startCaddy) }

// After the gateway got another name, as docs/gateway.md says, the web server answers under both, and
// a link with the old one opens. Here 127.0.0.1 is the new name.
func TestOldHostNameStaysBesideTheNew(t *testing.T) {
	guide := stage.ReadFile(t, stage.Path("docs", "gateway.md"))
	unwrapped := strings.Join(strings.Fields(guide), " ")
	for server, c := range map[string]struct {
		old, both string // in the guide
		run       func(t *testing.T, gateway, public, guide string) *front
	}{
		"nginx":     {"server_name files.example.org;", "server_name files.example.org old.example.org;", runNginx},
		"caddyfile": {"files.example.org {", "files.example.org, old.example.org {", runCaddy},
	} {
		t.Run(server, func(t *testing.T) {
			if !strings.Contains(unwrapped, c.both) {
				t.Fatalf("docs/gateway.md does not say %q", c.both)
			}
			public := servers.FreeAddr(t)
			d := stage.Serve(t, stage.Setup{Policy: "min_size = \"1\"\nrestore = false", URL: "https://" + public})
			// Other sites of the same web server must not answer for it.
			text := strings.ReplaceAll(gatewayGuide(t, server), c.old, c.both)
			if server == "nginx" {
				text = "server {\n listen 443 ssl default_server;\n ssl_certificate /etc/letsencrypt/live/files.example.org/fullchain.pem;\n" +
					" ssl_certificate_key /etc/letsencrypt/live/files.example.org/privkey.pem;\n return 404;\n}\n" + text
			}
			f := c.run(t, strings.TrimPrefix(d.URL, "http://"), public, text)
			l := d.Put(t, stage.FileOf("a.bin", stage.Noise(82, 1000)))[0]
			want := f.under(t, "127.0.0.1", l.Page)
			if got := f.under(t, "old.example.org", l.Page); got != want || !strings.Contains(got, l.CID) {
				t.Errorf("the page under the old name differs from the one under the new:\n%s", got)
			}
			if got := f.under(t, "other.example.org", l.Page); strings.Contains(got, l.CID) {
				t.Error("a name that is not configured shows the page too, so this test shows nothing")
			}
		})
	}
}

// under returns what is at an address of the web server under another name than its own, or "" if
// it does not answer.
func (f *front) under(t *testing.T, host, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	stage.Must(t, err)
	req.Host = host
	resp, err := f.client.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	stage.Must(t, err)
	return string(body)
}
