package spool

import (
	"bytes"
	"io"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// What an attachment took of the spool until it was large enough to be detached is given back, for it may take hours to arrive.
func TestSpoolGivesMemoryBack(t *testing.T) {
	faults.Covers(t, 101)
	for _, kept := range []int{0, 1, 1000, spoolMemory / 2, spoolMemory, spoolMemory + 1000} {
		for _, taken := range []int{1, 100 << 10, spoolMemory, 3 * spoolMemory} {
			s := New(t.TempDir())
			want := append(bytes.Repeat([]byte("k"), kept), "the end"...)
			s.Write(want[:kept])
			s.Write(make([]byte, taken))
			if err := s.Truncate(int64(kept)); err != nil {
				t.Fatal(err)
			}
			if idle := cap(s.mem) + cap(s.tail); idle > 4*kept+64 {
				t.Errorf("%d bytes kept, %d taken back: %d bytes of memory", kept, taken, idle)
			}
			s.Write(want[kept:])
			if got, err := io.ReadAll(s.Section(0, s.Size())); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes kept, %d taken back: read %d bytes, %v", kept, taken, len(got), err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
