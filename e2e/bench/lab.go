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

// lab is what all rows share: the stage and the node.
type lab struct {
	servers.T
	size  sizes
	node  *servers.KuboNode // nil if no row needs it
	bench string            // a directory in memory for a round's material
}

// newLab sets up what the rows share.
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

// on returns the lab with the stage of one row.
func (l lab) on(t servers.T) *lab {
	l.T = t
	return &l
}

// inMemory makes a directory in memory, if the system has one, so that the disk that a round's
// material would be read from is not measured.
func inMemory(t servers.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "bench")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// run starts a program that ends with the row, and waits until it listens.
func (l *lab) run(addr, program string, args ...string) {
	l.Helper()
	servers.Run(l, exec.Command(servers.LookPath(program), args...), filepath.Join(l.TempDir(), "log"), addr)
}

const embedded, kubo = "embedded", "kubo" // the stores

// configure writes the default configuration of a Detach between two addresses, with a larger
// max_size.
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

// profile repeats our side of a contest with the same material, and saves profiles of it for go
// tool pprof: NAME.cpu, of 8 seconds, and NAME.heap.
func (l *lab) profile(c contest, dir, name string) {
	l.Helper()
	if c.prepare != nil {
		c.prepare()
	}
	sampled := make(chan error, 1)
	go func() { sampled <- pprof(c.detach, "profile?seconds=8", filepath.Join(dir, name+".cpu")) }()
	for {
		c.ours()
		select {
		case err := <-sampled:
			stage.Must(l, err)
			stage.Must(l, pprof(c.detach, "heap", filepath.Join(dir, name+".heap")))
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
