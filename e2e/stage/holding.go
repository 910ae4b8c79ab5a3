package stage

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// Holding counts what a running detach has open. Idle connections to kubo do not count: they are
// few, and end by themselves.
type Holding struct {
	Files, Goroutines int
	stacks            string
}

func (h Holding) String() string {
	return fmt.Sprintf("%d files and %d goroutines", h.Files, h.Goroutines)
}

// Idle reports whether a running detach holds no more than at its start, and what it holds now.
func (d *Detach) Idle(t servers.T) (bool, Holding) {
	t.Helper()
	// Our idle connections to the gateway are clients of detach.
	http.DefaultClient.CloseIdleConnections()
	now := d.Holds(t)
	return now.Files <= d.atStart.Files && now.Goroutines <= d.atStart.Goroutines, now
}

// checkLeaks checks, at the end of every test, that detach becomes idle.
func (d *Detach) checkLeaks(t servers.T) {
	t.Helper()
	for deadline := time.Now().Add(servers.Patience); ; time.Sleep(20 * time.Millisecond) {
		idle, now := d.Idle(t)
		if idle {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("detach still has %v, and had %v when it was started:\n%s", now, *d.atStart, now.stacks)
			return
		}
	}
}

// atRest waits until what detach holds no longer changes, and returns it.
func (d *Detach) atRest(t servers.T) Holding {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	before := d.Holds(t)
	for range 100 {
		time.Sleep(20 * time.Millisecond)
		now := d.Holds(t)
		if now.String() == before.String() {
			return now
		}
		before = now
	}
	return before
}

// Holds returns what detach holds now.
func (d *Detach) Holds(t servers.T) Holding {
	t.Helper()
	var h Holding
	kept := 0
	if d.Admin != "" {
		h.stacks = d.Ask(t, "/debug/pprof/goroutine?debug=1")
		for _, group := range strings.Split(h.stacks, "\n\n") {
			n := groupSize(group)
			// A goroutine in roundTrip is not one of a kept connection: it waits for kubo's answer.
			switch {
			case strings.Contains(group, "net/http.(*persistConn).readLoop"):
				kept += n
			case !strings.Contains(group, "net/http.(*persistConn).writeLoop"):
				h.Goroutines += n
			}
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.Pid()))
	if err == nil { // not every system has it, and only root may read it
		h.Files = len(files) - kept
	}
	return h
}

var groupHead = regexp.MustCompile(`(?m)^(\d+) @`)

// groupSize returns how many goroutines have the stack of a profile's group.
func groupSize(group string) int {
	m := groupHead.FindStringSubmatch(group)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// Ask gets a path from the administrator's listener, and closes the connection.
func (d *Detach) Ask(t servers.T, path string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: servers.Patience}
	resp, err := client.Get("http://" + d.Admin + path)
	Must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	Must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	return string(text)
}

// TakesMail reports whether a new client is served.
func (d *Detach) TakesMail() bool {
	c, err := servers.Dial(d.Proxy, "")
	if err != nil {
		return false
	}
	defer c.Close()
	reply, err := c.Send(Message(TextAndPDF))
	return err == nil && strings.HasPrefix(reply, "250 ")
}

// PeakMemory returns the most resident memory, in bytes, that the process ever had.
func (d *Detach) PeakMemory(t servers.T) int64 {
	return d.Figure(t, "status", `VmHWM:\s+(\d+) kB`) << 10
}

// Memory returns the resident memory of the process, in bytes.
func (d *Detach) Memory(t servers.T) int64 { return d.Figure(t, "status", `VmRSS:\s+(\d+) kB`) << 10 }

// Figure reads a number from one of the process's files in /proc.
func (d *Detach) Figure(t servers.T, file, pattern string) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", d.Pid(), file))
	if os.IsNotExist(err) {
		t.Skipf("no /proc here to ask for a process's figures")
	}
	Must(t, err)
	m := regexp.MustCompile(pattern).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in /proc/PID/%s", pattern, file)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	Must(t, err)
	return n
}
