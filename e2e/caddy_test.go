package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

func startCaddy(t *testing.T, gateway, public string) *front {
	t.Helper()
	servers.Need(t, "caddy")
	dir, plain := t.TempDir(), servers.FreeAddr(t)
	f := &front{url: "https://" + public, plain: "http://" + plain, dir: dir, logs: []string{filepath.Join(dir, "caddy.log")}}
	trusted := certificate(t, dir)
	_, http, _ := strings.Cut(plain, ":")
	_, https, _ := strings.Cut(public, ":")
	// The ports and the certificate are the test's. Another Caddy on this machine has the port that this one would be configured at, and
	// who holds the UDP port of public holds it for us (servers.FreeAddr), so there is no HTTP/3.
	ours := fmt.Sprintf("\n{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\thttp_port %s\n\thttps_port %s\n\tservers {\n\t\tprotocols h1 h2\n\t}\n", http, https)
	file := strings.NewReplacer("\n{\n", ours, "files.example.org {", "127.0.0.1 {\n\ttls "+dir+"/fullchain.pem "+dir+"/privkey.pem", "127.0.0.1:8080", gateway).Replace(gatewayGuide(t, "caddyfile"))
	must(t, os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(file), 0o600))
	cmd := exec.Command(servers.LookPath("caddy"), "run", "--config", filepath.Join(dir, "Caddyfile"), "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	f.run(t, trusted, cmd)
	return f
}

// Caddy is set up as docs/gateway.md says.
func TestBehindCaddy(t *testing.T) { behind(t, startCaddy) }
