package main

import (
	"fmt"
	"log/slog"

	"github.com/nkirchhoffer/detach-mta/internal/check"
	"github.com/nkirchhoffer/detach-mta/internal/config"
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
	cfg, err := c.loadAsOwner()
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
		Problems: func() []check.Finding { return append(a.problems(), a.keyWarnings()...) },
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

// loadAsOwner loads the configuration as the service will: run by root, it becomes the user that
// owns data_dir, and reads the file again.
func (c *checkCmd) loadAsOwner() (config.Config, error) {
	cfg, err := c.load()
	if err != nil {
		return cfg, err
	}
	if err := becomeOwner(cfg.DataDir); err != nil {
		return cfg, usageError{fmt.Errorf("data_dir: %w", err)}
	}
	if cfg, err = c.load(); err != nil {
		return cfg, usageError{fmt.Errorf("as the user that owns data_dir: %w", err)}
	}
	return cfg, nil
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
