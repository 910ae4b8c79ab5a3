// Package memory keeps what all sessions and requests hold together within one budget:
//
//	The bytes taken from a Budget and not given back are never more than its size.
//
// A caller takes bytes in one of two ways, and may then ask to hold them:
//
//   - Acquire is for work that must go on. It waits, and may take all of the budget. The caller gives
//     the bytes back without waiting for a peer or for more memory, so every wait ends.
//   - TryAcquire is for what only makes work faster, such as reading ahead. It does not wait, and
//     leaves a quarter of the budget to Acquire.
//   - Hold is for acquired bytes that wait for a peer, for as long as the peer likes. Half of the
//     budget may be held. A caller that is refused moves its bytes to the disk ([Budget.Spill]).
package memory

import (
	"context"
	"fmt"
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
	held    int64     // of these
	waiting []*waiter // in the order in which they came
}

type waiter struct {
	n     int64
	ready chan struct{} // closed when n bytes are taken for it
}

// New returns a budget of size bytes. Spilled bytes go to a file in dir.
func New(size int64, dir string) *Budget { return &Budget{size: size, spill: spillFile{dir: dir}} }

// Used returns how many bytes are taken, and how many slots of the spill file.
func (b *Budget) Used() (bytes int64, slots int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.spill.inUse()
}

// Acquire takes n bytes, and waits until there are as many. Callers are served in the order in
// which they came. If ctx ends first, Acquire takes nothing and returns ctx's cause.
func (b *Budget) Acquire(ctx context.Context, n int64) error {
	if b == nil {
		return nil
	}
	if n > b.size {
		return fmt.Errorf("memory: %d bytes are more than the budget of %d", n, b.size)
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
	return nil // the bytes came at the same moment
}

// TryAcquire takes n bytes for what only makes work faster, and reports whether it did.
func (b *Budget) TryAcquire(n int64) bool { return b == nil || b.try(n, b.size/4*3) }

// try takes n bytes unless more than limit were then taken. It does not overtake those that wait.
func (b *Budget) try(n, limit int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) > 0 || b.used+n > limit {
		return false
	}
	b.used += n
	return true
}

// Hold reports whether n acquired bytes may be held for as long as a peer likes. If so, the caller
// calls Unhold before it releases them.
func (b *Budget) Hold(n int64) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held+n > b.size/2 {
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
	b.serve() // bytes may have been given back since
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
