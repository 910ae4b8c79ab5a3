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
	if b.Hold(1) {
		t.Error("Hold takes of the last quarter")
	}
	b.Release(2)
	if !b.Hold(2) {
		t.Error("Unhold did not give the bytes back")
	}
	if !b.Claim(1) || b.Claim(1) {
		t.Error("Claim does not end at seven eighths")
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

// The spill file is bounded, and a freed slot can be taken again.
func TestSpillFileIsBounded(t *testing.T) {
	b := New(1, t.TempDir())
	var slots []*Slot
	for range MaxSlots {
		s, err := b.Spill([]byte("x"))
		must.Succeed(t, err)
		slots = append(slots, s)
	}
	if _, err := b.Spill([]byte("x")); err != ErrFull {
		t.Errorf("got %v, want %v", err, ErrFull)
	}
	slots[7].Free()
	last, err := b.Spill([]byte("y"))
	must.Succeed(t, err)
	if _, err := b.Spill([]byte("x")); err != ErrFull || b.spill.size != MaxSlots {
		t.Errorf("got %v and %d slots", err, b.spill.size)
	}
	for _, s := range append(slots[:7], append(slots[8:], last)...) {
		s.Free()
	}
	wantUsed(t, b, 0, 0)
}

// A quarter of the budget goes round among callers of Acquire, and claims find an eighth, in every
// order in which slow peers take the rest.
func TestSlowPeersKeepNobodyWaiting(t *testing.T) {
	for name, kept := range map[string][]func(*Budget) bool{
		"read-ahead first": {func(b *Budget) bool { return b.TryAcquire(1) }, hold},
		"held first":       {hold, func(b *Budget) bool { return b.TryAcquire(1) }},
	} {
		b := New(64, "")
		for _, keep := range kept {
			for range 100 {
				keep(b)
			}
		}
		if bytes, _ := b.Used(); bytes != 48 {
			t.Errorf("%s: %d of 64 bytes are kept, want 48", name, bytes)
		}
		claimed := 0
		for b.Claim(1) {
			claimed++
		}
		must.Succeed(t, b.Acquire(t.Context(), 8))
		if claimed != 8 {
			t.Errorf("%s: %d bytes could be claimed, want 8", name, claimed)
		}
	}
}

// hold acquires a byte and keeps it if it may.
func hold(b *Budget) bool {
	if !b.try(1, b.size) {
		return false
	}
	if b.Hold(1) {
		return true
	}
	b.Release(1)
	return false
}

func TestNoBudgetIsNoLimit(t *testing.T) {
	var b *Budget
	if !b.Hold(1<<40) || !b.TryAcquire(1<<40) || !b.Claim(1<<40) || b.Acquire(t.Context(), 1<<40) != nil {
		t.Error("there is a limit")
	}
	b.Unhold(1 << 40)
	b.Release(3 << 40)
}
