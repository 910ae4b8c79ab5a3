package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// escapes move a terminal's cursor, name its window, and turn the writing direction.
const escapes = "\x1b]0;owned\a\x1b[2J\u202e\x9b31m\r"

// hostile serves one kind of connection on a free port.
func hostile(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	return l.Addr().String()
}

// hostileNextHop refuses EHLO with a reply that is meant for a terminal.
func hostileNextHop(c net.Conn) {
	fmt.Fprint(c, "220 "+escapes+"\r\n")
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		fmt.Fprint(c, "550 "+escapes+"SPOOFED"+strings.Repeat("x", 1500)+"\r\n")
	}
}

// hostileTLS answers with a certificate whose names are meant for a terminal.
func hostileTLS(t *testing.T) func(net.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must.Succeed(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"\x1b]0;owned\a.example", "b.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must.Succeed(t, err)
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return func(c net.Conn) { _ = tls.Server(c, cfg).Handshake() }
}

// hostilePage answers every request with a status line and a page that are meant for a terminal.
func hostilePage(c net.Conn) {
	if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		fmt.Fprintf(c, "HTTP/1.1 502 %[1]s\r\nContent-Type: text/html\r\n\r\n%[1]s", escapes)
	}
}

// No command prints what other servers say in a way that a terminal obeys.
func TestServersWordsMoveNoCursor(t *testing.T) {
	nextHop := hostile(t, hostileNextHop)
	for name, gateway := range map[string]string{
		"certificate": "https://" + hostile(t, hostileTLS(t)),
		"error page":  "http://" + hostile(t, hostilePage),
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "detach.toml")
		write(t, file, fmt.Sprintf("data_dir = %q\n[[proxy]]\nlisten = \"127.0.0.1:0\"\nreinject = %q\n[gateway]\nlisten = \"127.0.0.1:0\"\nurl = %q\n[admin]\nlisten = \"\"\n",
			filepath.Join(dir, "data"), nextHop, gateway), 0o600)
		link := gateway + "/bafybeihkt3weyqbdneb6b5bia67feskzvgjroyohes6biubeva7a32tlei#z" + strings.Repeat("A", 44)
		for _, args := range [][]string{{"check", "--config", file}, {"get", link}} {
			var said strings.Builder
			code := run(t.Context(), args, nil, &said, &said)
			if code != exitFailed {
				t.Errorf("%s: %s: exit code %d, want %d: %q", name, args[0], code, exitFailed, said.String())
			}
			wantPlain(t, name+": "+args[0], said.String())
		}
	}
	cfg := config.Config{DataDir: t.TempDir(), Store: config.Store{Kind: "embedded"}, Gateway: config.Gateway{URL: "https://files.example.org"}}
	cfg.Proxy = []config.Proxy{{Reinject: nextHop}}
	a, err := openApp(cfg, slog.New(slog.DiscardHandler))
	must.Succeed(t, err)
	defer a.Close()
	if _, err := a.ready(t.Context()); err == nil || !strings.Contains(err.Error(), "SPOOFED") {
		t.Errorf("ready: got %v, want the next hop's words", err)
	} else {
		wantPlain(t, "readyz", err.Error())
	}
}

func wantPlain(t *testing.T, what, said string) {
	t.Helper()
	for line := range strings.Lines(said) {
		if line = strings.TrimSuffix(line, "\n"); plain(line) != line || len(line) > 2*maxLine {
			t.Errorf("%s: printed %.300q", what, line)
		}
	}
}
