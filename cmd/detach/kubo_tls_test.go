package main

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/cmd/detach/mailbox"
	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/fetch/fetchtest"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/privateca"
)

// A node may be behind a web server whose certificate a private CA has signed: SSL_CERT_FILE names
// the CA, as for other programs. A process reads the CAs once, so the test needs the real binary.
func TestKuboBehindAPrivateCA(t *testing.T) {
	node, err := url.Parse(servers.Kubo(t).URL())
	must.Succeed(t, err)
	dir := t.TempDir()
	ours, other := privateca.New(t), privateca.New(t)
	oursFile, otherFile := filepath.Join(dir, "ours.pem"), filepath.Join(dir, "other.pem")
	ours.WriteFile(t, oursFile)
	other.WriteFile(t, otherFile)
	serve := func(c tls.Certificate) string {
		s := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(node))
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // refused handshakes are expected
		s.TLS = &tls.Config{Certificates: []tls.Certificate{c}}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL
	}
	good := serve(ours.Sign(t, "127.0.0.1", time.Hour))
	detach := func(api, ca string, stdin []byte, args ...string) (stdout, stderr string, code int) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "detach", args...)
		cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+ca, "SSL_CERT_DIR="+filepath.Join(dir, "none"), "DETACH_STORE_KUBO_API="+api,
			"DETACH_STORE_KIND=kubo", "DETACH_DATA_DIR="+filepath.Join(dir, "data"), "DETACH_GATEWAY_URL=http://localhost:1",
			"DETACH_GATEWAY_LISTEN=127.0.0.1:0", "DETACH_ADMIN_LISTEN=", "DETACH_CONFIG="+filepath.Join(dir, "detach.toml"))
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(stdin)
		var out, err bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &err
		_ = cmd.Run() // the exit code tells
		return out.String(), err.String(), cmd.ProcessState.ExitCode()
	}
	write(t, filepath.Join(dir, "detach.toml"), "", 0o600)
	must.Succeed(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))

	stdout, stderr, code := detach(good, oursFile, nil, "check")
	if code != 0 || !strings.Contains(stdout, "kubo: written, read and deleted") {
		t.Fatalf("check: exit code %d, %s%s", code, stdout, stderr)
	}
	content := fetchtest.Random(3<<20 + 1)
	var mail bytes.Buffer
	must.Succeed(t, writeMail(&mail, "<1@example.org>", "x", "a.bin", bytes.NewReader(content)))
	rewritten, stderr, code := detach(good, oursFile, mail.Bytes(), "filter")
	if code != 0 {
		t.Fatalf("filter: exit code %d, %s", code, stderr)
	}
	l, err := detachLink(&mailbox.Mail{Raw: []byte(rewritten)})
	must.Succeed(t, err)
	got, stderr, code := detach("", oursFile, nil, "get", "--api", good, "--keys", "data/keys", "-o", "-", l.URL())
	if code != 0 || got != string(content) {
		t.Errorf("get: exit code %d, %d bytes, %s", code, len(got), stderr)
	}

	for name, tt := range map[string]struct{ api, ca, want string }{
		"another CA":     {good, otherFile, "if the CA is your own, name the file of its certificate in the environment, SSL_CERT_FILE"},
		"no CA":          {good, filepath.Join(dir, "none"), "signed by unknown authority: if the CA is your own, name the file of its certificate in the environment, SSL_CERT_FILE"},
		"another host":   {serve(ours.Sign(t, "node.example.org", time.Hour)), oursFile, "cannot validate certificate for 127.0.0.1"},
		"expired":        {serve(ours.Sign(t, "127.0.0.1", -time.Minute)), oursFile, "expired"},
		"no TLS spoken":  {strings.Replace(good, "https", "http", 1), oursFile, "does it want https://?"},
		"no TLS offered": {"https://" + node.Host, oursFile, "HTTP response to HTTPS client"},
	} {
		stdout, stderr, code := detach(tt.api, tt.ca, nil, "check")
		said := strings.Contains(stdout, tt.want)
		if name == "no TLS spoken" { // check sends a body: the connection may close before the answer is read
			said = said || strings.Contains(stdout, "broken pipe") || strings.Contains(stdout, "connection reset")
		}
		if code != exitFailed || !strings.Contains(stdout, "FAIL  store") || !said || !strings.Contains(stdout, "correct store.kubo.api") {
			t.Errorf("%s: check: exit code %d, want %d and %q in\n%s%s", name, code, exitFailed, tt.want, stdout, stderr)
		}
		got, stderr, code := detach("", tt.ca, nil, "get", "--api", tt.api, "--keys", "data/keys", "-o", "-", l.URL())
		if code != exitFailed || got != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: get: exit code %d, want %d and %q in\n%s", name, code, exitFailed, tt.want, stderr)
		}
	}
}
