package check

import (
	"context"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
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
		open := func() (ipfs.Store, error) { return goodStore{}, nil }
		Run(t.Context(), Target{cfg, open, func() error { return nil }}, func(f Finding) { found[f.What] = max(found[f.What], f.Level) })
		return found
	}
	if level := levels()["data_dir"]; level != Fail {
		t.Errorf("no data directory: level %d, want Fail: serve creates it", level)
	}
	if _, err := os.Stat(cfg.DataDir); err == nil {
		t.Error("the data directory was created")
	}
	must.Succeed(t, os.MkdirAll(filepath.Join(cfg.DataDir, "keys"), 0o700))
	want := map[string]Level{"data_dir": OK, "keys": OK, "store": Warn, "proxy[0].reinject": Fail, "proxy[0].listen": OK,
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

// goodStore works, and has a warning.
type goodStore struct{ ipfs.Store }

func (goodStore) Check(context.Context) error       { return nil }
func (goodStore) Close() error                      { return nil }
func (goodStore) Warnings(context.Context) []string { return []string{"sync is off"} }
