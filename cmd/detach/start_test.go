package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// refusal is a mistake: a file put into the folder of the test, or a change to a good
// configuration, in which DIR stands for that folder; and the error that the test wants.
type refusal struct {
	put      put
	from, to string
	want     string
}

type put struct {
	path, text   string
	mode, folder os.FileMode // folder: mode of the file's folder, unless 0
}

const (
	zeroKey     = "0000000000000000000000000000000000000000000000000000000000000000\n"
	proxyListen = `listen = "127.0.0.1:0" # proxy`
	kuboTable   = "[store]\nkind = \"kubo\"\n[store.kubo]\n"
)

var refusals = map[string]refusal{
	"bad URL":                 {put{}, `url = "http://localhost:1"`, `url = "files.example.org"`, `^detach: gateway\.url: .*: write https://host`},
	"plain HTTP":              {put{}, `url = "http://localhost:1"`, `url = "http://files.example.org"`, `^detach: gateway\.url: .* plain HTTP .* use https://`},
	"missing key":             {put{}, `reinject = "127.0.0.1:1"`, ``, `^detach: proxy\[0\]\.reinject: missing: name the next hop`},
	"unknown key":             {put{}, `reinject =`, `reinjekt =`, `^detach: proxy\.reinjekt: unknown key: did you mean`},
	"not TOML":                {put{}, `[gateway]`, `[gateway`, `^detach: .*line \d+: `},
	"wrong type":              {put{}, `restore = true`, `restore = "yes"`, `^detach: .*restore.*`},
	"bad unit":                {put{}, `restore = true`, `max_size = "10 parsecs"`, `^detach: .*max_size.*`},
	"reinject to itself":      {put{}, proxyListen, `listen = "127.0.0.1:1"`, `^detach: proxy\[0\]\.reinject: .* is proxy\[0\]\.listen, Detach itself`},
	"address of another host": {put{}, proxyListen, `listen = "203.0.113.1:25"`, `^detach: proxy\[0\]\.listen: .*203\.0\.113\.1:25.* choose another address`}, // RFC 5737
	"key readable by all":     {put{"data/keys/2026-11.abcdefgh.key", zeroKey, 0o644, 0}, ``, ``, `^detach: data_dir: .*2026-11\.abcdefgh\.key .*0644.*chmod 600`},
	"writable keyring":        {put{"data/keys/2026-11.abcdefgh.key", zeroKey, 0o600, 0o775}, ``, ``, `^detach: data_dir: keyring .*data/keys .*0775.* chmod 700`},
	"data_dir is a file":      {put{"data", "", 0o600, 0}, ``, ``, `^detach: data_dir: .*not a directory.*`},
	"store is a file":         {put{"data/objects", "", 0o600, 0}, ``, ``, `^detach: data_dir: .*objects.* not a directory`},
	"ledger is a file":        {put{"data/ledger", "", 0o600, 0}, ``, ``, `^detach: data_dir: .*ledger.* not a directory`},
	"tmp is a file":           {put{"data/tmp", "", 0o600, 0}, ``, ``, `^detach: data_dir: .*tmp.* not a directory`},
	"socket is a file":        {put{"in-the-way", "", 0o600, 0}, proxyListen, `listen = "unix:DIR/in-the-way"`, `^detach: proxy\[0\]\.listen: .*in-the-way.* choose another address`},
	"socket without folder":   {put{}, proxyListen, `listen = "unix:DIR/none/socket"`, `^detach: proxy\[0\]\.listen: .*none/socket.* choose another address`},
	"long socket name":        {put{}, proxyListen, `listen = "unix:DIR/` + strings.Repeat("x", 108) + `"`, `^detach: proxy\[0\]\.listen: .*xxx.* choose another address`},
	"no logo":                 {put{}, `[gateway]`, "[gateway]\nlogo = \"/nowhere/at/all\"", `^detach: gateway\.logo: .*/nowhere/at/all.* name an image`},
	"no token":                {put{}, `[store]`, kuboTable + `token_file = "/nowhere/at/all"`, `^detach: store\.kubo\.token_file: .*/nowhere/at/all`},
	"token in the clear":      {put{"token", "bearer:t0psecret\n", 0o600, 0}, `[store]`, kuboTable + "api = \"http://192.0.2.1:5001\"\ntoken_file = \"DIR/token\"", `^detach: store\.kubo\.token_file: .*192\.0\.2\.1.* by https://`}, // RFC 5737
	"token readable by all":   {put{"token", "bearer:t0psecret\n", 0o644, 0}, `[store]`, kuboTable + `token_file = "DIR/token"`, `^detach: store\.kubo\.token_file: .*0644.* chmod 0600`},
}

// A mistake in the configuration, or in what it names, is reported before anything is served: in
// one line with the key and the remedy, and with exit code 2. check names the same key.
func TestServeRefusesMistakes(t *testing.T) {
	faults.Covers(t, 97)
	used, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	defer used.Close()
	listen := fmt.Sprintf("listen = %q", used.Addr())
	refusals["port used"] = refusal{put{}, proxyListen, listen, `^detach: proxy\[0\]\.listen: .*in use.* choose another address`}
	refusals["last port used"] = refusal{put{}, `listen = ""`, listen, `^detach: admin\.listen: .*in use.* choose another address`}
	for name, c := range refusals {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			text := fmt.Sprintf("data_dir = %q\n[[proxy]]\nlisten = \"127.0.0.1:0\" # proxy\nreinject = \"127.0.0.1:1\"\nrestore = true\n[store]\n"+
				"[gateway]\nlisten = \"127.0.0.1:0\"\nurl = \"http://localhost:1\"\n[admin]\nlisten = \"\"\n", filepath.Join(dir, "data"))
			if !strings.Contains(text, c.from) {
				t.Fatalf("the configuration has no %q", c.from)
			}
			if put := filepath.Join(dir, c.put.path); put != dir {
				write(t, put, c.put.text, c.put.mode)
				if c.put.folder != 0 {
					must.Succeed(t, os.Chmod(filepath.Dir(put), c.put.folder))
				}
			}
			file := filepath.Join(dir, "detach.toml")
			write(t, file, strings.Replace(text, c.from, strings.ReplaceAll(c.to, "DIR", filepath.ToSlash(dir)), 1), 0o600)
			var stdout, stderr bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), servers.Patience) // for a serve that starts
			defer cancel()
			if code := run(ctx, []string{"serve", "--config", file}, nil, &stdout, &stderr); code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			line, rest, _ := strings.Cut(stderr.String(), "\n")
			if !regexp.MustCompile(c.want).MatchString(line) || rest != "" || stdout.Len() > 0 {
				t.Errorf("said %q, want one line that matches %s", stderr.String()+stdout.String(), c.want)
			}
			// check has the same exit code, and names the key in a line that fails.
			key, _, _ := strings.Cut(strings.TrimPrefix(c.want, "^detach: "), ": ")
			var checked, said bytes.Buffer
			code := run(ctx, []string{"check", "--config", file}, nil, &checked, &said)
			wrong := strings.Join(regexp.MustCompile(`(?m)^FAIL .*`).FindAllString(checked.String(), -1), "\n") + said.String()
			if code != exitUsage || !regexp.MustCompile(key).MatchString(wrong) {
				t.Errorf("check: exit code %d, want %d, and %s in %q", code, exitUsage, key, wrong)
			}
			if strings.Contains(stderr.String()+checked.String()+said.String(), "t0psecret") {
				t.Errorf("a secret is shown: %s%s%s", stderr.String(), checked.String(), said.String())
			}
		})
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	must.Succeed(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must.Succeed(t, os.WriteFile(path, []byte(text), mode))
}
