package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
	"github.com/nkirchhoffer/detach-mta/internal/upkeep"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

type extendCmd struct {
	configFlag
	Links   []string        `arg:"" optional:"" name:"link" help:"Links, or the CIDs in them. - reads them from standard input."`
	Message bool            `help:"Extend all files of the mails that the links belong to."`
	Epoch   string          `placeholder:"EPOCH" help:"Extend all files that end with this epoch."`
	Until   string          `placeholder:"DATE" xor:"end" help:"The last day, in UTC: 2027-06-30."`
	For     config.Duration `placeholder:"TIME" xor:"end" help:"How long from now, as 90d."`
	JSON    bool            `name:"json" help:"Print one JSON object for each file."`
}

// Help implements kong.HelpProvider.
func (*extendCmd) Help() string {
	return `Moves the end of files to a later day. The links stay the same; the page and detach get say the new date, but the notice in the mail keeps the old one.

A file can be extended while it is served: not after its end, and not while it is revoked. A link to the list of files of a mail does not extend the files: use --message.`
}

// Run extends what it can, and fails if something could not be extended.
func (c *extendCmd) Run(e *env) (err error) {
	period, err := c.period()
	if err != nil {
		return usageError{err}
	}
	if (c.Epoch == "") == (len(c.Links) == 0) {
		return usageError{errors.New("name links or CIDs, or an epoch with --epoch")}
	}
	cids, err := namedCIDs(c.Links, e.stdin)
	if err != nil {
		return usageError{err}
	}
	a, err := c.openAsOwner(e.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	report := extendReport{env: e, json: c.JSON}
	if c.Epoch != "" {
		err = c.extendEpoch(e, a, period, &report)
	} else {
		err = c.extendObjects(e, a, cids, period, &report)
	}
	return errors.Join(err, report.done())
}

// period returns the period whose end the files shall have.
func (c *extendCmd) period() (crypto.Period, error) {
	now := machineClock.Now()
	switch {
	case c.Until == "" && c.For == 0:
		return "", errors.New("say until when: --until 2027-06-30, or --for 90d")
	case c.Until == "":
		return crypto.PeriodOf(now, time.Duration(c.For)), nil
	}
	p, err := crypto.ParsePeriod(c.Until)
	if err != nil || p.End().IsZero() {
		return "", fmt.Errorf("--until %q is not a day before 9999-12-31: write it as 2027-06-30", c.Until)
	}
	if !p.End().After(now) {
		return "", fmt.Errorf("--until %s is over", c.Until)
	}
	return p, nil
}

func (c *extendCmd) extendEpoch(e *env, a *app, p crypto.Period, report *extendReport) error {
	epoch, err := crypto.ParseEpoch(c.Epoch)
	if err != nil {
		return usageError{fmt.Errorf("--epoch: %w; detach stat lists the epochs", err)}
	}
	if err := a.upkeep.ExtendEpoch(e.ctx, epoch, p, report.add); err != nil {
		return err
	}
	if report.passed+report.failed == 0 {
		return fmt.Errorf("no file ends with epoch %s; detach stat lists the epochs", epoch)
	}
	return nil
}

func (c *extendCmd) extendObjects(e *env, a *app, cids []cid.Cid, p crypto.Period, report *extendReport) error {
	find := a.upkeep.Find
	if c.Message {
		find = a.upkeep.FindMails
	}
	entries, err := find(e.ctx, cids...)
	for _, entry := range entries {
		x, err := a.upkeep.Extend(e.ctx, entry, p)
		report.add(entry.CID, x, err)
		report.list = report.list || err == nil && !c.Message && entry.Kind == ledger.KindList
	}
	return err
}

// extendReport prints what was extended.
type extendReport struct {
	env            *env
	json           bool
	failed, passed int
	list           bool // the list of a mail's files was extended, and not the files
}

// add prints a line for one file. A file that ends late enough already is not a failure.
func (r *extendReport) add(c cid.Cid, x upkeep.Extended, err error) {
	text := ""
	switch {
	case err == nil:
		text = "extended: its last day is " + lastDay(x.To) + ", and was " + lastDay(x.From)
	case errors.Is(err, upkeep.ErrNotLater):
		text, err = "not changed: its last day is "+lastDay(x.From)+" already", nil
	case errors.Is(err, upkeep.ErrEndless):
		text, err = "not changed: it has no end", nil
	case errors.Is(err, vault.ErrRevoked):
		text = "not extended: it was revoked; detach revoke --undo gives it back, unless its key is destroyed"
	case errors.Is(err, vault.ErrExpired):
		text = "not extended: it has ended"
	default:
		text = "not extended: " + err.Error()
	}
	if err == nil {
		r.passed++
	} else {
		r.failed++
	}
	r.print(c, x, text, err != nil)
}

func (r *extendReport) print(c cid.Cid, x upkeep.Extended, text string, failed bool) {
	if !r.json {
		fmt.Fprintf(r.env.stdout, "%s  %s\n", c, plain(text))
		return
	}
	line := struct {
		CID   string     `json:"cid"`
		End   *time.Time `json:"end,omitempty"`
		Error string     `json:"error,omitempty"`
	}{CID: c.String()}
	if end := x.To; !end.IsZero() {
		line.End = &end
	}
	if failed {
		line.Error = text
	}
	_ = json.NewEncoder(r.env.stdout).Encode(line)
}

func lastDay(end time.Time) string { return texts.English().Day(texts.LastDay(end)) + " (UTC)" }

// listRemark is for an operator who took the link to all files for all files.
const listRemark = `
A list of a mail's files stays longer, and the files do not. With --message, they stay as long.
`

func (r *extendReport) done() error {
	if r.list && !r.json {
		fmt.Fprint(r.env.stdout, listRemark)
	}
	if r.failed > 0 {
		return fmt.Errorf("%d of %s could not be extended", r.failed, count(r.failed+r.passed, "file"))
	}
	return nil
}
