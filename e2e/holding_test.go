package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// holding is what a running detach has of what can run out, beside memory. Connections that it keeps for its next request to
// kubo are not counted: they are few, and end by themselves.
type holding struct {
	files, goroutines int
	stacks            string
}

func (h holding) String() string {
	return fmt.Sprintf("%d files and %d goroutines", h.files, h.goroutines)
}

// checkLeaks is for the end of every test: an idle detach has what it had when it was started.
func (d *detach) checkLeaks(t *testing.T) {
	t.Helper()
	// Ours for the gateway, kept open for another request. To detach they are clients.
	http.DefaultClient.CloseIdleConnections()
	var now holding
	for deadline := time.Now().Add(servers.Patience); ; time.Sleep(20 * time.Millisecond) {
		if now = d.holds(t); now.files <= d.started.files && now.goroutines <= d.started.goroutines {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	t.Errorf("an idle detach has %v, and had %v when it was started:\n%s", now, d.started, now.stacks)
}

// atRest is what it has when that does not change any more.
func (d *detach) atRest(t *testing.T) holding {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	before := d.holds(t)
	for range 100 {
		time.Sleep(20 * time.Millisecond)
		now := d.holds(t)
		if now.String() == before.String() {
			return now
		}
		before = now
	}
	return before
}

func (d *detach) holds(t *testing.T) holding {
	t.Helper()
	var h holding
	kept := 0
	if d.admin != "" {
		h.stacks = d.ask(t, "/debug/pprof/goroutine?debug=1")
		for _, group := range strings.Split(h.stacks, "\n\n") {
			n := groupSize(group)
			if strings.Contains(group, "net/http.(*persistConn).readLoop") {
				kept += n
			}
			if !strings.Contains(group, "net/http.(*persistConn)") {
				h.goroutines += n
			}
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err == nil { // not every system has it
		h.files = len(files) - kept
	}
	return h
}

var groupHead = regexp.MustCompile(`(?m)^(\d+) @`)

// groupSize is how many goroutines of a profile have this stack.
func groupSize(group string) int {
	m := groupHead.FindStringSubmatch(group)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// ask gets something from the administrator's listener, on a connection that does not stay.
func (d *detach) ask(t *testing.T, path string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get("http://" + d.admin + path)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	return string(text)
}

// A leak must be seen: here it is a client that stays.
func TestLeaksAreSeen(t *testing.T) {
	faults.Covers(t, 102)
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr})
	c, err := servers.Dial(d.proxy, "")
	must(t, err)
	var now holding
	servers.Eventually(t, servers.Patience, "the session to stand", func() bool {
		now = d.holds(t)
		return now.goroutines > d.started.goroutines && now.files >= d.started.files+2
	})
	if d.started.goroutines == 0 || now.goroutines <= d.started.goroutines {
		t.Errorf("with a client there are %v, without %v", now, d.started)
	}
	if _, err := os.Stat("/proc/self/fd"); err == nil && now.files < d.started.files+2 {
		t.Errorf("with a client and its next hop there are %v, without %v", now, d.started)
	}
	must(t, c.Close())
}

// takesMail tries whether a new client is served.
func (d *detach) takesMail() bool {
	c, err := servers.Dial(d.proxy, "")
	if err != nil {
		return false
	}
	defer c.Close()
	reply, err := c.Send(message([]byte(textAndPDF)))
	return err == nil && strings.HasPrefix(reply, "250 ")
}
