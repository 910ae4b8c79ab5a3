package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/export"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// check says which keys are in no export, and which exist although they should be destroyed.
func TestCheckWarnsOfKeys(t *testing.T) {
	const cid, core = "bafybeidlqdgoavqvogm27tgz5vvcebzwnwpnp5rimyy7qhbx3uw2bbahhe", "bafybeibwpuu3cqdfyhmcqzxqsfvkt2nk6s2ytlsnbdolbxhzyz5rt2wxjq"
	day := func(age time.Duration) crypto.Period { return crypto.PeriodOf(time.Now(), -age) }
	for name, tt := range map[string]struct {
		periods  []crypto.Period
		exported int           // of the periods
		revoked  time.Duration // ago; 0: nothing is revoked
		want     []string
	}{
		"a new installation": {},
		"exported":           {periods: []crypto.Period{"2026-11"}, exported: 1},
		"never exported":     {periods: []crypto.Period{"2026-11"}, want: []string{"keys export: never exported: the keys of 2026-11."}},
		"a new epoch":        {periods: []crypto.Period{"2026-11", "2026-12"}, exported: 1, want: []string{"keys export: last exported on 2026-11-30: the keys of 2026-12."}},
		"many":               {periods: []crypto.Period{"2026-08", "2026-09", "2026-10", "2026-11", "2026-12"}, want: []string{" and 2 more are in no export"}},
		"ended today":        {periods: []crypto.Period{day(24 * time.Hour)}},
		"ended long ago":     {periods: []crypto.Period{day(96 * time.Hour)}, want: []string{"have ended, and their keys still exist: start detach serve"}},
		"revoked":            {periods: []crypto.Period{"2026-11"}, exported: 1, revoked: 8*24*time.Hour - 1},
		"due":                {periods: []crypto.Period{"2026-11"}, exported: 1, revoked: 9 * 24 * time.Hour, want: []string{"keys.grace: the time to undo is over for 1 revoked object,"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.Default()
			cfg.DataDir, cfg.Gateway.URL = t.TempDir(), "https://files.example.org"
			keys, err := keyring.Open(keysDir(cfg))
			must.Succeed(t, err)
			var epochs []crypto.Epoch
			for _, p := range tt.periods {
				e, err := keys.Writer(p)
				must.Succeed(t, err)
				epochs = append(epochs, e)
			}
			if tt.exported > 0 {
				must.Succeed(t, export.Record(keysDir(cfg), time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), epochs[:tt.exported]))
			}
			if tt.revoked > 0 {
				line := strings.Join([]string{cid, core, string(epochs[0]), "deny", time.Now().Add(-tt.revoked).UTC().Format(time.RFC3339)}, " ")
				must.Succeed(t, os.WriteFile(filepath.Join(cfg.DataDir, "denied"), []byte(line+"\n"), 0o600))
			}
			a, err := openApp(cfg, slog.New(slog.DiscardHandler))
			must.Succeed(t, err)
			defer a.Close()
			var got []string
			for _, f := range a.keyWarnings() {
				got = append(got, f.What+": "+f.Text)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for i, want := range tt.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("got %q, want %q in it", got[i], want)
				}
			}
		})
	}
}
