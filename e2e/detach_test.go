package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// detach is a running `detach serve`.
type detach struct {
	config  string // the file
	dataDir string
	tmp     string // its TMPDIR
	proxy   string // host:port
	url     string // of the gateway
	admin   string // host:port; empty for none
	logFile string
	wrap    []string // what runs it, if not we
	env     []string
	hopless bool // its next hop is not there when it starts
	cmd     *exec.Cmd
	started holding
}

// setup is the configuration of a detach, in the words of a test.
type setup struct {
	proxy    string // host:port to listen on
	reinject string
	kubo     string // the RPC's address; empty for the embedded store
	policy   string // more lines for [[proxy]]
	keys     string // lines for [keys]
	dataDir  string // empty for one of the test's own
}

// configure writes a configuration file, and picks the gateway's address.
func configure(t *testing.T, s setup) *detach {
	t.Helper()
	gateway, admin := servers.FreeAddr(t), servers.FreeAddr(t)
	store := `kind = "embedded"`
	if s.kubo != "" {
		store = fmt.Sprintf("kind = \"kubo\"\n[store.kubo]\napi = %q", s.kubo)
	}
	dir := t.TempDir()
	if s.dataDir == "" {
		s.dataDir = filepath.Join(dir, "data")
	}
	d := writeConfig(t, dir, s.proxy, "http://"+gateway, fmt.Sprintf(`data_dir = %q
[[proxy]]
listen = %q
reinject = %q
%s
[store]
%s
[keys]
%s
[gateway]
listen = %q
url = %q
[admin]
listen = %q
`, s.dataDir, s.proxy, s.reinject, s.policy, store, s.keys, gateway, "http://"+gateway, admin))
	d.dataDir = s.dataDir
	return d
}

var adminListen = regexp.MustCompile(`\[admin\]\nlisten = "([^"]+)"`)

func writeConfig(t *testing.T, dir, proxy, url, text string) *detach {
	t.Helper()
	d := &detach{
		config:  filepath.Join(dir, "detach.toml"),
		dataDir: filepath.Join(dir, "data"),
		tmp:     filepath.Join(dir, "tmp"),
		logFile: filepath.Join(dir, "log"),
		proxy:   proxy,
		url:     url,
	}
	if m := adminListen.FindStringSubmatch(text); m != nil {
		d.admin = m[1]
	}
	must(t, os.Mkdir(d.tmp, 0o700))
	must(t, os.WriteFile(d.config, []byte(text), 0o600))
	return d
}

// serve starts `detach serve` and stops it, politely, when the test ends.
func serve(t *testing.T, s setup) *detach {
	t.Helper()
	d := configure(t, s)
	d.start(t)
	return d
}

// start runs it. What comes out of died is how it ended; whoever takes that puts it back, for it is asked once more at the end.
func (d *detach) start(t *testing.T) (died chan error) {
	t.Helper()
	log, err := os.Create(d.logFile)
	must(t, err)
	defer log.Close()
	args := append(d.wrap[:len(d.wrap):len(d.wrap)], binary, "serve", "--config", d.config)
	d.cmd = exec.Command(args[0], args[1:]...)
	d.cmd.Env = append(append(os.Environ(), "TMPDIR="+d.tmp), d.env...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	must(t, d.cmd.Start())
	died = make(chan error, 1)
	go func() { died <- d.cmd.Wait() }()
	t.Cleanup(func() { d.stop(t, died) })

	servers.Eventually(t, servers.Patience, "detach to listen", func() bool {
		select {
		case err := <-died:
			died <- err
			t.Fatalf("detach serve ended: %v\n%s", err, d.log(t))
		default:
		}
		resp, err := http.Get(d.url + "/")
		if err != nil {
			return false
		}
		resp.Body.Close()
		if d.hopless {
			return true
		}
		client, err := servers.Dial(d.proxy, "")
		if err != nil {
			return false
		}
		client.Cmd("QUIT")
		return client.Close() == nil
	})
	d.started = d.atRest(t)
	return died
}

func (d *detach) stop(t *testing.T, died chan error) {
	t.Helper()
	select {
	case err := <-died: // by the test's will, if it did not fail
		died <- err
	default:
		d.checkLeaks(t)
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-died:
		if err != nil {
			t.Errorf("detach serve ended with %v\n%s", err, lastLines(d.log(t), 20))
		}
	case <-time.After(servers.Patience):
		d.cmd.Process.Kill()
		t.Error("detach serve did not stop on SIGTERM")
	}
	if err := keepLogFile("detach", d.logFile); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("detach logged last:\n%s", lastLines(d.log(t), 20))
	}
}

func (d *detach) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(d.logFile)
	must(t, err)
	return string(text)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// objects lists what lies under the data directory's objects/, temporary files too.
func (d *detach) objects(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(d.dataDir, "objects"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// chain is the whole way of a mail: front Postfix, detach, after-filter Postfix, mailbox.
type chain struct {
	*detach
	postfix *servers.Postfix
	box     *servers.Mailbox
}

const (
	domain    = "recipients.example"
	recipient = "wilhelmina@" + domain
	sender    = "bartholomew@senders.example"
)

func startChain(t *testing.T, kubo, bareNewline string) *chain {
	t.Helper()
	c := &chain{box: servers.NewMailbox(t)}
	proxy := servers.FreeAddr(t)
	c.postfix = servers.StartPostfix(t, servers.PostfixConfig{
		Filter: proxy, Destination: c.box.Addr, Domain: domain, Users: []string{"wilhelmina"}, ForbidBareNewline: bareNewline,
	})
	t.Cleanup(func() { keepLog("postfix", c.postfix.Log()) })
	c.detach = serve(t, setup{proxy: proxy, reinject: c.postfix.After, kubo: kubo, policy: "min_size = \"1\"\nmax_size = \"4GiB\""})
	keepSecret(addressSecret, recipient)
	keepSecret(addressSecret, sender)
	return c
}

// deliver sends a mail to the front and returns what arrived in the mailbox, without the Postfixes' trace fields.
func (c *chain) deliver(t *testing.T, mail []byte) []byte {
	t.Helper()
	reply := servers.Send(t, c.postfix.Front, "", message(mail))
	return c.arrived(t, reply)
}

// arrived is the mail that the reply speaks of.
func (c *chain) arrived(t *testing.T, reply string) []byte {
	t.Helper()
	id := servers.QueueID(reply)
	if id == "" {
		t.Fatalf("the sender got %q, want the queue id of the Postfix behind", reply)
	}
	got := c.box.Wait(t, id)
	stripped, err := servers.StripTrace(got.Data, 2)
	must(t, err)
	return stripped
}
