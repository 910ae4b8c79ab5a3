package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// mortal is a `detach serve` that a test may kill and start again.
type mortal struct {
	*detach
	t    *testing.T
	died chan error // gets the process's end
}

func startMortal(t *testing.T, s setup) *mortal {
	t.Helper()
	m := &mortal{detach: configure(t, s), t: t}
	t.Cleanup(func() {
		if m.cmd != nil {
			m.checkLeaks(t)
			m.terminate(t)
		}
		if err := keepLogFile("detach", m.logFile); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("detach logged last:\n%s", lastLines(m.log(t), 20))
		}
	})
	m.start(t)
	return m
}

// start returns when it takes mail. The log goes on where it was.
func (m *mortal) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(m.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer log.Close()
	m.cmd = exec.Command(binary, "serve", "--config", m.config)
	m.cmd.Env = append(os.Environ(), "TMPDIR="+m.tmp)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	must(t, m.cmd.Start())
	m.died = make(chan error, 1)
	go func(cmd *exec.Cmd, died chan error) { died <- cmd.Wait() }(m.cmd, m.died)
	// All listeners are open before the first of them is served, so this one stands for the proxy's too.
	servers.Eventually(t, servers.Patience, "detach to serve", func() bool {
		resp, err := http.Get(m.url + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	m.started = m.atRest(t)
}

// kill ends it as a crash does.
func (m *mortal) kill(t *testing.T) {
	t.Helper()
	must(t, m.cmd.Process.Kill())
	<-m.died
	m.cmd = nil
}

// terminate ends it as a service manager does, and waits.
func (m *mortal) terminate(t *testing.T) {
	t.Helper()
	m.cmd.Process.Signal(syscall.SIGTERM)
	m.ended(t)
}

// ended waits for the end that SIGTERM has asked for.
func (m *mortal) ended(t *testing.T) {
	t.Helper()
	select {
	case err := <-m.died:
		if err != nil {
			t.Errorf("detach serve ended with %v", err)
		}
	case <-time.After(servers.Patience):
		m.cmd.Process.Kill()
		t.Error("detach serve did not stop on SIGTERM")
	}
	m.cmd = nil
}

// waitLog waits until what is logged from now on has the text. The caller calls it before what brings it about.
func (m *mortal) waitLog(t *testing.T, text string) func() {
	t.Helper()
	before := strings.Count(m.log(t), text)
	return func() {
		t.Helper()
		servers.Eventually(t, servers.Patience, "a log line with "+text, func() bool { return strings.Count(m.log(t), text) > before })
	}
}

// promised are the CIDs of the ledger.
func (m *mortal) promised(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(m.dataDir, "ledger", "*.jsonl"))
	must(t, err)
	cids := make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		for line := range strings.Lines(string(text)) {
			var entry struct{ CID string }
			must(t, json.Unmarshal([]byte(line), &entry))
			cids[entry.CID] = true
		}
	}
	return cids
}

// pending are the records of mails under way.
func (m *mortal) pending(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(m.dataDir, "pending", "*"))
	must(t, err)
	return names
}
