// Package memory keeps what all sessions and requests hold together within one budget:
//
//	The bytes taken from a Budget and not given back are never more than its size.
//
// A caller takes bytes in one of three ways:
//
//   - Acquire is for work that must go on. It waits, and may take all of the budget. The caller
//     gives the bytes back, or lends them, without waiting for a peer or for more of this budget,
//     so every wait ends. Work that needs two kinds of memory, one after the other, has two
//     budgets.
//   - TryAcquire is for work that can do without, like read-ahead. It does not wait, and leaves a
//     quarter of the budget to Acquire, so that bytes taken in this way may be kept for long. An
//     [Account] takes many small pieces in this way.
//   - Claim is for bytes that a peer takes at its own pace and that cannot be read again. It does
//     not wait, and leaves an eighth of the budget to Acquire.
//
// A caller that waits for a peer lends its acquired bytes ([Budget.Lend]). All three ways may take
// lent bytes, those that were lent first before the others: so a slow peer costs memory only while
// nobody else needs it.
package memory

import (
	"container/list"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// minLoan is how long Acquire leaves a loan alone: a fast peer is back sooner. Otherwise many fast
// peers together would take each other's memory all the time.
const minLoan = 20 * time.Millisecond

// Budget is an amount of memory that its users share. It is safe for concurrent use. A nil *Budget
// has no limit.
type Budget struct {
	size int64

	mu      sync.Mutex
	used    int64
	lent    int64     // part of used
	loans   list.List // of *Loan, the oldest first
	waiting []*waiter // first come, first served
}

type waiter struct {
	n     int64
	ready chan struct{} // closed when n bytes are taken for it
}

// New returns a budget of size bytes.
func New(size int64) *Budget { return &Budget{size: size} }

// Size returns the bytes of the whole budget.
func (b *Budget) Size() int64 {
	if b == nil {
		return math.MaxInt64
	}
	return b.size
}

// Urgent returns how many bytes TryAcquire leaves to Acquire. If nobody claims bytes of the budget,
// a caller of Acquire that wants no more waits only for other callers of Acquire.
func (b *Budget) Urgent() int64 {
	if b == nil {
		return math.MaxInt64
	}
	return b.size - b.size/4*3
}

// Used returns how many bytes are taken, lent bytes included.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Acquire takes n bytes, and waits until n bytes are free. It serves callers in the order of their
// calls. If ctx ends first, Acquire takes nothing and returns ctx's cause.
func (b *Budget) Acquire(ctx context.Context, n int64) error {
	if b == nil {
		return nil
	}
	if n > b.size {
		return fmt.Errorf("memory: %d bytes are more than the whole budget of %d", n, b.size)
	}
	w := b.enqueue(n)
	for {
		select {
		case <-w.ready:
			return nil
		case <-ctx.Done():
			if b.dequeue(w) {
				return context.Cause(ctx)
			}
			return nil // serve took the bytes in the meantime
		case <-time.After(minLoan): // a loan may be old enough now
			b.retry()
		}
	}
}

func (b *Budget) retry() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serve()
}

// TryAcquire takes n bytes without waiting, for work that can do without them. It reports whether
// it took them.
func (b *Budget) TryAcquire(n int64) bool { return b == nil || b.try(n, b.size-b.Urgent()) }

// Claim takes n bytes without waiting, for as long as a peer needs. It reports whether it took
// them. If not, the caller refuses the peer, which may come again.
func (b *Budget) Claim(n int64) bool { return b == nil || b.try(n, b.size/8*7) }

// try takes n bytes if then at most limit bytes are taken and not lent, and no caller of Acquire
// waits.
func (b *Budget) try(n, limit int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) > 0 || b.used-b.lent+n > limit {
		return false
	}
	b.take(n)
	return true
}

// take takes n bytes, which are free or lent.
func (b *Budget) take(n int64) {
	for b.used+n > b.size {
		l := b.loans.Front().Value.(*Loan)
		l.end()
		b.used -= l.n
		l.drop()
	}
	b.used += n
}

// Loan is acquired memory that is lent: see [Budget.Lend].
type Loan struct {
	budget *Budget
	n      int64
	drop   func()
	since  time.Time
	place  *list.Element // in budget.loans; nil if the loan has ended
}

// Lend offers n acquired bytes to other callers until Recall. If one of them takes the bytes, the
// budget calls drop, and the lender must not release them any more. drop must be quick, and must
// not use the budget. The lender must not use the memory before Recall.
func (b *Budget) Lend(n int64, drop func()) *Loan {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &Loan{budget: b, n: n, drop: drop, since: time.Now()}
	l.place = b.loans.PushBack(l)
	b.lent += n
	b.serve()
	return l
}

// Recall ends the loan. It reports whether the bytes are the caller's again; if not, drop has
// returned. A nil Loan is that of a budget without a limit.
func (l *Loan) Recall() bool {
	if l == nil {
		return true
	}
	l.budget.mu.Lock()
	defer l.budget.mu.Unlock()
	if l.place == nil {
		return false
	}
	l.end()
	return true
}

func (l *Loan) end() {
	l.budget.loans.Remove(l.place)
	l.place = nil
	l.budget.lent -= l.n
}

func (b *Budget) enqueue(n int64) *waiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &waiter{n, make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.serve()
	return w
}

// dequeue reports whether w was still waiting.
func (b *Budget) dequeue(w *waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, w)
	if i < 0 {
		return false
	}
	b.waiting = slices.Delete(b.waiting, i, i+1)
	b.serve() // the next in line may want less
	return true
}

// Release gives n bytes back, however they were taken.
func (b *Budget) Release(n int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used -= n; b.used < 0 {
		panic("memory: more released than taken")
	}
	b.serve()
}

func (b *Budget) serve() {
	for len(b.waiting) > 0 && b.free() >= b.waiting[0].n {
		b.take(b.waiting[0].n)
		close(b.waiting[0].ready)
		b.waiting = slices.Delete(b.waiting, 0, 1)
	}
}

// free returns how many bytes serve may take: those that are not taken, and old loans.
func (b *Budget) free() int64 {
	free := b.size - b.used
	for e := b.loans.Front(); e != nil && time.Since(e.Value.(*Loan).since) >= minLoan; e = e.Next() {
		free += e.Value.(*Loan).n
	}
	return free
}
