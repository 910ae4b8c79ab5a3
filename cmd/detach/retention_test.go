package main

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// retentionApp opens a data directory under a configuration with two listeners.
func retentionApp(t *testing.T, dir string, keys, second string) *app {
	t.Helper()
	cfg, err := config.Parse(`
data_dir = "`+filepath.ToSlash(dir)+`"
[[proxy]]
reinject = "127.0.0.1:10026"
[[proxy]]
listen = "127.0.0.1:10125"
reinject = "127.0.0.1:10026"
retention = "`+second+`"
[store]
min_free = "0"
[keys]
retention = "`+keys+`"
[gateway]
url = "https://files.example.org"
`, nil)
	must.Succeed(t, err)
	a, err := openApp(cfg, slog.New(slog.DiscardHandler))
	must.Succeed(t, err)
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// Each listener has its own retention. A changed one is that of new mails: it moves no end that was
// promised.
func TestListenersHaveTheirOwnRetention(t *testing.T) {
	const day = 24 * time.Hour
	dir := t.TempDir()
	ends := make(map[string]time.Time) // of links
	for _, c := range []struct {
		keys, second string
		want         [2]time.Duration
	}{
		{"365d", "30d", [2]time.Duration{365 * day, 30 * day}},
		{"365d", "0", [2]time.Duration{365 * day, 0}},
		{"0", "", [2]time.Duration{0, 0}},
		{"90d", "", [2]time.Duration{90 * day, 90 * day}},
	} {
		a := retentionApp(t, dir, c.keys, c.second)
		for i, p := range a.cfg.Proxy {
			before := time.Now()
			batch := a.transactions(p).Begin()
			l, err := batch.Detach(t.Context(), "a.bin", "application/octet-stream", strings.NewReader("content"))
			must.Succeed(t, err)
			must.Succeed(t, batch.Commit(t.Context()))
			must.Succeed(t, batch.Close())
			// The day may have changed between the two readings of the clock.
			first, last := crypto.PeriodOf(before, c.want[i]).End(), crypto.PeriodOf(time.Now(), c.want[i]).End()
			if end := batch.Expires(); !end.Equal(first) && !end.Equal(last) {
				t.Errorf("retention %q, listener %d: %q ends on %v, want %v", c.keys, i, c.second, end, first)
			}
			ends[l.URL()] = batch.Expires()
		}
	}
	a := retentionApp(t, dir, "1d", "1d")
	for text, want := range ends {
		l, err := link.Parse(text)
		must.Succeed(t, err)
		o, err := a.vault.Object(t.Context(), l.CID)
		must.Succeed(t, err)
		file, err := o.Open(t.Context(), l.Fragment)
		must.Succeed(t, err)
		if !o.Expires.Equal(want) || !file.Meta.Expires.Equal(want) {
			t.Errorf("after a change the file ends on %v, and by its metadata on %v, want %v", o.Expires, file.Meta.Expires, want)
		}
		must.Succeed(t, file.Close())
	}
}
