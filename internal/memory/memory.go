// Package memory keeps what all sessions and requests hold together within one budget:
//
//	The bytes taken from a Budget and not given back are never more than its size.
//
// A caller takes bytes in one of three ways. Acquired bytes may then be held:
//
//   - Acquire is for work that must go on. It waits, and may take all of the budget. The caller
//     gives the bytes back without waiting for a peer or for more of this budget, so every wait
//     ends. Work that needs two kinds of memory, one after the other, has two budgets.
//   - TryAcquire is for work that can do without, like read-ahead. It does not wait, and leaves a
//     quarter of the budget to Acquire, so that bytes taken in this way may be kept for long. An
//     [Account] takes many small pieces in this way.
//   - Claim is for bytes that a peer takes at its own pace and that cannot be moved to the disk. It
//     does not wait, and leaves an eighth of the budget to Acquire.
//   - Hold is for acquired bytes that a peer takes at its own pace. Half of the budget may be held,
//     and nothing of the last quarter. A caller that is refused moves its bytes to the disk
//     ([Budget.Spill]), or gives them up and gets them again later.
package memory

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
)

// Budget is an amount of memory that its users share. It is safe for concurrent use. A nil *Budget
// has no limit.
type Budget struct {
	size  int64
	spill spillFile

	mu      sync.Mutex
	used    int64
	held    int64     // part of used
	waiting []*waiter // first come, first served
}

type waiter struct {
	n     int64
	ready chan struct{} // closed when n bytes are taken for it
}

// New returns a budget of size bytes. Spilled bytes go to a file in dir.
func New(size int64, dir string) *Budget { return &Budget{size: size, spill: spillFile{dir: dir}} }

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

// Used returns how many bytes are taken, and how many slots of the spill file.
func (b *Budget) Used() (bytes int64, slots int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.spill.inUse()
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
	if b.try(n, b.size) {
		return nil
	}
	w := b.enqueue(n)
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	if b.dequeue(w) {
		return context.Cause(ctx)
	}
	return nil // serve took the bytes in the meantime
}

// TryAcquire takes n bytes without waiting, for work that can do without them. It reports whether
// it took them.
func (b *Budget) TryAcquire(n int64) bool { return b == nil || b.try(n, b.size-b.Urgent()) }

// Claim takes n bytes without waiting, for as long as a peer needs. It reports whether it took
// them. If not, the caller refuses the peer, which may come again.
func (b *Budget) Claim(n int64) bool { return b == nil || b.try(n, b.size/8*7) }

// try takes n bytes if then at most limit bytes are taken and no caller of Acquire waits.
func (b *Budget) try(n, limit int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) > 0 || b.used+n > limit {
		return false
	}
	b.used += n
	return true
}

// Hold reports whether the caller may keep n acquired bytes until a peer has taken them. If so, the
// caller must call Unhold before Release. If read-ahead has taken the memory, less may be held: all
// that slow peers keep together leaves a quarter of the budget to Acquire, except for claims.
func (b *Budget) Hold(n int64) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held+n > b.size/2 || b.used > b.size-b.Urgent() {
		return false
	}
	b.held += n
	return true
}

// Unhold ends Hold.
func (b *Budget) Unhold(n int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= n
}

func (b *Budget) enqueue(n int64) *waiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &waiter{n, make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.serve() // bytes may have been released since try
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
	for len(b.waiting) > 0 && b.used+b.waiting[0].n <= b.size {
		b.used += b.waiting[0].n
		close(b.waiting[0].ready)
		b.waiting = slices.Delete(b.waiting, 0, 1)
	}
}
