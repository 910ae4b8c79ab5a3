package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// report writes the figures of a run.
func report(w io.Writer, o options, store string, took time.Duration, s *system, l *load, d *reader, v *verdict) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(t, "%s\t%v\n", name, value) }
	row("seed", o.seed)
	row("store", store)
	row("load", o.duration)
	row("until all was checked", took.Round(time.Second))
	row("accepted", fmt.Sprintf("%d mails, %d MB", v.accepted, l.megabytes()))
	row("tried again after 4xx", l.tempfail)
	row("tried again after a lost connection", l.lost)
	row("delivered", v.delivered)
	row("sent and not waited for", fmt.Sprintf("%d delivered", v.maybe))
	row("duplicates", v.copies-v.delivered-v.maybe)
	row("copies with links", v.withLinks)
	row("links opened", v.opened)
	row("downloads during the run", fmt.Sprintf("%d whole, %d visibly failed", d.opened, d.failed))
	for _, what := range slices.Sorted(maps.Keys(s.counts)) {
		row(what, s.counts[what])
	}
	row("objects stored", fmt.Sprintf("%d, of them %d kept because the outcome stayed open", v.stored, v.unused))
	row("leftovers", len(v.leftovers))
	row("LOST", v.lost)
	row("damaged", v.damaged)
	row("wrong in all", len(s.Findings()))
	t.Flush()
}

// megabytes is the size of all letters that were accepted.
func (l *load) megabytes() int {
	total := 0
	for _, p := range l.letters {
		if p.fate == accepted {
			total += p.size
		}
	}
	return total / 1e6
}
