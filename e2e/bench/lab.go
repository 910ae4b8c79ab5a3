package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// lab is what all rows have: the stage that they play on, and the node.
type lab struct {
	servers.T
	size  sizes
	node  *servers.KuboNode // nil if no row needs it
	bench string            // a directory in memory, where a round's material lies
}

// newLab readies what the rows need in common.
func newLab(t servers.T, s sizes, rows []row) *lab {
	t.Helper()
	stage.Must(t, stage.Build(t.Context(), t.TempDir()))
	l := &lab{T: t, size: s, bench: inMemory(t)}
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

// inMemory makes a directory in memory, if the system has a place for that, so that making and
// reading a round's material is not measured.
func inMemory(t servers.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "bench")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// run starts a program that ends with the row, and waits until it listens.
func (l *lab) run(addr, program string, args ...string) {
	l.Helper()
	servers.Run(l, exec.Command(servers.LookPath(program), args...), filepath.Join(l.TempDir(), "log"), addr)
}

// The stores.
const (
	embedded = "embedded"
	kubo     = "kubo"
)

// configure writes the configuration of a Detach between two addresses: the default, but for the
// largest mail.
func (l *lab) configure(listen, reinject, store string) *stage.Detach {
	l.Helper()
	setup := stage.Setup{Listen: listen, Reinject: reinject, Policy: `max_size = "4GiB"`}
	if store == kubo {
		setup.Kubo = l.node.API()
	}
	return stage.Configure(l, setup)
}

// serve starts a Detach that ends with the row.
func (l *lab) serve(reinject, store string) *stage.Detach {
	l.Helper()
	d := l.configure("", reinject, store)
	l.start(d)
	return d
}

// start starts a Detach and waits until it takes mail.
func (l *lab) start(d *stage.Detach) {
	l.Helper()
	d.Launch(l).Await(l, d.Proxy)
}

// profileSeconds is for how long the processor is sampled.
const profileSeconds = 8

// profile saves what our side of a contest does, again and again with the same material, as
// NAME.cpu and NAME.heap: for go tool pprof.
func (l *lab) profile(c contest, dir, name string) {
	l.Helper()
	if c.prepare != nil {
		c.prepare()
	}
	sampled := make(chan error, 1)
	go func() {
		sampled <- pprof(c.detach, fmt.Sprintf("profile?seconds=%d", profileSeconds), filepath.Join(dir, name+".cpu"))
	}()
	for {
		c.ours()
		select {
		case err := <-sampled:
			l.must(err)
			l.must(pprof(c.detach, "heap", filepath.Join(dir, name+".heap")))
			return
		default:
		}
	}
}

// pprof saves a profile from the administrator's listener.
func pprof(d *stage.Detach, what, file string) error {
	resp, err := http.Get("http://" + d.Admin + "/debug/pprof/" + what)
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
