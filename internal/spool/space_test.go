package spool

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// noise returns n bytes of which no two pieces are alike.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * i >> 7)
	}
	return b
}

// fill writes what s lacks of b, in pieces of uneven sizes, and compares what can be read back.
func fill(t *testing.T, s *Spool, b []byte) {
	t.Helper()
	for i, rest := 0, b[s.Size():]; len(rest) > 0; i++ {
		n := min(len(rest), 1+i*1777%(48<<10))
		if _, err := s.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if got, err := io.ReadAll(s.Section(0, s.Size())); err != nil || !bytes.Equal(got, b) {
		t.Errorf("read %d bytes of %d, %v", len(got), len(b), err)
	}
}

func wantTaken(t *testing.T, space *Space, memory, disk int64) {
	t.Helper()
	if got := space.memory.Used(); got != memory || space.Disk() != disk {
		t.Errorf("%d bytes of memory and %d of disk are taken, want %d and %d", got, space.Disk(), memory, disk)
	}
}

// A spool that gets no memory keeps the same bytes, in its file.
func TestSpoolWithoutMemoryUsesItsFile(t *testing.T) {
	for _, budget := range []int64{0, 1, 2 * startMemory, 4 * fileBuffer, maxMemory, 2 * maxMemory} {
		space := NewSpace(t.TempDir(), memory.New(budget), 1<<30)
		for _, size := range []int{0, 1, startMemory - 1, startMemory, startMemory + 1, 100_000, maxMemory + 1, 3 << 20} {
			s := New(space)
			b := noise(size)
			fill(t, s, b)
			if used := space.memory.Used(); used > budget || int64(cap(s.mem)+cap(s.tail)) > used {
				t.Errorf("budget %d: %d bytes taken, %d in memory", budget, used, cap(s.mem)+cap(s.tail))
			}
			must.Succeed(t, s.Truncate(int64(size/2)))
			fill(t, s, b)
			must.Succeed(t, s.Close())
			wantTaken(t, space, 0, 0)
		}
	}
}

// A large file leaves disk space for the small files of other mails.
func TestDiskSpaceIsBounded(t *testing.T) {
	const size = 16 << 20
	space := NewSpace(t.TempDir(), memory.New(0), size)
	large := New(space)
	defer large.Close()
	var err error
	for err == nil {
		_, err = large.Write(make([]byte, 100_000))
	}
	if !errors.Is(err, ErrFull) || space.Disk() > size/4*3 {
		t.Errorf("%v after %d bytes, want ErrFull at three quarters of %d", err, space.Disk(), size)
	}
	small := New(space)
	fill(t, small, noise(smallFile))
	other := New(space)
	if _, err := other.Write(make([]byte, 1)); !errors.Is(err, ErrFull) || space.Disk() > size {
		t.Errorf("%v with %d bytes of %d, want ErrFull", err, space.Disk(), size)
	}
	must.Succeed(t, errors.Join(other.Close(), small.Close(), large.Close()))
	wantTaken(t, space, 0, 0)
}

// The file system may have less room than the space.
func TestLargeFileMustBeAdmitted(t *testing.T) {
	full := errors.New("store.min_free")
	space := NewSpace(t.TempDir(), nil, 1<<30)
	space.Admit = func(n int64) error { return full }
	s := New(space)
	defer s.Close()
	fill(t, s, noise(maxMemory+smallFile-diskStep))
	_, err := io.Copy(s, bytes.NewReader(make([]byte, 2*diskStep)))
	if !errors.Is(err, ErrFull) || !errors.Is(err, full) || space.Disk() > smallFile {
		t.Errorf("%v with %d bytes of disk, want %v", err, space.Disk(), full)
	}
}

// Two processes may clean at once, and files in use have no names.
func TestCleanLeavesFilesInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tmp")
	must.Succeed(t, Clean(dir))
	space := NewSpace(dir, memory.New(0), 1<<30)
	s := New(space)
	defer s.Close()
	b := noise(100_000)
	fill(t, s, b)
	must.Succeed(t, os.WriteFile(filepath.Join(dir, "detach-spool-1"), []byte("left"), 0o600))
	must.Succeed(t, Clean(dir))
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
	if got, err := io.ReadAll(s.Section(0, s.Size())); err != nil || !bytes.Equal(got, b) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
