package stage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// Detach is a `detach serve` with one configuration, through all its lives.
type Detach struct {
	Config  string // the file
	DataDir string
	Tmp     string // its TMPDIR
	LogFile string
	Proxy   string           // host:port
	URL     string           // of the gateway
	Admin   string           // host:port
	Box     *servers.Mailbox // the next hop; nil if Setup.Reinject names another

	Wrap []string    // the command that runs detach; empty: it runs directly
	Env  []string    // beside ours
	Died func(error) // is called when the process ends by itself; may be nil

	process *servers.Process // nil: not running
	asked   *atomic.Bool     // to end
	cleanup bool             // is registered
	atStart *Holding
}

// Setup is what a test changes in the default configuration.
type Setup struct {
	Listen   string // host:port of the proxy; empty for a free port
	Reinject string // host:port of the next hop; empty for a new mailbox
	Kubo     string // the RPC's address; empty for the embedded store
	Policy   string // more lines for [[proxy]]
	Keys     string // lines for [keys]
	DataDir  string // empty for one of the test's own
	URL      string // the gateway's public URL; empty for the address it listens on
}

// Configure writes a configuration file for a Detach that is started later.
func Configure(t servers.T, s Setup) *Detach {
	t.Helper()
	dir := t.TempDir()
	if s.Listen == "" {
		s.Listen = servers.FreeAddr(t)
	}
	var box *servers.Mailbox
	if s.Reinject == "" {
		box = servers.NewMailbox(t)
		s.Reinject = box.Addr
	}
	if s.DataDir == "" {
		s.DataDir = filepath.Join(dir, "data")
	}
	gateway, admin := servers.FreeAddr(t), servers.FreeAddr(t)
	if s.URL == "" {
		s.URL = "http://" + gateway
	}
	store := `kind = "embedded"`
	if s.Kubo != "" {
		store = fmt.Sprintf("kind = \"kubo\"\n[store.kubo]\napi = %q", s.Kubo)
	}
	d := ConfigureAs(t, dir, fmt.Sprintf(`data_dir = %q
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
`, s.DataDir, s.Listen, s.Reinject, s.Policy, store, s.Keys, gateway, s.URL, admin))
	d.Box = box
	return d
}

var (
	dataDir = regexp.MustCompile(`(?m)^data_dir *= *"([^"]+)"`)
	listens = regexp.MustCompile(`(?s)\[(proxy|gateway|admin)\].*?\nlisten *= *"([^"]+)"`)
)

// ConfigureAs is Configure with a whole configuration file, which goes into dir. Data directory and
// addresses are read from the file.
func ConfigureAs(t servers.T, dir, text string) *Detach {
	t.Helper()
	d := &Detach{Config: filepath.Join(dir, "detach.toml"), Tmp: filepath.Join(dir, "tmp"), LogFile: filepath.Join(dir, "detach.log")}
	d.DataDir = dataDir.FindStringSubmatch(text)[1]
	listen := make(map[string]string)
	for _, m := range listens.FindAllStringSubmatch(text, -1) {
		if listen[m[1]] == "" {
			listen[m[1]] = m[2]
		}
	}
	d.Proxy, d.URL, d.Admin = listen["proxy"], "http://"+listen["gateway"], listen["admin"]
	Must(t, os.Mkdir(d.Tmp, 0o700))
	Must(t, os.WriteFile(d.Config, []byte(text), 0o600))
	return d
}

// Serve starts a `detach serve`.
func Serve(t servers.T, s Setup) *Detach {
	t.Helper()
	d := Configure(t, s)
	d.Start(t)
	return d
}

// Start starts detach, waits until it serves, and notes what it holds. When the test ends, detach
// must hold no more, and is ended.
func (d *Detach) Start(t servers.T) {
	t.Helper()
	d.Launch(t)
	d.Await(t)
	now := d.atRest(t)
	d.atStart = &now
}

// Launch starts detach without waiting; the test's end ends it. Its log is appended to LogFile.
func (d *Detach) Launch(t servers.T) *servers.Process {
	t.Helper()
	if !d.cleanup {
		d.cleanup = true
		t.Cleanup(func() { d.end(t) })
	}
	args := append(slices.Clone(d.Wrap), binary, "serve", "--config", d.Config)
	cmd := exec.Command(args[0], args[1:]...)
	// A test must not depend on how full this machine's disk is.
	cmd.Env = append(append(os.Environ(), "TMPDIR="+d.Tmp, "DETACH_STORE_MIN_FREE=0"), d.Env...)
	p, asked := servers.Launch(t, cmd, d.LogFile), new(atomic.Bool)
	d.process, d.asked = p, asked
	if d.Died != nil {
		go func() {
			if <-p.Ended; !asked.Load() {
				d.Died(p.Err)
			}
		}()
	}
	return p
}

// Await waits until the gateway answers. Detach opens all its listeners before it serves the first.
func (d *Detach) Await(t servers.T) {
	t.Helper()
	servers.Eventually(t, servers.Patience, "detach to serve", func() bool {
		select {
		case <-d.process.Ended:
			t.Fatalf("detach serve ended: %v\n%s", d.process.Err, LastLines(d.Log(t), 20))
		default:
		}
		resp, err := http.Get(d.URL + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil || t.Context().Err() != nil
	})
}

// Pid returns the process's id.
func (d *Detach) Pid() int { return d.process.Process.Pid }

// Signal gives the process a signal. The caller of a signal that ends the process must call Wait.
func (d *Detach) Signal(t servers.T, sig os.Signal) {
	t.Helper()
	d.asked.Store(true)
	Must(t, d.process.Process.Signal(sig))
}

// Wait waits until the process has ended by a signal.
func (d *Detach) Wait() error {
	p := d.process
	d.process = nil
	return p.Wait()
}

// Kill ends detach as a crash does.
func (d *Detach) Kill(t servers.T) {
	t.Helper()
	d.Signal(t, syscall.SIGKILL)
	d.Wait()
}

// Terminate ends detach as a service manager does.
func (d *Detach) Terminate(t servers.T) {
	t.Helper()
	d.asked.Store(true)
	p := d.process
	d.process = nil
	if err := p.End(syscall.SIGTERM); err != nil {
		t.Errorf("on SIGTERM detach serve ended with %v", err)
	}
}

func (d *Detach) end(t servers.T) {
	if d.process != nil {
		select {
		case <-d.process.Ended:
			t.Errorf("detach serve ended by itself: %v", d.process.Err)
		default:
			if d.atStart != nil {
				d.checkLeaks(t)
			}
			d.Terminate(t)
		}
	}
	KeepLog("detach", d.Log(t))
	if t.Failed() {
		t.Logf("detach logged last:\n%s", LastLines(d.Log(t), 20))
	}
}

// Log returns what detach has logged in all its lives.
func (d *Detach) Log(t servers.T) string {
	t.Helper()
	return ReadFile(t, d.LogFile)
}

// LastLines returns the last n lines of a text.
func LastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Files lists the matching files of the data directory, by their paths below it.
func (d *Detach) Files(t servers.T, patterns ...string) (names []string) {
	t.Helper()
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(d.DataDir, pattern))
		Must(t, err)
		for _, path := range paths {
			names = append(names, strings.TrimPrefix(path, d.DataDir+"/"))
		}
	}
	return names
}

// Objects lists the files in the data directory's objects/, temporary files too.
func (d *Detach) Objects(t servers.T) []string {
	t.Helper()
	names := d.Files(t, "objects/*")
	for i, name := range names {
		names[i] = filepath.Base(name)
	}
	return names
}

// Ledger returns the CIDs that Detach has promised to keep, and has not taken back since.
func (d *Detach) Ledger(t servers.T) map[string]bool {
	t.Helper()
	cids := make(map[string]bool)
	for _, name := range d.Files(t, "ledger/*.jsonl") {
		for line := range strings.Lines(ReadFile(t, filepath.Join(d.DataDir, name))) {
			var entry struct {
				CID  string
				Gone bool
			}
			// A killed process may have left half a line.
			switch err := json.Unmarshal([]byte(line), &entry); {
			case err == nil && entry.Gone:
				delete(cids, entry.CID)
			case err == nil:
				cids[entry.CID] = true
			}
		}
	}
	return cids
}

// Pipe runs one of detach's commands on a mail and returns its output. The words of wrap, if any,
// are the program that runs the command.
func (d *Detach) Pipe(t servers.T, command string, mail io.Reader, wrap ...string) []byte {
	t.Helper()
	line := append(slices.Clone(wrap), binary, command, "--config", d.Config)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), "TMPDIR="+d.Tmp)
	cmd.Stdin = mail
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	KeepLog("detach", stderr.String())
	if err != nil {
		t.Fatalf("detach %s: %v\n%s", command, err, LastLines(stderr.String(), 10))
	}
	return out
}

// Run runs one of detach's commands, and returns what it wrote and its exit code.
func (d *Detach) Run(t servers.T, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(binary, append(slices.Clone(args), "--config", d.Config)...)
	cmd.Env = append(append(os.Environ(), "TMPDIR="+d.Tmp, "DETACH_STORE_MIN_FREE=0"), d.Env...)
	text, err := cmd.CombinedOutput()
	KeepLog("detach", string(text))
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		Must(t, err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// Put stores files without a mail server, and returns their links.
func (d *Detach) Put(t servers.T, files ...Attachment) []Link {
	t.Helper()
	python := StartDecoder(t)
	var found []Link
	for _, f := range files {
		KeepSecret(NameSecret, f.Name)
		mail := Head("a file") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhere\r\n--b\r\n" + f.Part() + "--b--\r\n"
		found = append(found, d.put(t, python, strings.NewReader(mail)))
	}
	return found
}

// PutBig streams a file of the given size into the store and returns its link and its SHA-256.
func (d *Detach) PutBig(t servers.T, size int64) (l Link, sum string) {
	t.Helper()
	mail := NewBigMail(size)
	return d.put(t, StartDecoder(t), mail), mail.SHA256()
}

func (d *Detach) put(t servers.T, python *Decoder, mail io.Reader) Link {
	t.Helper()
	return python.Parse(t, d.Pipe(t, "filter", mail)).Link(t)
}
