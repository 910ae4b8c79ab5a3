// Command bench measures Detach against its alternatives on this machine, and prints a table in
// Markdown.
//
//	go run ./e2e/bench [-rows REGEXP] [-rounds N] [-quick] [-profile DIR]
//
// It builds Detach from this tree and starts the peers itself: Postfix and its smtp-sink, an IPFS
// node, nginx, proxsmtp. Each row of the table is measured in rounds. In a round both sides do the
// same work on the same bytes, one after the other, and the side that begins changes from round to
// round. Before each side's turn the system writes out its buffers. The result is the median of the
// rounds' ratios, since other work of the machine slows both sides. The first round, in which
// everything is loaded, does not count. A round's material is made before the round, in memory, of new
// random bytes, since a store would not store the same bytes again.
//
// rows.go has the list; each of the other files has one theme, and shows how its figures are made.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// options are the command line.
type options struct {
	rows    *regexp.Regexp
	rounds  int
	quick   bool
	profile string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// run returns the exit code: 0 every row was measured, 1 one was not, 2 wrong usage. A missed bar
// does not change it, since the machine may be busy.
func run(ctx context.Context, args []string) int {
	o, err := parse(args)
	if err != nil {
		return 2
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	var results []result
	before := load()
	wrong := stage.Perform(ctx, dir, os.Stderr, func(p *stage.Program) { results = measureAll(p, o) })
	report(os.Stdout, o, before, results)
	if len(wrong) > 0 {
		return 1
	}
	return 0
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	rows := flags.String("rows", ".", "the rows whose names match this regular `expression`")
	flags.IntVar(&o.rounds, "rounds", 7, "how often each row is measured, after a round that does not count")
	flags.BoolVar(&o.quick, "quick", false, "small sizes and one round: to try this program, not Detach")
	flags.StringVar(&o.profile, "profile", "", "also take CPU and heap profiles of Detach, into this `directory`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.rows, err = regexp.Compile(*rows)
	if err == nil && (flags.NArg() > 0 || o.rounds < 1) {
		err = flag.ErrHelp
	}
	if err != nil {
		flags.Usage()
	}
	if o.quick {
		o.rounds = 1
	}
	return o, err
}

// measureAll measures the selected rows, each on its own stage, so that a row's servers have ended
// before the next row.
func measureAll(p *stage.Program, o options) (results []result) {
	size := full
	if o.quick {
		size = quick
	}
	rows := selectRows(rows(size), o.rows)
	if o.profile != "" {
		stage.Must(p, os.MkdirAll(o.profile, 0o755))
	}
	l := newLab(p, size, rows)
	for _, r := range rows {
		res := result{row: r}
		wrong := stage.Perform(p.Context(), p.Dir, os.Stderr, func(p *stage.Program) { res.rounds = l.on(p).measure(r, o) })
		if p.Context().Err() != nil {
			break
		}
		if res.failure = errors.Join(wrong...); res.failure != nil {
			p.Errorf("%s: %v", r.name, res.failure)
		}
		results = append(results, res)
	}
	return results
}
