package check

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/config"
)

// address reports whether a listener could open, or is open in the Detach that runs.
func (c *checker) address(key, address string, running bool) {
	if address == "" {
		c.ok(key, "switched off")
		return
	}
	if strings.HasPrefix(key, "proxy[") && !local(address) {
		c.warn(key, "%s is open to other machines, and Detach relays for every client: use 127.0.0.1 or a unix socket, or let a firewall admit Postfix alone", address)
	}
	used, err := inUse(c.ctx, address)
	switch {
	case err != nil:
		c.refuse(key, "%v: choose another address", err)
	case !used:
		c.ok(key, "%s is free", address)
	case running:
		c.ok(key, "%s is in use, and Detach is running", address)
	default:
		c.refuse(key, "%s is in use by another program: stop it, or choose another address", address)
	}
}

// local reports whether only this machine reaches an address.
func local(address string) bool {
	network, addr := config.Network(address)
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return network == "unix" || host == "localhost" || ip != nil && ip.IsLoopback()
}

// inUse reports whether a program listens on an address; the error says why none could.
func inUse(ctx context.Context, address string) (bool, error) {
	network, addr := config.Network(address)
	if network == "unix" {
		// Connecting is enough: listening would take the socket away from the program that has it.
		if conn, err := new(net.Dialer).DialContext(ctx, network, addr); err == nil {
			return true, conn.Close()
		}
		return false, cannotBind(addr)
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, addr)
	if isInUse(err) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	return false, l.Close()
}

// maxSocketPath is sun_path on Linux, without the zero byte at its end (unix(7)).
const maxSocketPath = 107

// cannotBind says why a unix socket could not be made.
func cannotBind(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket", path)
	case len(path) > maxSocketPath:
		return fmt.Errorf("%s is too long for a socket", path)
	}
	if err := mayWrite(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%s: %w", filepath.Dir(path), err)
	}
	return nil
}

// answersAsDetach reports whether a Detach with this admin.listen runs: its metrics have our name.
func answersAsDetach(ctx context.Context, address string) bool {
	if address == "" {
		return false
	}
	network, addr := config.Network(address)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	_, body, err := get(ctx, &http.Transport{DialContext: dial}, "http://admin/metrics")
	return err == nil && strings.Contains(body, "\ndetach_")
}

const (
	// onlyOurs is a file of every gateway, and ourWords are in it.
	onlyOurs = "/w/worker.js"
	ourWords = "Decrypts downloads in the browser"
	// plainHTTP is in net/http's error for a server without TLS.
	plainHTTP = "server gave HTTP response to HTTPS client"
)

// url reports whether recipients could reach the gateway. It can be reachable for them and not from
// here, or the other way round, so this is only a warning.
func (c *checker) url(url string, running bool) {
	const key = "gateway.url"
	status, body, err := get(c.ctx, &http.Transport{Proxy: http.ProxyFromEnvironment}, url+onlyOurs)
	switch {
	case err == nil && status == http.StatusOK && strings.Contains(body, ourWords):
		c.ok(key, "%s answers", url)
	case err == nil && (status == http.StatusOK || status == http.StatusNotFound):
		c.warn(key, "%s is another web site: forward this address to gateway.listen, with its whole path", url)
	case err != nil && strings.Contains(err.Error(), plainHTTP):
		c.warn(key, "the web server at %s speaks plain HTTP on this port: let it end TLS there (nginx: listen 443 ssl)", url)
	case err == nil:
		c.warn(key, "%s answers %d %s: forward it to gateway.listen", url, status, http.StatusText(status))
	case !running:
		c.warn(key, "%s does not answer, and Detach is not running: check again when it runs", url)
	default:
		c.warn(key, "%v: forward it to gateway.listen, unless it cannot be reached from here only", err)
	}
}

// kuboAPI warns of a node that is reached through a network without TLS. With a token, the
// configuration refuses it.
func (c *checker) kuboAPI(s *config.Store) {
	if s.Kind == "kubo" && s.Kubo.InTheClear() {
		c.warn("store.kubo.api", "plain HTTP to another machine (%s): the network sees ciphertext and CIDs, and any machine that reaches the port can delete everything: "+
			"use https:// or a tunnel, and token_file", s.Kubo.API)
	}
}

func get(ctx context.Context, transport *http.Transport, url string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	transport.DisableKeepAlives = true
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(b), err
}
