package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// lab is what all rows have: the stage that they play on, Detach's binary, and the node.
type lab struct {
	servers.T
	size  sizes
	bin   string
	node  *servers.KuboNode // nil if no row needs it
	bench string            // a directory in memory, where a round's material lies
}

// newLab readies what the rows need in common.
func newLab(t servers.T, s sizes, rows []row) *lab {
	t.Helper()
	bin, err := buildDetach(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{T: t, size: s, bin: bin, bench: inMemory(t)}
	for _, r := range rows {
		if r.kubo && l.node == nil {
			l.node = servers.Kubo(t)
		}
	}
	return l
}

// on is the same lab on the stage of one row.
func (l lab) on(t servers.T) *lab {
	l.T = t
	return &l
}

// inMemory makes a directory that no disk stands behind, where there is such a place: reading a round's material and making
// it must not be what is measured.
func inMemory(t servers.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "bench")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// startPatience is more than any server takes to listen.
const startPatience = 30 * time.Second

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// program is one that ends with the row.
type program struct {
	*exec.Cmd
	log   string        // the file
	ended chan struct{} // closed when it has
}

// run starts a program and waits until it listens.
func (l *lab) run(addr string, name string, args ...string) *program {
	l.Helper()
	p := l.launch(name, args...)
	l.await(p, addr)
	return p
}

// launch starts a program.
func (l *lab) launch(name string, args ...string) *program {
	l.Helper()
	p := &program{exec.Command(name, args...), filepath.Join(l.TempDir(), "log"), make(chan struct{})}
	log, err := os.Create(p.log)
	l.must(err)
	defer log.Close()
	p.Stdout, p.Stderr = log, log
	l.must(p.Start())
	l.Cleanup(p.end)
	go func() {
		p.Wait()
		close(p.ended)
	}()
	return p
}

// end ends it, if it has not ended yet.
func (p *program) end() {
	p.Process.Signal(syscall.SIGTERM)
	<-p.ended
}

// await waits until a program listens. It asks often: how long that takes is measured, too.
func (l *lab) await(p *program, addr string) {
	l.Helper()
	timeout := time.After(startPatience)
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-time.After(time.Millisecond):
			continue
		case <-timeout:
		case <-p.ended:
		}
		text, _ := os.ReadFile(p.log)
		l.Fatalf("%s does not listen: %v\n%s", filepath.Base(p.Path), err, text)
	}
}

// The stores.
const (
	embedded = "embedded"
	kubo     = "kubo"
)

// detach is a `detach serve` with the configuration that is the default, but for the largest mail.
type detach struct {
	l          *lab
	config     string
	dataDir    string
	proxy, url string
	admin      string
	program    *program
}

// configure writes the configuration of a Detach between two addresses.
func (l *lab) configure(listen, reinject, store string) *detach {
	l.Helper()
	dir := l.TempDir()
	d := &detach{
		l: l, config: filepath.Join(dir, "detach.toml"), dataDir: filepath.Join(dir, "data"),
		proxy: listen, url: "http://" + servers.FreeAddr(l), admin: servers.FreeAddr(l),
	}
	api := "/ip4/127.0.0.1/tcp/5001" // and not used
	if store == kubo {
		api = l.node.API()
	}
	text := fmt.Sprintf(`data_dir = %q
[[proxy]]
listen = %q
reinject = %q
max_size = "4GiB"
[store]
kind = %q
[store.kubo]
api = %q
[gateway]
listen = %q
url = %q
[admin]
listen = %q
`, d.dataDir, d.proxy, reinject, store, api, d.url[len("http://"):], d.url, d.admin)
	l.must(os.WriteFile(d.config, []byte(text), 0o600))
	return d
}

// serve starts a Detach that ends with the row.
func (l *lab) serve(reinject, store string) *detach {
	l.Helper()
	d := l.configure(servers.FreeAddr(l), reinject, store)
	d.start()
	return d
}

// start starts it and waits until it takes mail.
func (d *detach) start() {
	d.l.Helper()
	d.launch()
	d.l.await(d.program, d.proxy)
}

// launch starts it and does not wait.
func (d *detach) launch() {
	d.l.Helper()
	d.program = d.l.launch(d.l.bin, "serve", "--config", d.config)
}

// stop ends it before the row does.
func (d *detach) stop() { d.program.end() }

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak is the most memory it ever had, in MiB.
func (d *detach) peak() float64 {
	d.l.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.program.Process.Pid))
	d.l.must(err)
	m := highWater.FindSubmatch(status)
	if m == nil {
		d.l.Fatal("no VmHWM in /proc/PID/status")
	}
	kib, err := strconv.ParseFloat(string(m[1]), 64)
	d.l.must(err)
	return kib / 1024
}

// profileSeconds is for how long the processor is sampled.
const profileSeconds = 8

// profile saves what our side of a contest does, again and again with the same material, as NAME.cpu and NAME.heap: for go
// tool pprof.
func (l *lab) profile(c contest, dir, name string) {
	l.Helper()
	if c.prepare != nil {
		c.prepare()
	}
	sampled := make(chan error, 1)
	go func() {
		sampled <- c.detach.pprof(fmt.Sprintf("profile?seconds=%d", profileSeconds), filepath.Join(dir, name+".cpu"))
	}()
	for {
		c.ours()
		select {
		case err := <-sampled:
			l.must(err)
			l.must(c.detach.pprof("heap", filepath.Join(dir, name+".heap")))
			return
		default:
		}
	}
}

// pprof saves what the administrator's listener says.
func (d *detach) pprof(what, file string) error {
	resp, err := http.Get("http://" + d.admin + "/debug/pprof/" + what)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("profile: %s: %s", resp.Status, body)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(file, body, 0o644)
}
