package check

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/freespace"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
)

// A check creates no data directory, leaves no file in it, and takes no socket away.
func TestCheckChangesNothing(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "admin")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			conn.Close()
		}
	}()
	cfg := config.Default()
	cfg.DataDir, cfg.Gateway.Listen, cfg.Gateway.URL, cfg.Admin.Listen = filepath.Join(dir, "data"), "", "http://127.0.0.1:1", "unix:"+socket
	cfg.Proxy = []config.Proxy{{Listen: "127.0.0.1:0", Reinject: "127.0.0.1:1"}}
	levels := func() map[string]Level {
		found := make(map[string]Level)
		open := func() (*freespace.Store, error) { return freespace.NewStore(goodStore{}, disk(1000)), nil }
		Run(t.Context(), Target{cfg, open, func() error { return nil }, func() []Finding { return nil }}, func(f Finding) { found[f.What] = max(found[f.What], f.Level) })
		return found
	}
	if level := levels()["data_dir"]; level != Fail {
		t.Errorf("no data directory: level %d, want Fail: serve creates it", level)
	}
	if _, err := os.Stat(cfg.DataDir); err == nil {
		t.Error("the data directory was created")
	}
	must.Succeed(t, os.MkdirAll(filepath.Join(cfg.DataDir, "keys"), 0o700))
	want := map[string]Level{"data_dir": OK, "keys": OK, "store.min_free": OK, "store": Warn, "proxy[0].reinject": Fail, "proxy[0].listen": OK,
		"gateway.listen": OK, "gateway.url": Warn, "admin.listen": Refuse}
	if got := levels(); !maps.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	if files, _ := filepath.Glob(filepath.Join(cfg.DataDir, "*")); !slices.Equal(files, []string{filepath.Join(cfg.DataDir, "keys")}) {
		t.Errorf("left %q", files)
	}
	if conn, err := net.Dial("unix", socket); err != nil {
		t.Errorf("the socket was taken away: %v", err)
	} else {
		conn.Close()
	}
}

func TestFreeSpaceIsCompared(t *testing.T) {
	for free, want := range map[int64]Level{20: OK, 19: Warn, 10: Warn, 9: Fail} {
		var got []Finding
		c := checker{ctx: t.Context(), report: func(f Finding) { got = append(got, f) }}
		c.space(freespace.NewStore(goodStore{}, disk(free)), true)
		if len(got) != 1 || got[0].Level != want {
			t.Errorf("%d bytes free: got %v, want level %d", free, got, want)
		}
	}
	unknown := freespace.New("node", func(int64) int64 { return 1 }, 0, func(context.Context) (int64, int64, error) { return 0, 0, errors.New("403") })
	c := checker{ctx: t.Context(), report: func(f Finding) {
		if f.Level != Warn || !strings.Contains(f.Text, "403") {
			t.Errorf("unknown: got %v, want a warning with the reason", f)
		}
	}}
	c.space(freespace.NewStore(goodStore{}, unknown), true)
}

// A full disk needs another remedy than a directory that cannot be written.
func TestRemedyIsTheStores(t *testing.T) {
	dir := t.TempDir()
	must.Succeed(t, os.Mkdir(filepath.Join(dir, "keys"), 0o700))
	for want, err := range map[string]error{"free some space on ": syscall.ENOSPC, "chown -R ": syscall.EACCES, "make ": errors.New("x")} {
		store, failed := openEmbedded(t, dir), false
		c := checker{ctx: t.Context(), report: func(f Finding) {
			if f.What == "store" && f.Level == Fail {
				failed = true
				if !strings.Contains(f.Text, want) || strings.Contains(f.Text, "kubo") {
					t.Errorf("%v: got %q, want %q", err, f.Text, want)
				}
			}
		}}
		c.target.Open = func() (*freespace.Store, error) { return freespace.NewStore(brokenStore{store, err}), nil }
		c.target.Problems = func() []Finding { return nil }
		c.target.Config.DataDir = dir
		c.storage()
		if !failed {
			t.Errorf("%v: no failure", err)
		}
	}
}

func openEmbedded(t *testing.T, dir string) ipfs.Store {
	t.Helper()
	s, err := embedded.Open(filepath.Join(dir, "objects"), nil)
	must.Succeed(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// brokenStore is a real store whose Check fails.
type brokenStore struct {
	ipfs.Store
	err error
}

func (s brokenStore) Check(context.Context) error { return ipfs.Unavailable("create object", s.err) }
func (s brokenStore) Close() error                { return nil }

// disk is a disk of 1000 bytes, of which 10 must stay free.
func disk(free int64) *freespace.Guard {
	return freespace.New("disk", func(total int64) int64 { return total / 100 }, 0,
		func(context.Context) (int64, int64, error) { return free, 1000, nil })
}

// goodStore works, and has a warning.
type goodStore struct{ ipfs.Store }

func (goodStore) Check(context.Context) error       { return nil }
func (goodStore) Close() error                      { return nil }
func (goodStore) Warnings(context.Context) []string { return []string{"sync is off"} }
