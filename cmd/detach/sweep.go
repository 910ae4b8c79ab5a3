package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/progress"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
	"github.com/nkirchhoffer/detach-mta/internal/upkeep"
)

type sweepCmd struct {
	configFlag
	DryRun     bool `help:"Only say what would be removed."`
	JSON       bool `name:"json" help:"Print one JSON object."`
	TrustClock bool `help:"Record the present time as right: after a machine was off for more than a day, or after its clock was corrected."`
}

// Help implements kong.HelpProvider.
func (*sweepCmd) Help() string {
	return `Removes what has ended: the keys of epochs whose day is over, then their files; keys and files that were revoked longer than keys.grace ago; what interrupted mails left; lists of epochs that ended more than a year ago.

detach serve does the same every hour. A sweep may be interrupted; the next one continues. A clock that jumped by more than a day stops it.`
}

// Run sweeps once, and prints what was removed.
func (c *sweepCmd) Run(e *env) (err error) {
	a, err := c.openAsOwner(e.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if c.TrustClock && !c.DryRun {
		if err := a.clock.Trust(); err != nil {
			return err
		}
	}
	bar := progress.NewCount(e.stderr, "files")
	swept, err := a.upkeep.Sweep(e.ctx, upkeep.SweepOptions{Grace: time.Duration(a.cfg.Keys.Grace), DryRun: c.DryRun, Progress: bar.Set})
	bar.Clear()
	if c.JSON {
		enc := json.NewEncoder(e.stdout)
		if failed := enc.Encode(sweptJSON(swept)); failed != nil {
			return failed
		}
		return err
	}
	printSwept(e.stdout, swept, c.DryRun)
	if err == nil && swept.None() {
		fmt.Fprintln(e.stdout, "nothing to remove")
	}
	return err
}

// printSwept prints a line for each thing that was removed, or would be.
func printSwept(w io.Writer, s upkeep.Swept, dry bool) {
	would := ""
	if dry {
		would = "would be "
	}
	for _, x := range s.Ended {
		files := fmt.Sprintf("%s (%s)", count(x.Files, "file"), texts.English().Size(x.Bytes))
		if x.Key {
			fmt.Fprintf(w, "epoch %s is over: its key %sdestroyed, and %s %sdeleted\n", x.Epoch, would, files, would)
		} else {
			fmt.Fprintf(w, "epoch %s is over: %s %sdeleted\n", x.Epoch, files, would)
		}
	}
	if s.Destroyed > 0 {
		key, file := "its key", "the file"
		if s.Destroyed > 1 {
			key, file = "their keys", "the files"
		}
		fmt.Fprintf(w, "%s: %s %sdestroyed, and %s %sdeleted\n", count(s.Destroyed, "revoked file"), key, would, file, would)
	}
	if n := len(s.Recovered); n > 0 {
		fmt.Fprintf(w, "%s of interrupted mails %sdeleted\n", count(n, "file"), would)
	}
	for _, x := range s.Forgotten {
		fmt.Fprintf(w, "the list of epoch %s %sremoved\n", x, would)
	}
}

// endedJSON and sweptJSON are the output of --json.
type endedJSON struct {
	Epoch string `json:"epoch"`
	Key   bool   `json:"key_destroyed"`
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"`
}

func sweptJSON(s upkeep.Swept) any {
	out := struct {
		Ended       []endedJSON `json:"ended"`
		Destroyed   int         `json:"revoked_destroyed"`
		Interrupted int         `json:"interrupted_deleted"`
		Lists       []string    `json:"lists_removed"`
	}{[]endedJSON{}, s.Destroyed, len(s.Recovered), []string{}}
	for _, x := range s.Ended {
		out.Ended = append(out.Ended, endedJSON{string(x.Epoch), x.Key, x.Files, x.Bytes})
	}
	for _, x := range s.Forgotten {
		out.Lists = append(out.Lists, string(x))
	}
	return out
}

// sweepEvery is the pause between two sweeps of detach serve.
const sweepEvery = time.Hour

// sweepLoop removes what has ended: now, and again every hour.
func (a *app) sweepLoop(ctx context.Context, log *slog.Logger) {
	var swept time.Time
	for ctx.Err() == nil {
		// By the clock, also if it was moved: tests move it, and a machine may have slept.
		if now := machineClock.Now(); now.Sub(swept).Abs() >= sweepEvery {
			a.sweep(ctx, log)
			swept = now
		}
		wait(ctx, recoverEvery)
	}
}

func (a *app) sweep(ctx context.Context, log *slog.Logger) {
	s, err := a.upkeep.Sweep(ctx, upkeep.SweepOptions{Grace: time.Duration(a.cfg.Keys.Grace)})
	if len(s.Recovered) > 0 {
		log.Info("removed what interrupted mails had stored", "cids", s.Recovered)
	}
	for _, x := range s.Ended {
		log.Info("an epoch has ended", "epoch", x.Epoch, "key_destroyed", x.Key, "files", x.Files, "bytes", x.Bytes)
	}
	if s.Destroyed > 0 {
		log.Info("destroyed what was revoked", "files", s.Destroyed)
	}
	for _, x := range s.Forgotten {
		log.Info("removed the list of an epoch that ended a year ago", "epoch", x)
	}
	if err != nil && ctx.Err() == nil {
		log.Warn("not everything that has ended could be removed", "error", err)
	}
}
