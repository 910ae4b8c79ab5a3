package memory

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func wantUsed(t *testing.T, b *Budget, bytes int64, slots int) {
	t.Helper()
	if gotBytes, gotSlots := b.Used(); gotBytes != bytes || gotSlots != slots {
		t.Errorf("%d bytes and %d slots are used, want %d and %d", gotBytes, gotSlots, bytes, slots)
	}
}

// Held bytes and read-ahead leave memory for work that must go on.
func TestEachUseLeavesRoomForTheMoreUrgent(t *testing.T) {
	b := New(8, "")
	if !b.TryAcquire(6) || b.TryAcquire(1) {
		t.Error("TryAcquire does not end at three quarters")
	}
	if !b.Hold(4) || b.Hold(1) {
		t.Error("Hold does not end at a half")
	}
	for range 2 {
		must.Succeed(t, b.Acquire(t.Context(), 1))
	}
	wantUsed(t, b, 8, 0)
	b.Unhold(2)
	if !b.Hold(2) {
		t.Error("Unhold did not give the bytes back")
	}
	if err := b.Acquire(t.Context(), 9); err == nil {
		t.Error("Acquire took more bytes than the budget has")
	}
}

func TestWaitersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(4, "")
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
		wantUsed(t, b, 4, 0)
	})
}

func TestWaitEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(4, "")
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
		wantUsed(t, b, 3, 0)
	})
}

func TestSpilledBytesComeBack(t *testing.T) {
	dir := t.TempDir()
	b := New(1, dir)
	var slots []*Slot
	for i := range 3 {
		want := bytes.Repeat([]byte{byte(i)}, 1000-i)
		s, err := b.Spill(want)
		must.Succeed(t, err)
		if err := iotest.TestReader(io.NewSectionReader(s, 0, int64(len(want))), want); err != nil {
			t.Error(err)
		}
		if slots = append(slots, s); i == 1 { // the next one gets the same place in the file
			s.Free()
		}
	}
	wantUsed(t, b, 0, 2)
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("the spill file has a name: %v, %v", names, err)
	}
	if b.spill.size != 2 {
		t.Errorf("the file has %d slots, want 2", b.spill.size)
	}
	slots[0].Free()
	slots[2].Free()
	wantUsed(t, b, 0, 0)
	if b.spill.file != nil {
		t.Error("the spill file outlives its slots")
	}
}

func TestSpillNeedsItsDirectory(t *testing.T) {
	b := New(1, filepath.Join(t.TempDir(), "gone"))
	if _, err := b.Spill([]byte("x")); err == nil {
		t.Error("no error without the directory")
	}
	if _, err := New(1, t.TempDir()).Spill(make([]byte, SlotSize+1)); err == nil {
		t.Error("a slot takes more than its size")
	}
	wantUsed(t, b, 0, 0)
}

func TestNoBudgetIsNoLimit(t *testing.T) {
	var b *Budget
	if !b.Hold(1<<40) || !b.TryAcquire(1<<40) || b.Acquire(t.Context(), 1<<40) != nil {
		t.Error("there is a limit")
	}
	b.Unhold(1 << 40)
	b.Release(2 << 40)
}
