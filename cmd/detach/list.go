package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
	"github.com/nkirchhoffer/detach-mta/internal/upkeep"
)

type listCmd struct {
	configFlag
	Epoch     string          `placeholder:"EPOCH" help:"Only objects of this epoch, or of this day or month: 2027-02-28, 2026-11."`
	Older     config.Duration `placeholder:"TIME" help:"Only objects stored longer ago than this: 90d, 12h."`
	Newer     config.Duration `placeholder:"TIME" help:"Only objects stored since then: 30d."`
	Min       config.Size     `placeholder:"SIZE" help:"Only objects of at least this size: 10MB."`
	Kind      string          `placeholder:"KIND" enum:",file,list,original" default:"" help:"Only files, the lists of a mail's files, or what originals are restored from: file, list, original."`
	Revoked   bool            `help:"Only objects that are revoked. Without one of these flags, list shows what is stored: served and revoked objects."`
	Ended     bool            `help:"Only objects whose end is over."`
	Destroyed bool            `help:"Only objects whose key was destroyed."`
	Gone      bool            `help:"Only objects that were deleted because their mail was refused, or that fsck did not find."`
	JSON      bool            `name:"json" help:"Print one JSON object for each line."`
}

// listed is an object in the output of list --json.
type listed struct {
	CID     string       `json:"cid"`
	Epoch   string       `json:"epoch"`
	Mode    string       `json:"mode"`
	Kind    ledger.Kind  `json:"kind,omitempty"`
	Mail    string       `json:"mail,omitempty"`
	Size    int64        `json:"size"`
	Created *time.Time   `json:"created"`
	End     *time.Time   `json:"end"`
	State   upkeep.State `json:"state"`
	Revoked *time.Time   `json:"revoked,omitempty"`
}

func toListed(e ledger.Entry, s upkeep.Status) listed {
	mode := "split"
	if e.KID.Link {
		mode = "link"
	}
	return listed{
		CID: e.CID.String(), Epoch: string(e.Epoch), Mode: mode, Kind: e.Kind, Mail: e.Mail, Size: e.Size,
		Created: known(e.Created), End: known(s.End), State: s.State, Revoked: known(s.Revoked),
	}
}

// known returns nil for the zero time, which JSON has as null.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// Run prints the objects in the ledger, epoch by epoch.
func (c *listCmd) Run(e *env) (err error) {
	if _, err := crypto.ParsePeriod(c.Epoch); c.Epoch != "" && err != nil {
		if _, err := crypto.ParseEpoch(c.Epoch); err != nil {
			return usageError{fmt.Errorf("--epoch: %q is neither an epoch nor a day or month: write 2027-02-28 or 2026-11; detach stat lists the epochs", c.Epoch)}
		}
	}
	a, err := c.openAsOwner(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	out := bufio.NewWriter(e.stdout)
	show := tableOf(out)
	if c.JSON {
		show = linesOf(out)
	}
	total := tally{}
	err = a.eachObject(func(entry ledger.Entry, s upkeep.Status) error {
		if !c.wants(entry, s, machineClock.Now()) {
			return e.ctx.Err()
		}
		total.add(entry)
		return show(entry, s)
	})
	if err != nil {
		return err
	}
	if !c.JSON {
		fmt.Fprintln(out, total)
	}
	return out.Flush()
}

// eachObject calls take for each object in the ledger with its status.
func (a *app) eachObject(take func(ledger.Entry, upkeep.Status) error) error {
	statuses, err := a.upkeep.Statuses()
	if err != nil {
		return err
	}
	return a.ledger.AllWithGone(func(e ledger.Entry) error {
		s, err := statuses.Of(e)
		if err != nil {
			return err
		}
		return take(e, s)
	})
}

func (c *listCmd) wants(e ledger.Entry, s upkeep.Status, now time.Time) bool {
	age := now.Sub(e.Created)
	switch {
	case !slices.Contains(c.states(), s.State):
	case c.Epoch != "" && c.Epoch != string(e.Epoch) && c.Epoch != string(e.Epoch.Period()):
	case c.Older > 0 && (e.Created.IsZero() || age <= time.Duration(c.Older)):
	case c.Newer > 0 && (e.Created.IsZero() || age > time.Duration(c.Newer)):
	case e.Size < int64(c.Min):
	case c.Kind != "" && c.Kind != string(e.Kind):
	default:
		return true
	}
	return false
}

// states returns the states of the objects that are shown.
func (c *listCmd) states() (states []upkeep.State) {
	for state, wanted := range map[upkeep.State]bool{
		upkeep.StateRevoked: c.Revoked, upkeep.StateEnded: c.Ended, upkeep.StateDestroyed: c.Destroyed, upkeep.StateGone: c.Gone,
	} {
		if wanted {
			states = append(states, state)
		}
	}
	if len(states) == 0 {
		return []upkeep.State{upkeep.StateServed, upkeep.StateRevoked}
	}
	return states
}

const rowForm = "%-10s  %-10s  %9s  %-8s  %-9s  %s\n"

// tableOf returns a function that prints rows below one head. The CID stands last and whole: revoke
// needs it.
func tableOf(w io.Writer) func(ledger.Entry, upkeep.Status) error {
	head := false
	return func(e ledger.Entry, s upkeep.Status) error {
		if !head {
			head = true
			fmt.Fprintf(w, rowForm, "STORED", "LAST DAY", "SIZE", "KIND", "STATE", "CID")
		}
		_, err := fmt.Fprintf(w, rowForm, dayOr(e.Created, "unknown"), endDay(s.End), texts.English().Size(e.Size), cmp.Or(string(e.Kind), "unknown"), s.State, e.CID)
		return err
	}
}

func linesOf(w io.Writer) func(ledger.Entry, upkeep.Status) error {
	enc := json.NewEncoder(w)
	return func(e ledger.Entry, s upkeep.Status) error { return enc.Encode(toListed(e, s)) }
}

// dayOr returns the day of t in UTC, or a word for the zero time.
func dayOr(t time.Time, zero string) string {
	if t.IsZero() {
		return zero
	}
	return t.UTC().Format(time.DateOnly)
}

// endDay returns the last day before an end.
func endDay(end time.Time) string {
	if end.IsZero() {
		return "never ends"
	}
	return texts.LastDay(end).Format(time.DateOnly)
}

// tally counts objects.
type tally struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (t *tally) add(e ledger.Entry) {
	t.Objects++
	t.Bytes += e.Size
}

func (t tally) String() string {
	return count(t.Objects, "object") + ", " + texts.English().Size(t.Bytes)
}
