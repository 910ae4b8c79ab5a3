package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

func startNginx(t *testing.T, gateway, public string) *front {
	t.Helper()
	servers.Need(t, "nginx")
	dir, plain := t.TempDir(), servers.FreeAddr(t)
	f := &front{url: "https://" + public, plain: "http://" + plain, dir: dir, logs: []string{filepath.Join(dir, "main.log"), filepath.Join(dir, "detach.log"), filepath.Join(dir, "detach-error.log")}}
	trusted := certificate(t, dir)
	site := strings.NewReplacer("listen 80;", "listen "+plain+";", "listen 443", "listen "+public, "/etc/letsencrypt/live/files.example.org", dir,
		"/var/log/nginx", dir, "127.0.0.1:8080", gateway, "files.example.org", "127.0.0.1").Replace(gatewayGuide(t, "nginx"))
	temp := filepath.Join(dir, "temp")
	must(t, os.Mkdir(temp, 0o700))
	main := "user root;\npid " + dir + "/pid;\ndaemon off;\nevents {}\nhttp {\nclient_body_temp_path " + temp + "/body;\nproxy_temp_path " + temp +
		"/proxy;\nfastcgi_temp_path " + temp + "/f;\nuwsgi_temp_path " + temp + "/u;\nscgi_temp_path " + temp + "/s;\n" + site + "}\n"
	must(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(main), 0o600))
	f.run(t, trusted, exec.Command(servers.LookPath("nginx"), "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr"))
	return f
}

// nginx is set up as docs/gateway.md says.
func TestBehindNginx(t *testing.T) {
	f, l := behind(t, startNginx)
	text, err := os.ReadFile(f.logs[1])
	must(t, err)
	if !strings.Contains(string(text), " GET "+l.cid+" 303 ") || !strings.Contains(string(text), " GET "+l.cid+"/t 206 ") {
		t.Errorf("the access log does not have the requests:\n%s", text)
	}
	temp, err := filepath.Glob(filepath.Join(f.dir, "temp", "*", "*"))
	must(t, err)
	if len(temp) > 0 {
		t.Errorf("nginx has kept %q", temp)
	}
}
