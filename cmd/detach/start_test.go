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
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// refusal is a change that makes a good configuration, or what it names, a bad one, and the error
// that is wanted then.
type refusal struct {
	change func(t *testing.T, dir string) (from, to string)
	want   string
}

var refusals = map[string]refusal{
	"bad URL":     {say(`url = "http://localhost:1"`, `url = "files.example.org"`), `^detach: gateway\.url: .*: write https://host`},
	"plain HTTP":  {say(`url = "http://localhost:1"`, `url = "http://files.example.org"`), `^detach: gateway\.url: .* plain HTTP .* use https://`},
	"missing key": {say(`reinject = "127.0.0.1:1"`, ``), `^detach: proxy\[0\]\.reinject: missing: name the next hop`},
	"unknown key": {say(`reinject =`, `reinjekt =`), `^detach: proxy\.reinjekt: unknown key: did you mean`},
	"not TOML":    {say(`[gateway]`, `[gateway`), `^detach: .*line \d+: `},
	"wrong type":  {say(`restore = true`, `restore = "yes"`), `^detach: .*restore.*`},
	"bad unit":    {say(`restore = true`, `max_size = "10 parsecs"`), `^detach: .*max_size.*`},
	"no right": {say(`listen = "127.0.0.1:0" # proxy`, `listen = "203.0.113.1:25"`), // a documentation address
		`^detach: proxy\[0\]\.listen: .*203\.0\.113\.1:25.* choose another address`},
	"a key that all can read": {func(t *testing.T, dir string) (string, string) {
		write(t, filepath.Join(dir, "data", "keys", "2026-11.key"), strings.Repeat("00", 32)+"\n", 0o644)
		return "", ""
	}, `^detach: data_dir: .*2026-11\.key .*0644.*chmod 600`},
	"a keyring that others can write": {func(t *testing.T, dir string) (string, string) {
		write(t, filepath.Join(dir, "data", "keys", "2026-11.key"), strings.Repeat("00", 32)+"\n", 0o600)
		must.Succeed(t, os.Chmod(filepath.Join(dir, "data", "keys"), 0o775))
		return "", ""
	}, `^detach: data_dir: keyring .*data/keys .*0775.* chmod 700`},
	"a file where a socket should be": {func(t *testing.T, dir string) (string, string) {
		write(t, filepath.Join(dir, "in-the-way"), "", 0o600)
		return `listen = "127.0.0.1:0" # proxy`, fmt.Sprintf("listen = %q", "unix:"+filepath.Join(dir, "in-the-way"))
	}, `^detach: proxy\[0\]\.listen: .*in-the-way.* choose another address`},
	"a socket in a missing folder": {func(t *testing.T, dir string) (string, string) {
		return `listen = "127.0.0.1:0" # proxy`, fmt.Sprintf("listen = %q", "unix:"+filepath.Join(dir, "none", "socket"))
	}, `^detach: proxy\[0\]\.listen: .*none/socket.* choose another address`},
	"a socket with a long name": {func(t *testing.T, dir string) (string, string) {
		return `listen = "127.0.0.1:0" # proxy`, fmt.Sprintf("listen = %q", "unix:"+filepath.Join(dir, strings.Repeat("x", 108)))
	}, `^detach: proxy\[0\]\.listen: .*xxx.* choose another address`},
	"no logo": {say(`[gateway]`, "[gateway]\nlogo = \"/nowhere/at/all\""), `^detach: gateway\.logo: .*/nowhere/at/all.* name an image`},
	"the store is a file": {func(t *testing.T, dir string) (string, string) {
		write(t, filepath.Join(dir, "data", "objects"), "", 0o600)
		return "", ""
	}, `^detach: data_dir: .*objects.* not a directory`},
	"the ledger is a file": {func(t *testing.T, dir string) (string, string) {
		write(t, filepath.Join(dir, "data", "ledger"), "", 0o600)
		return "", ""
	}, `^detach: data_dir: .*ledger.* not a directory`},
	"a malformed key": {func(t *testing.T, dir string) (string, string) {
		write(t, filepath.Join(dir, "data", "keys", "2026-11.key"), "t0psecret\n", 0o600)
		return "", ""
	}, `^detach: data_dir: .*2026-11\.key .*malformed .*backup`},
	"a token that all can read": {func(t *testing.T, dir string) (string, string) {
		token := filepath.Join(dir, "token")
		write(t, token, "bearer:t0psecret\n", 0o644)
		return `[store]`, fmt.Sprintf("[store]\nkind = \"kubo\"\n[store.kubo]\ntoken_file = %q", token)
	}, `^detach: store\.kubo\.token_file: .*0644.* chmod 0600`},
	"no token": {say(`[store]`, "[store]\nkind = \"kubo\"\n[store.kubo]\ntoken_file = \"/nowhere/at/all\""), `^detach: store\.kubo\.token_file: .*/nowhere/at/all`},
	"data_dir is a file": {func(t *testing.T, dir string) (string, string) {
		write(t, filepath.Join(dir, "data"), "", 0o600)
		return "", ""
	}, `^detach: data_dir: .*not a directory.*`},
}

// A mistake in the configuration, or in what it names, is reported before anything is served: in
// one line with the key and the remedy, and with exit code 2. check names the same key.
func TestServeRefusesMistakes(t *testing.T) {
	faults.Covers(t, 97)
	used, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	defer used.Close()
	refusals["port used"] = refusal{say(`listen = "127.0.0.1:0" # proxy`, fmt.Sprintf(`listen = %q`, used.Addr())),
		`^detach: proxy\[0\]\.listen: .*in use.* choose another address`}
	for name, c := range refusals {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			text := fmt.Sprintf("data_dir = %q\n[[proxy]]\nlisten = \"127.0.0.1:0\" # proxy\nreinject = \"127.0.0.1:1\"\nrestore = true\n[store]\n"+
				"[gateway]\nlisten = \"127.0.0.1:0\"\nurl = \"http://localhost:1\"\n[admin]\nlisten = \"\"\n", filepath.Join(dir, "data"))
			from, to := c.change(t, dir)
			if !strings.Contains(text, from) {
				t.Fatalf("the configuration has no %q", from)
			}
			file := filepath.Join(dir, "detach.toml")
			write(t, file, strings.Replace(text, from, to, 1), 0o600)
			var stdout, stderr bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // if it starts against expectation, it ends
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

func say(from, to string) func(*testing.T, string) (string, string) {
	return func(*testing.T, string) (string, string) { return from, to }
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	must.Succeed(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must.Succeed(t, os.WriteFile(path, []byte(text), mode))
}
