package main

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// fault is something that goes wrong.
type fault struct {
	victim string
	at     time.Duration // since the beginning
	kind   string
	lasts  time.Duration

	way    stage.Way // of a trap on a wire
	after  int64     // bytes that still pass
	answer bool      // the trap waits for the answer to a final dot
	share  float64   // of the letter that a client sends before it vanishes
	direct bool      // the client speaks to Detach itself
}

func (f fault) String() string {
	switch f.victim {
	case toDetach, toPostfix, toKubo:
		if f.answer {
			return fmt.Sprintf("%s: to be %s before an answer to a dot", f.victim, f.kind)
		}
		return fmt.Sprintf("%s: to be %s after %d bytes %s", f.victim, f.kind, f.after, []string{"there", "back"}[f.way])
	case client:
		return fmt.Sprintf("client %s", f.kind)
	}
	return fmt.Sprintf("%s %s, for %v", f.victim, f.kind, f.lasts.Round(time.Millisecond))
}

// The victims, besides the wires.
const (
	theDetach  = "Detach"
	theKubo    = "kubo"
	thePostfix = "Postfix"
	client     = "client"
)

// The kinds of faults.
const (
	killed         = "killed"  // SIGKILL, then started again
	stopped        = "stopped" // SIGTERM, then started again
	frozen         = "frozen"  // SIGSTOP, then SIGCONT
	cut            = "cut"     // both ends of a connection are closed, as by a peer that leaves
	reset          = "reset"   // both ends are reset, as by a network that breaks
	stalled        = "stalled" // nothing more passes for a while
	vanishInData   = "gone inside DATA"
	vanishAfterDot = "gone after its dot"
)

// acceptance is in Postfix's reply to a mail that it has accepted. After a wire breaks before it,
// only the client does not know that the mail is accepted.
const acceptance = "queued as"

// fortune says how often which faults happen to a victim. A kind that is listed twice is twice as
// likely.
type fortune struct {
	victim      string
	least, most time.Duration // from one fault to the next
	kinds       []string
	lasts       time.Duration // at most
}

var fortunes = []fortune{
	{theDetach, 2 * time.Second, 9 * time.Second, []string{killed, killed, killed, stopped, frozen}, time.Second},
	{theKubo, 4 * time.Second, 14 * time.Second, []string{killed, killed, stopped, frozen, frozen}, 2 * time.Second},
	{thePostfix, 8 * time.Second, 24 * time.Second, []string{killed, killed, stopped}, time.Second},
	{toDetach, 500 * time.Millisecond, 6 * time.Second, []string{cut, cut, reset, stalled}, 3 * time.Second},
	{toPostfix, 500 * time.Millisecond, 4 * time.Second, []string{cut, cut, reset, stalled}, 3 * time.Second},
	{toKubo, 500 * time.Millisecond, 6 * time.Second, []string{cut, cut, reset, stalled}, 3 * time.Second},
	{client, time.Second, 5 * time.Second, []string{vanishInData, vanishInData, vanishAfterDot}, 0},
}

// plan draws the faults of a run. Each victim's faults are drawn independently of the other
// victims.
func plan(seed uint64, duration time.Duration, store string) map[string][]fault {
	all := make(map[string][]fault)
	for _, f := range fortunes {
		if store != kubo && (f.victim == theKubo || f.victim == toKubo) {
			continue
		}
		all[f.victim] = f.draw(seed, duration)
	}
	return all
}

func (f fortune) draw(seed uint64, duration time.Duration) (faults []fault) {
	name := fnv.New64()
	name.Write([]byte(f.victim))
	r := rand.New(rand.NewPCG(seed, name.Sum64()))
	for at := time.Duration(0); ; {
		at += f.least + time.Duration(r.Int64N(int64(f.most-f.least)))
		if at >= duration {
			return faults
		}
		way := stage.Way(r.IntN(2))
		faults = append(faults, fault{
			victim: f.victim,
			at:     at,
			kind:   f.kinds[r.IntN(len(f.kinds))],
			lasts:  100*time.Millisecond + time.Duration(r.Int64N(int64(cmp.Or(f.lasts, time.Second)))),
			way:    way,
			after:  reach(r, f.victim, way),
			answer: r.IntN(2) == 0 && way == stage.Back && (f.victim == toDetach || f.victim == toPostfix),
			share:  r.Float64(),
			direct: r.IntN(3) == 0,
		})
	}
}

// reach draws how many bytes still pass a wire before it breaks: few where replies pass, any number
// where mails and files do.
func reach(r *rand.Rand, victim string, way stage.Way) int64 {
	size := r.Float64()
	switch {
	case way == stage.Back:
		return int64(1000 * size)
	case victim == toPostfix:
		return int64(math.Exp2(6 + 9*size)) // without its attachments a mail is small
	}
	return int64(math.Exp2(6 + 16*size))
}

// happen lets a fault happen, and then undoes it.
func (s *system) happen(ctx context.Context, f fault, l *load) {
	if f.victim == client {
		l.vanish(ctx, f)
		return
	}
	name := f.victim + " " + f.kind
	harm, ok := s.harms()[name]
	if !ok {
		s.spring(f)
		return
	}
	harm.do()
	s.count(name)
	stage.Sleep(ctx, f.lasts)
	if f.kind == frozen || s.Context().Err() == nil {
		harm.undo()
	}
}

// harm is a fault of a server.
type harm struct{ do, undo func() }

// harms returns the faults of the servers by victim and kind.
func (s *system) harms() map[string]harm {
	signal := func(sig syscall.Signal) func() { return func() { s.detach.Signal(s, sig) } }
	return map[string]harm{
		theDetach + " " + killed:   {func() { s.detach.Kill(s) }, s.startDetach},
		theDetach + " " + stopped:  {func() { s.detach.Terminate(s) }, s.startDetach},
		theDetach + " " + frozen:   {signal(syscall.SIGSTOP), signal(syscall.SIGCONT)},
		theKubo + " " + killed:     {s.kubo.Kill, s.kubo.Start},
		theKubo + " " + stopped:    {s.kubo.Stop, s.kubo.Start},
		theKubo + " " + frozen:     {s.kubo.Freeze, s.kubo.Thaw},
		thePostfix + " " + killed:  {s.postfix.Kill, s.postfix.Start},
		thePostfix + " " + stopped: {s.postfix.Stop, s.postfix.Start},
	}
}
