package servers

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// RspamdConfig is what a test changes in rspamd's stock configuration.
type RspamdConfig struct {
	// DNS is the host:port of the only name server; empty for one that knows no name.
	DNS string
	// Local are the files of local.d by their names.
	Local map[string]string
}

// Rspamd is a running instance with its stock rules.
type Rspamd struct {
	Milter string // host:port
	HTTP   string // host:port of the scanner, which takes /checkv2

	log string
}

// Verdict is what rspamd thinks of a mail.
type Verdict struct {
	Score   float64
	Action  string
	Symbols map[string]float64 // their scores
}

const rspamdConfigDir = "/etc/rspamd"

// StartRspamd starts an instance and stops it when the test ends.
func StartRspamd(t T, cfg RspamdConfig) *Rspamd {
	t.Helper()
	Need(t, "rspamd")
	dir := t.TempDir()
	r := &Rspamd{Milter: FreeAddr(t), HTTP: FreeAddr(t), log: filepath.Join(dir, "rspamd.log")}
	if cfg.DNS == "" {
		cfg.DNS = StartDNS(t, "")
	}
	cache, unlock := rspamdCache(t)
	defer unlock()
	r.configure(t, dir, cache, cfg)
	// Without -i, rspamd refuses to run as root.
	args := []string{"-f", "-i", "-c", filepath.Join(dir, "rspamd.conf"), "--var=LOCAL_CONFDIR=" + dir}
	for _, name := range []string{"DBDIR", "RUNDIR", "LOGDIR"} {
		args = append(args, "--var="+name+"="+dir)
	}
	Run(t, exec.Command(LookPath("rspamd"), args...), r.log, r.HTTP).Await(t, r.Milter)
	r.ping(t)
	return r
}

// rspamdCache returns the folder for rspamd's compiled patterns, which take a minute to make, and
// locks it until unlock is called.
func rspamdCache(t T) (dir string, unlock func()) {
	t.Helper()
	cache, err := os.UserCacheDir()
	Must(t, err)
	dir = filepath.Join(cache, "detach-test", "rspamd")
	Must(t, os.MkdirAll(dir, 0o755))
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	Must(t, err)
	Must(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	return dir, func() { lock.Close() }
}

// configure writes the stock rspamd.conf with this instance's addresses, and local.d. Its port for
// fuzzy hashes is one that no worker uses.
func (r *Rspamd) configure(t T, dir, cache string, cfg RspamdConfig) {
	t.Helper()
	stock, err := os.ReadFile(filepath.Join(rspamdConfigDir, "rspamd.conf"))
	Must(t, err)
	conf := strings.NewReplacer("localhost:11332", r.Milter, "localhost:11333", r.HTTP, "localhost:11334", FreeAddr(t)).Replace(string(stock))
	Must(t, os.WriteFile(filepath.Join(dir, "rspamd.conf"), []byte(conf), 0o644))

	host, port, err := net.SplitHostPort(cfg.DNS)
	Must(t, err)
	local := map[string]string{
		"options.inc":      fmt.Sprintf("dns { nameserver = [\"%s:%s:1\"]; }\nhs_cache_dir = \"%s\";\n", host, port, cache),
		"logging.inc":      "type = \"console\";\n",
		"worker-proxy.inc": "upstream \"local\" { hosts = \"" + r.HTTP + "\"; }\n",
	}
	for name, text := range maps.All(cfg.Local) {
		local[name] += text
	}
	Must(t, os.Mkdir(filepath.Join(dir, "local.d"), 0o755))
	for name, text := range local {
		Must(t, os.WriteFile(filepath.Join(dir, "local.d", name), []byte(text), 0o644))
	}
}

// ping waits until a worker answers, since the main process listens before its workers have loaded
// their rules.
func (r *Rspamd) ping(t T) {
	t.Helper()
	client := http.Client{Timeout: Patience}
	resp, err := client.Get("http://" + r.HTTP + "/ping")
	Must(t, err)
	resp.Body.Close()
}

// Outsider is the address of the client that Check names.
const Outsider = "192.0.2.7"

// Check asks for a verdict on a mail that Outsider sends.
func (r *Rspamd) Check(t T, m Message) Verdict {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.HTTP+"/checkv2", m.Data)
	Must(t, err)
	for name, value := range map[string]string{"IP": Outsider, "Helo": "mail.example.net", "Hostname": "mail.example.net", "From": m.From, "Rcpt": m.To} {
		req.Header.Set(name, value)
	}
	client := http.Client{Timeout: Patience}
	resp, err := client.Do(req)
	Must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	Must(t, err)
	var answer struct {
		Score   float64
		Action  string
		Symbols map[string]struct{ Score float64 }
	}
	if err := json.Unmarshal(body, &answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("rspamd: %s, %v: %s", resp.Status, err, body)
	}
	v := Verdict{answer.Score, answer.Action, make(map[string]float64)}
	for name, symbol := range answer.Symbols {
		v.Symbols[name] = symbol.Score
	}
	return v
}

// Log returns the log so far. It has one line about each mail, with "ip:" and the symbols.
func (r *Rspamd) Log(t T) string {
	t.Helper()
	text, err := os.ReadFile(r.log)
	Must(t, err)
	return string(text)
}
