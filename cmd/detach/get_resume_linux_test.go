package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/fetch/fetchtest"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

const brokenSize = 6<<20 + 99

// A download that is killed, interrupted or cut off continues there: from gateway, node and store.
func TestGetResumesAfterItWasKilled(t *testing.T) {
	site, content := fetchtest.New(t), fetchtest.Random(brokenSize)
	l, dir := site.Store(t, content), site.Dir
	t.Run("gateway", func(t *testing.T) {
		t.Parallel()
		testBrokenOff(t, content, l, l.Base, func(url string, l link.Link) []string {
			l.Base = url
			return []string{l.URL()}
		})
	})
	t.Run("node", func(t *testing.T) {
		t.Parallel()
		node := servers.Kubo(t)
		node.Run("dag", "import", filepath.Join(dir, "objects", l.CID.String()+".car"))
		testBrokenOff(t, content, l, node.URL(), func(url string, l link.Link) []string {
			return []string{"--api", url, "--keys", filepath.Join(dir, "keys"), l.URL()}
		})
	})
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "interrupted": syscall.SIGINT} {
		t.Run("store, "+name, func(t *testing.T) {
			// Reading a folder never blocks, but drawing progress on a stopped terminal does.
			_, tty := openTerminal(t, 80)
			flow(t, tty, unix.TCOOFF)
			get := startGet(t, tty, "--store", dir, l.URL())
			get.reaches(t, partOf(l), 1)
			must.Succeed(t, get.cmd.Process.Signal(signal))
			flow(t, tty, unix.TCOON)
			get.ends(t, signal)
			goesOn(t, get.cmd.Dir, content, "--store", dir, l.URL())
		})
	}
}

// testBrokenOff downloads from a server that stops half way, ends the download, and repeats it.
func testBrokenOff(t *testing.T, content []byte, l link.Link, from string, args func(url string, l link.Link) []string) {
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "interrupted": syscall.SIGINT, "cut off": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // the retries after a cut take a while
			door, url := newDoor(t, from, brokenSize/2)
			get := startGet(t, nil, args(url, l)...)
			get.reaches(t, partOf(l), 1<<20)
			if signal == 0 {
				close(door.closed)
			} else {
				must.Succeed(t, get.cmd.Process.Signal(signal))
			}
			get.ends(t, signal)
			have := get.size(partOf(l))
			door, url = newDoor(t, from, 1<<40)
			goesOn(t, get.cmd.Dir, content, args(url, l)...)
			// A block of 1 MiB is sent whole, and there are blocks above the leaves.
			if most := brokenSize - have + 1<<20 + 64<<10; door.gave.Load() > most {
				t.Errorf("with %d bytes there, %d of %d came again", have, door.gave.Load(), brokenSize)
			}
		})
	}
}

// goesOn runs the command again in dir, and wants it to resume the download.
func goesOn(t *testing.T, dir string, content []byte, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "detach", append([]string{"get"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "resuming after the first ") || !strings.Contains(string(out), "checked against SHA-256") {
		t.Errorf("again: %v, %s", err, out)
	}
	wantFile(t, "again", dir, content)
}

// aGet is a running detach get.
type aGet struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  chan error
}

// startGet starts detach get in a new folder. Its stderr is tty, unless that is nil.
func startGet(t *testing.T, tty *os.File, args ...string) *aGet {
	t.Helper()
	g := &aGet{cmd: exec.Command("detach", append([]string{"get"}, args...)...), ended: make(chan error, 1)}
	g.cmd.Dir, g.cmd.Stderr = t.TempDir(), &g.stderr
	if tty != nil {
		g.cmd.Stderr = tty
	}
	must.Succeed(t, g.cmd.Start())
	go func() { g.ended <- g.cmd.Wait() }()
	t.Cleanup(func() { _ = g.cmd.Process.Kill() })
	return g
}

func (g *aGet) size(file string) int64 {
	info, err := os.Stat(filepath.Join(g.cmd.Dir, file))
	if err != nil {
		return 0
	}
	return info.Size()
}

// reaches waits until a file has a size: the process has no other way to tell.
func (g *aGet) reaches(t *testing.T, file string, size int64) {
	t.Helper()
	for deadline := time.Now().Add(servers.Patience); g.size(file) < size; time.Sleep(5 * time.Millisecond) {
		if len(g.ended) > 0 || time.Now().After(deadline) {
			t.Fatalf("%s has %d bytes, want %d: %s", file, g.size(file), size, g.stderr.String())
		}
	}
}

// ends waits for the end that the signal causes. Unless killed, detach get says how to continue.
func (g *aGet) ends(t *testing.T, s syscall.Signal) {
	t.Helper()
	exit, ok := errors.AsType[*exec.ExitError](<-g.ended)
	switch {
	case !ok:
		t.Fatal("detach get did not fail")
	case s == syscall.SIGKILL:
		if exit.ExitCode() != -1 {
			t.Errorf("exit code %d", exit.ExitCode())
		}
	case exit.ExitCode() != exitFailed:
		t.Errorf("exit code %d, want %d: %s", exit.ExitCode(), exitFailed, g.stderr.String())
	case g.cmd.Stderr == &g.stderr && !strings.Contains(g.stderr.String(), ".part: the same command goes on from there"):
		t.Errorf("said %q", g.stderr.String())
	}
}

// door lets a number of bytes through, and then makes clients wait until it is closed.
type door struct {
	left, gave atomic.Int64
	reading    sync.Mutex
	closed     chan struct{}
}

// newDoor returns a door, and the URL of a proxy whose answers pass through it.
func newDoor(t *testing.T, to string, left int64) (*door, string) {
	t.Helper()
	d := &door{closed: make(chan struct{})}
	d.left.Store(left)
	return d, between(t, to, func(resp *http.Response, p []byte) (int, error) {
		if d.left.Load() == 0 {
			select {
			case <-d.closed:
			case <-resp.Request.Context().Done():
			}
			return 0, io.ErrUnexpectedEOF
		}
		d.reading.Lock() // answers arrive side by side, and share what is left
		defer d.reading.Unlock()
		n, err := resp.Body.Read(p[:min(int64(len(p)), d.left.Load())])
		d.left.Add(-int64(n))
		d.gave.Add(int64(n))
		return n, err
	})
}

// between returns the URL of a proxy that reads the answers' bodies with read.
func between(t *testing.T, to string, read func(*http.Response, []byte) (int, error)) string {
	t.Helper()
	target, err := url.Parse(to)
	must.Succeed(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	proxy.ModifyResponse = func(resp *http.Response) error {
		original := *resp
		resp.Body = body{resp.Body, func(p []byte) (int, error) { return read(&original, p) }}
		return nil
	}
	s := httptest.NewServer(proxy)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

type body struct {
	io.Closer
	read func([]byte) (int, error)
}

func (b body) Read(p []byte) (int, error) { return b.read(p) }
