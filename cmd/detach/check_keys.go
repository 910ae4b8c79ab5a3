package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/check"
	"github.com/nkirchhoffer/detach-mta/internal/export"
)

// sweepDelay is how long after their end keys may exist before check says so: detach serve sweeps
// every hour, and a machine without it once a day.
const sweepDelay = 26 * time.Hour

// keyWarnings returns what the operator has to do about keys although the service works: export
// new ones, and sweep. Only check says so, and not readyz.
func (a *app) keyWarnings() []check.Finding {
	keys, err := keyring.Read(keysDir(a.cfg))
	if err != nil {
		return nil // check has said so
	}
	epochs, err := keys.Epochs()
	if err != nil {
		return nil
	}
	now := machineClock.Now()
	over := func(e crypto.Epoch) bool { return !e.End().IsZero() && !now.Before(e.End()) }
	inTime := func(e crypto.Epoch) bool { return !over(e) || now.Before(e.End().Add(sweepDelay)) }
	return slices.Concat(
		a.exportWarning(slices.DeleteFunc(slices.Clone(epochs), over)),
		a.sweepWarning(slices.DeleteFunc(epochs, inTime)),
		a.graceWarning(),
	)
}

func warning(what, format string, args ...any) []check.Finding {
	return []check.Finding{{Level: check.Warn, What: what, Text: fmt.Sprintf(format, args...)}}
}

// exportWarning warns if links would be lost with this machine: no export has the epoch's key.
func (a *app) exportWarning(epochs []crypto.Epoch) []check.Finding {
	const what = "keys export"
	last, missing, err := export.Missing(keysDir(a.cfg), epochs)
	switch {
	case err != nil:
		return warning(what, "%v", err)
	case len(missing) == 0:
		return nil
	}
	since := "never exported"
	if !last.IsZero() {
		since = "last exported on " + last.Format(time.DateOnly)
	}
	return warning(what, "%s: the keys of %s are in no export, and would be lost with this disk: run detach keys export", since, someEpochs(missing))
}

// sweepWarning warns of epochs that ended, and whose keys still exist.
func (a *app) sweepWarning(overdue []crypto.Epoch) []check.Finding {
	if len(overdue) == 0 {
		return nil
	}
	return warning("keys", "the files of %s have ended, and their keys still exist: start detach serve, or run detach sweep each day", someEpochs(overdue))
}

// graceWarning warns of revoked files whose keys should be destroyed by now.
func (a *app) graceWarning() []check.Finding {
	due, err := a.upkeep.Due(time.Duration(a.cfg.Keys.Grace) + sweepDelay)
	if err != nil || len(due) == 0 {
		return nil // check has said so
	}
	return warning("keys.grace", "the time to undo is over for %s, and the keys still exist: start detach serve, or run detach sweep each day",
		count(len(due), "revoked object"))
}

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
