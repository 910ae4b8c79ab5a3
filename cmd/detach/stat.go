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
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
	"github.com/nkirchhoffer/detach-mta/internal/upkeep"
)

type statCmd struct {
	configFlag
	JSON bool `name:"json" help:"Print one JSON object."`
}

// summary is what stat prints. Stored, Ends and Kinds count what is stored: served and revoked
// objects.
type summary struct {
	States states          `json:"states"`
	Total  tally           `json:"stored"`
	Kinds  []group         `json:"kinds"`
	Ages   []group         `json:"ages"`
	Ends   []group         `json:"ends"`
	Epochs []*epochSummary `json:"epochs"`

	epochs map[crypto.Epoch]*epochSummary
}

// group is a line of a summary. The periods overlap: what was stored within a day was stored within
// a week, too.
type group struct {
	Name string `json:"name"`
	tally
	has func(e ledger.Entry, s upkeep.Status) bool
}

type epochSummary struct {
	Epoch  crypto.Epoch `json:"epoch"`
	End    *time.Time   `json:"end"`
	States states       `json:"states"`
}

const day = 24 * time.Hour

// periods are the ages and the times to an end that are counted together.
var periods = []struct {
	name string
	time.Duration
}{{"1 day", day}, {"7 days", 7 * day}, {"30 days", 30 * day}, {"90 days", 90 * day}, {"1 year", 365 * day}}

func newSummary(now time.Time) *summary {
	s := &summary{States: make(states), Epochs: []*epochSummary{}, epochs: make(map[crypto.Epoch]*epochSummary)}
	for _, kind := range []ledger.Kind{ledger.KindFile, ledger.KindList, ledger.KindOriginal, ""} {
		s.Kinds = append(s.Kinds, group{Name: cmp.Or(string(kind), "unknown"), has: func(e ledger.Entry, _ upkeep.Status) bool { return e.Kind == kind }})
	}
	age := func(e ledger.Entry) time.Duration { return now.Sub(e.Created) }
	left := func(s upkeep.Status) time.Duration { return s.End.Sub(now) }
	last := periods[len(periods)-1].Duration
	for _, p := range periods {
		s.Ages = append(s.Ages, group{Name: "within " + p.name, has: func(e ledger.Entry, _ upkeep.Status) bool { return age(e) <= p.Duration }})
		s.Ends = append(s.Ends, group{Name: "within " + p.name, has: func(_ ledger.Entry, st upkeep.Status) bool {
			return !st.End.IsZero() && left(st) <= p.Duration
		}})
	}
	s.Ages = append(s.Ages,
		group{Name: "longer ago", has: func(e ledger.Entry, _ upkeep.Status) bool { return !e.Created.IsZero() && age(e) > last }},
		group{Name: "unknown", has: func(e ledger.Entry, _ upkeep.Status) bool { return e.Created.IsZero() }})
	s.Ends = append(s.Ends,
		group{Name: "later", has: func(_ ledger.Entry, st upkeep.Status) bool { return left(st) > last }},
		group{Name: "never", has: func(_ ledger.Entry, st upkeep.Status) bool { return st.End.IsZero() }})
	return s
}

// add counts an object.
func (s *summary) add(e ledger.Entry, st upkeep.Status) error {
	s.States.add(e, st.State)
	epoch, ok := s.epochs[e.Epoch]
	if !ok {
		epoch = &epochSummary{e.Epoch, known(st.End), make(states)}
		s.epochs[e.Epoch] = epoch
		s.Epochs = append(s.Epochs, epoch)
	}
	epoch.States.add(e, st.State)
	if st.State != upkeep.StateServed && st.State != upkeep.StateRevoked {
		return nil
	}
	s.Total.add(e)
	for _, groups := range [][]group{s.Kinds, s.Ages, s.Ends} {
		for i, g := range groups {
			if g.has(e, st) {
				groups[i].add(e)
			}
		}
	}
	return nil
}

// states counts objects by their state.
type states map[upkeep.State]tally

func (s states) add(e ledger.Entry, state upkeep.State) {
	t := s[state]
	t.add(e)
	s[state] = t
}

// Run prints what is stored: by state, kind, age, end and epoch.
func (c *statCmd) Run(e *env) (err error) {
	a, err := c.openAsOwner(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	s := newSummary(machineClock.Now())
	if err := a.eachObject(s.add); err != nil {
		return err
	}
	slices.SortFunc(s.Epochs, func(a, b *epochSummary) int { return byEnd(a.Epoch, b.Epoch) })
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(s)
	}
	out := bufio.NewWriter(e.stdout)
	s.print(out)
	return out.Flush()
}

// byEnd orders epochs by their end, those without an end last, and then by name.
func byEnd(a, b crypto.Epoch) int {
	endA, endB := a.End(), b.End()
	if endA.IsZero() != endB.IsZero() {
		if endA.IsZero() {
			return 1
		}
		return -1
	}
	return cmp.Or(endA.Compare(endB), cmp.Compare(a, b))
}

// shown are the states in the table of epochs.
var shown = []upkeep.State{upkeep.StateServed, upkeep.StateRevoked, upkeep.StateDestroyed, upkeep.StateEnded, upkeep.StateGone}

func (s *summary) print(w io.Writer) {
	if len(s.Epochs) > 0 {
		s.printEpochs(w)
	}
	if s.Total.Objects > 0 {
		printGroups(w, "KIND", s.Kinds)
		printGroups(w, "STORED", s.Ages)
		printGroups(w, "ENDS", s.Ends)
	}
	fmt.Fprintf(w, "stored: %s", s.Total)
	for _, state := range shown[1:] {
		fmt.Fprintf(w, "; %s: %d", state, s.States[state].Objects)
	}
	fmt.Fprintln(w)
}

func (s *summary) printEpochs(w io.Writer) {
	const form = "%-19s  %-10s  %9s"
	fmt.Fprintf(w, form+"  %9s  %9s  %9s  %9s  %9s\n", "EPOCH", "LAST DAY", "SIZE", "SERVED", "REVOKED", "DESTROYED", "ENDED", "GONE")
	for _, epoch := range s.Epochs {
		stored := epoch.States[upkeep.StateServed].Bytes + epoch.States[upkeep.StateRevoked].Bytes
		fmt.Fprintf(w, form, epoch.Epoch, endDay(epoch.Epoch.End()), texts.English().Size(stored))
		for _, state := range shown {
			fmt.Fprintf(w, "  %9d", epoch.States[state].Objects)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
}

func printGroups(w io.Writer, head string, groups []group) {
	fmt.Fprintf(w, "%-15s  %9s  %9s\n", head, "OBJECTS", "SIZE")
	for _, g := range groups {
		if g.Objects > 0 {
			fmt.Fprintf(w, "%-15s  %9d  %9s\n", g.Name, g.Objects, texts.English().Size(g.Bytes))
		}
	}
	fmt.Fprintln(w)
}
