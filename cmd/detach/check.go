package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/check"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/export"
	"github.com/nkirchhoffer/detach-mta/internal/freespace"
)

type checkCmd struct {
	configFlag
}

// levels are the words of a report. The exit code tells Fail from Refuse.
var levels = map[check.Level]string{check.OK: "ok", check.Warn: "warn", check.Fail: "FAIL", check.Refuse: "FAIL"}

// Run prints a line for each check. The exit code is that of detach serve if serve would not start,
// and otherwise 1 if something does not work.
func (c *checkCmd) Run(e *env) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := refuseIdle(cfg); err != nil {
		return err
	}
	found := make(map[check.Level]int)
	report := func(f check.Finding) {
		found[f.Level]++
		fmt.Fprintf(e.stdout, "%-4s  %-18s  %s\n", levels[f.Level], f.What, plain(f.Text))
	}
	report(check.Finding{What: "configuration", Text: c.Config + " is valid"})
	var a *app
	check.Run(e.ctx, check.Target{
		Config: cfg,
		Open: func() (store *freespace.Store, err error) {
			if a, err = openApp(cfg, slog.New(slog.DiscardHandler)); err != nil { // the report says it all
				return nil, err
			}
			return a.store, nil
		},
		Problems: func() []check.Finding { return append(a.problems(), exportProblems(cfg)...) },
		Brand:    func() error { _, err := loadBrand(cfg.Gateway); return err },
	}, report)
	problems := "1 problem"
	failed := found[check.Fail] + found[check.Refuse]
	if failed > 1 {
		problems = fmt.Sprintf("%d problems", failed)
	}
	switch {
	case found[check.Refuse] > 0:
		return usageError{fmt.Errorf("%s found; detach serve would not start", problems)}
	case failed > 0:
		return fmt.Errorf("%s found", problems)
	}
	return nil
}

// problems returns what is wrong with the keyring and the deny list.
func (a *app) problems() (found []check.Finding) {
	for _, p := range a.vault.Problems() {
		level := check.Fail
		if p.Minor {
			level = check.Warn
		}
		found = append(found, check.Finding{Level: level, What: p.Part, Text: p.Err.Error()})
	}
	return found
}

// exportProblems returns a warning if links would be lost with this machine: no export has the
// epoch's key. Only check says so, and not readyz, which tells whether the service works.
func exportProblems(cfg config.Config) []check.Finding {
	warn := func(format string, args ...any) []check.Finding {
		return []check.Finding{{Level: check.Warn, What: "keys export", Text: fmt.Sprintf(format, args...)}}
	}
	keys, err := keyring.Read(keysDir(cfg))
	if err != nil {
		return nil // check has said so
	}
	epochs, err := keys.Epochs()
	if err != nil {
		return nil
	}
	last, missing, err := export.Missing(keysDir(cfg), slices.DeleteFunc(epochs, over))
	switch {
	case err != nil:
		return warn("%v", err)
	case len(missing) == 0:
		return nil
	}
	since := "never"
	if !last.IsZero() {
		since = "last on " + last.Format(time.DateOnly)
	}
	return warn("exported %s, and there are keys of %s: they are in no export, and lost with this disk: detach keys export", since, someEpochs(missing))
}

func over(e crypto.Epoch) bool { return !e.End().IsZero() && !machineClock.now().Before(e.End()) }

// maxEpochs bounds the epochs that a message names.
const maxEpochs = 3

func someEpochs(epochs []crypto.Epoch) string {
	var names []string
	for _, e := range epochs[:min(len(epochs), maxEpochs)] {
		names = append(names, string(e))
	}
	text := strings.Join(names, ", ")
	if more := len(epochs) - maxEpochs; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
