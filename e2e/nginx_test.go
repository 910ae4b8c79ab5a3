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

var nginxBlock = regexp.MustCompile("(?s)```nginx\n(.*?)```")

// nginx runs the configuration of docs/gateway.md in front of a gateway.
type nginx struct {
	url    string
	logs   []string // files
	temp   string
	client *http.Client
}

func startNginx(t *testing.T, gateway, public string) *nginx {
	t.Helper()
	servers.Need(t, "nginx")
	text, err := os.ReadFile("../docs/gateway.md")
	must(t, err)
	m := nginxBlock.FindSubmatch(text)
	if m == nil {
		t.Fatal("docs/gateway.md has no configuration of nginx")
	}
	dir := t.TempDir()
	n := &nginx{url: "https://" + public, temp: filepath.Join(dir, "temp"), logs: []string{filepath.Join(dir, "detach.log"), filepath.Join(dir, "detach-error.log")}}
	must(t, os.Mkdir(n.temp, 0o700))
	trusted := certificate(t, dir)
	site := strings.NewReplacer("listen 80;", "listen "+servers.FreeAddr(t)+";", "listen 443", "listen "+public, "/etc/letsencrypt/live/files.example.org", dir,
		"/var/log/nginx", dir, "127.0.0.1:8080", gateway, "files.example.org", "127.0.0.1").Replace(string(m[1]))
	main := "user root;\npid " + dir + "/pid;\ndaemon off;\nerror_log " + dir + "/main.log;\nevents {}\nhttp {\nclient_body_temp_path " + n.temp + "/body;\nproxy_temp_path " + n.temp +
		"/proxy;\nfastcgi_temp_path " + n.temp + "/f;\nuwsgi_temp_path " + n.temp + "/u;\nscgi_temp_path " + n.temp + "/s;\n" + site + "}\n"
	must(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(main), 0o600))
	cmd := exec.Command(servers.LookPath("nginx"), "-c", filepath.Join(dir, "nginx.conf"), "-e", dir+"/main.log")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if t.Failed() {
			t.Logf("nginx: %s", out.Bytes())
		}
	})
	n.client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, ForceAttemptHTTP2: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(n.client.CloseIdleConnections)
	servers.Eventually(t, 20*time.Second, "nginx", func() bool {
		resp, err := n.client.Get(n.url + "/robots.txt")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return n
}

func (n *nginx) do(t *testing.T, method, address string, form url.Values, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	must(t, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := n.client.Do(req)
	must(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// Behind nginx, set up as docs/gateway.md says: pages and downloads pass as they are, a download that broke off resumes also after
// the gateway was started anew, nothing is kept on disk, and what scanners make of a link leaves no key in any log.
func TestBehindNginx(t *testing.T) {
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
	n := startNginx(t, strings.TrimPrefix(d.url, "http://"), public)
	file := fileOf("behind the web server.bin", noise(81, 8<<20+3))
	l := d.put(t, file)[0]

	page := n.do(t, "GET", l.page, nil)
	if page.StatusCode != 200 || page.ProtoMajor != 2 {
		t.Errorf("the page: %s %s, want 200 over HTTP/2", page.Proto, page.Status)
	}
	for name, want := range map[string]string{"Strict-Transport-Security": "max-age=31536000", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "private, no-store"} {
		if got := page.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, escaped := range []string{"%23", "%2523"} {
		resp := n.do(t, "GET", l.page+escaped+l.fragment, nil)
		if got := resp.Header.Get("Location"); resp.StatusCode != 303 || !strings.HasSuffix(got, "/"+l.cid+"#"+l.fragment) {
			t.Errorf("%s: %s to %.20q, want the link as it was", escaped, resp.Status, got)
		}
	}

	opened := n.do(t, "POST", l.page, url.Values{"key": {l.fragment}})
	where, err := opened.Location()
	must(t, err)
	if where.Host != public {
		t.Errorf("the file is at %s, want %s", where.Host, public)
	}
	keepSecret(ticketSecret, strings.Split(where.Path, "/")[3])
	first := n.do(t, "GET", where.String(), nil)
	half := make([]byte, len(file.content)/2)
	_, err = io.ReadFull(first.Body, half)
	must(t, err)
	first.Body.Close() // the connection breaks
	m.terminate(t)
	m.start(t)
	rest := n.do(t, "GET", where.String(), nil, "Range", fmt.Sprintf("bytes=%d-", len(half)), "If-Range", first.Header.Get("Etag"))
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
	n.checkLogs(t, l)
	n.checkTemp(t)
}

// checkLogs looks for the log's lines, and in them for what must not be there; see TestFault82_Logs for all the rest.
func (n *nginx) checkLogs(t *testing.T, l link) {
	t.Helper()
	n.client.CloseIdleConnections()
	for _, path := range n.logs {
		text, err := os.ReadFile(path)
		must(t, err)
		keepLog("nginx", string(text))
		if strings.HasSuffix(path, "detach.log") && (!strings.Contains(string(text), " GET "+l.cid+" 303 ") || !strings.Contains(string(text), " GET "+l.cid+"/t 206 ")) {
			t.Errorf("the access log does not have the requests:\n%s", text)
		}
		if strings.Contains(string(text), l.fragment) || strings.Contains(string(text), "behind") {
			t.Errorf("%s has a key or a file name", filepath.Base(path))
		}
	}
}

func (n *nginx) checkTemp(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(n.temp, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			t.Errorf("nginx has kept %s", path)
		}
		return err
	})
	must(t, err)
}
