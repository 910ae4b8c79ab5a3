package memory

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func wantUsed(t *testing.T, b *Budget, want int64) {
	t.Helper()
	if got := b.Used(); got != want {
		t.Errorf("%d bytes are used, want %d", got, want)
	}
}

// lender lends bytes, and knows which of them were taken.
type lender struct {
	b     *Budget
	taken []int // numbers of the loans
}

func (l *lender) lend(i int) *Loan { return l.b.Lend(1, func() { l.taken = append(l.taken, i) }) }

// all acquires and lends as many bytes as there are.
func (l *lender) all(t *testing.T) (loans []*Loan) {
	for i := range int(l.b.Size()) {
		must.Succeed(t, l.b.Acquire(t.Context(), 1))
		loans = append(loans, l.lend(i))
	}
	return loans
}

func TestEachUseLeavesMemoryForTheMoreUrgent(t *testing.T) {
	b := New(8)
	if !b.TryAcquire(6) || b.TryAcquire(1) {
		t.Error("TryAcquire does not end at three quarters")
	}
	if !b.Claim(1) || b.Claim(1) {
		t.Error("Claim does not end at seven eighths")
	}
	must.Succeed(t, b.Acquire(t.Context(), 1))
	wantUsed(t, b, 8)
	if err := b.Acquire(t.Context(), 9); err == nil {
		t.Error("Acquire took more bytes than the budget has")
	}
}

// Every use takes what is lent, but no more of the budget than otherwise.
func TestLentMemoryIsTaken(t *testing.T) {
	for name, use := range map[string]struct {
		take func(b *Budget) bool
		most int
	}{
		"TryAcquire": {func(b *Budget) bool { return b.TryAcquire(1) }, 6},
		"Claim":      {func(b *Budget) bool { return b.Claim(1) }, 7},
	} {
		l := lender{b: New(8)}
		l.all(t)
		n := 0
		for use.take(l.b) {
			n++
		}
		if n != use.most || len(l.taken) != n {
			t.Errorf("%s took %d bytes and %d loans, want %d", name, n, len(l.taken), use.most)
		}
		wantUsed(t, l.b, 8)
	}
}

// The newest loan is taken last, and a recalled one is not taken.
func TestOldestLoanIsTakenFirst(t *testing.T) { synctest.Test(t, oldestLoanIsTakenFirst) }

func oldestLoanIsTakenFirst(t *testing.T) {
	l := lender{b: New(4)}
	loans := l.all(t)
	if !loans[0].Recall() || !loans[2].Recall() {
		t.Fatal("the bytes are gone")
	}
	loans[0] = l.lend(0) // used again
	for range 2 {
		must.Succeed(t, l.b.Acquire(t.Context(), 1))
	}
	if want := []int{1, 3}; !slices.Equal(l.taken, want) {
		t.Errorf("loans %d were taken, want %d", l.taken, want)
	}
	if loans[1].Recall() || !loans[0].Recall() || loans[0].Recall() {
		t.Error("Recall does not say what was taken")
	}
	if l.b.TryAcquire(1) {
		t.Error("recalled bytes were taken")
	}
	l.b.Release(4)
	wantUsed(t, l.b, 0)
}

// A caller that waits gets the bytes when their lender is not back in time.
func TestWaiterGetsWhatIsLent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lender{b: New(1)}
		must.Succeed(t, l.b.Acquire(t.Context(), 1))
		got := make(chan error, 1)
		go func() { got <- l.b.Acquire(t.Context(), 1) }()
		synctest.Wait()
		for range 3 {
			loan := l.lend(0)
			time.Sleep(minLoan / 2)
			if !loan.Recall() {
				t.Fatal("the bytes of a fast peer were taken")
			}
		}
		loan := l.lend(0)
		time.Sleep(2 * minLoan)
		if loan.Recall() || len(l.taken) != 1 {
			t.Error("the bytes were not taken")
		}
		must.Succeed(t, <-got)
		wantUsed(t, l.b, 1)
	})
}

func TestWaitersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(4)
		must.Succeed(t, b.Acquire(t.Context(), 4))
		order := make(chan int, 2)
		for i, n := range []int64{3, 1} {
			go func() {
				if err := b.Acquire(t.Context(), n); err != nil {
					t.Error(err)
				}
				order <- i
			}()
			synctest.Wait()
		}
		b.Release(1)
		synctest.Wait()
		if len(order) != 0 || b.TryAcquire(1) {
			t.Error("the first waiter was overtaken")
		}
		b.Release(3)
		synctest.Wait()
		if len(order) != 2 {
			t.Errorf("%d of 2 waiters were served", len(order))
		}
		wantUsed(t, b, 4)
	})
}

func TestWaitEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(4)
		if !b.TryAcquire(2) {
			t.Fatal("nothing to take")
		}
		gone := errors.New("client gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		behind := make(chan error, 1)
		go func() {
			time.Sleep(time.Millisecond)
			behind <- b.Acquire(t.Context(), 1) // there is a byte: this waits for the waiter before it
		}()
		if err := b.Acquire(ctx, 4); err != gone {
			t.Errorf("got %v, want %v", err, gone)
		}
		must.Succeed(t, <-behind)
		wantUsed(t, b, 3)
	})
}

// All that slow peers keep leaves a quarter of the budget to callers of Acquire.
func TestSlowPeersKeepNobodyWaiting(t *testing.T) { synctest.Test(t, slowPeersKeepNobodyWaiting) }

func slowPeersKeepNobodyWaiting(t *testing.T) {
	l := lender{b: New(64)}
	l.all(t)
	for l.b.TryAcquire(1) {
	}
	for l.b.Claim(1) {
	}
	must.Succeed(t, l.b.Acquire(t.Context(), 8))
}

func TestNoBudgetIsNoLimit(t *testing.T) {
	var b *Budget
	if !b.TryAcquire(1<<40) || !b.Claim(1<<40) || b.Acquire(t.Context(), 1<<40) != nil {
		t.Error("there is a limit")
	}
	if !b.Lend(1<<40, nil).Recall() {
		t.Error("the bytes were taken")
	}
	b.Release(3 << 40)
}
