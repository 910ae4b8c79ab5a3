// Command chaos checks Detach's first promise while everything around it breaks: no mail is lost or
// delivered in part, and every link opens.
//
//	go run ./e2e/chaos [-seed N] [-duration 1m] [-store embedded|kubo|both] [-v]
//
// A mail that the front Postfix has accepted (250) arrives at least once. A copy without links is
// byte for byte the mail that was sent. Every copy with links is whole: each link opens on the
// gateway and gives an attachment of that mail, no attachment is missing, and the original comes
// back exactly. A mail whose sender has vanished inside DATA never arrives. At the end the ledger
// knows every object in the store.
//
// Everything is real: senders → Postfix → Detach, built from this tree → Postfix → a mailbox that
// keeps every byte, with the embedded store or a real kubo. Between Postfix and Detach, Detach and
// Postfix, Detach and kubo is a wire that can be cut at any byte. As a mail server's queue does,
// the senders try again after 4xx or a lost connection until they get 250. The faults are drawn
// from the seed before the run, so the same seed gives the same schedule. The machine decides what
// a fault hits, so two runs are never the same.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// options are the command line.
type options struct {
	seed     uint64
	duration time.Duration
	store    string
	senders  int
	race     bool
	verbose  bool
}

const (
	embedded = "embedded"
	kubo     = "kubo"
	both     = "both"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// run returns the exit code: 0 without findings, 1 with findings, 2 for wrong usage.
func run(ctx context.Context, args []string) int {
	var o options
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.Uint64Var(&o.seed, "seed", rand.Uint64N(1_000_000), "the seed of mails and faults")
	flags.DurationVar(&o.duration, "duration", time.Minute, "how long there is load, for each store")
	flags.StringVar(&o.store, "store", both, "embedded, kubo or both")
	flags.IntVar(&o.senders, "senders", 6, "how many send side by side")
	flags.BoolVar(&o.race, "race", false, "build Detach with the race detector")
	flags.BoolVar(&o.verbose, "v", false, "print every fault as it happens")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	stores := []string{o.store}
	if o.store == both {
		stores = []string{embedded, kubo}
	}
	if flags.NArg() > 0 || (o.store != both && o.store != embedded && o.store != kubo) || o.duration <= 0 || o.senders < 1 {
		flags.Usage()
		return 2
	}
	code := 0
	for _, store := range stores {
		if !play(ctx, o, store) {
			code = 1
		}
		if ctx.Err() != nil {
			return 1
		}
	}
	return code
}

// play makes one run with one store, and reports whether all went well.
func play(ctx context.Context, o options, store string) bool {
	dir, err := os.MkdirTemp("", "chaos")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return false
	}
	fmt.Printf("seed %d, %v on the %s store\n", o.seed, o.duration, store)
	log := io.Discard
	if o.verbose {
		log = os.Stdout
	}
	findings := stage.Perform(ctx, dir, log, func(p *stage.Program) { perform(p, o, store) })
	if ctx.Err() != nil {
		fmt.Println("interrupted")
	}
	if len(findings) == 0 {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return false
		}
		return ctx.Err() == nil
	}
	for i, finding := range findings {
		if i == maxShown {
			fmt.Printf("… and %d more\n", len(findings)-i)
			break
		}
		fmt.Println("WRONG:", finding)
	}
	fmt.Println("the files of the run are in", dir)
	return false
}

// maxShown is how many findings are printed: the first tell more than the last.
const maxShown = 20

// perform starts everything, sends load and lets faults happen, ends both, and checks the mails.
func perform(p *stage.Program, o options, store string) {
	var flags []string
	if o.race {
		flags = []string{"-race"}
	}
	stage.Must(p, stage.Build(p.Context(), p.Dir, flags...))
	s := build(p, store)
	l := newLoad(s, o)
	d := newReader(s, l, o.seed)

	began := time.Now()
	during, end := context.WithTimeout(p.Context(), o.duration)
	defer end()
	p.Together(func() { l.run(during) }, func() { d.run(during) }, func() { s.suffer(during, plan(o.seed, o.duration, store), l) })
	if p.Context().Err() != nil {
		return
	}
	s.calmDown()
	v := verify(s, l)
	report(os.Stdout, o, store, time.Since(began), s, l, d, v)
}
