package main

import (
	"fmt"

	"github.com/nkirchhoffer/detach-mta/internal/check"
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
	check.Run(e.ctx, check.Target{
		Config: cfg,
		Open: func() (*freespace.Store, error) {
			a, err := openApp(cfg)
			if err != nil {
				return nil, err
			}
			return a.store, nil
		},
		Brand: func() error { _, err := loadBrand(cfg.Gateway); return err },
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
