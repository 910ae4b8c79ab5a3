package spool

import (
	"bytes"
	"io"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// Truncate gives back the memory of an attachment that proved large enough to be detached, because
// such an attachment may take hours to arrive.
func TestSpoolGivesMemoryBack(t *testing.T) {
	faults.Covers(t, 101)
	for _, kept := range []int{0, 1, 1000, maxMemory / 2, maxMemory, maxMemory + 1000} {
		for _, taken := range []int{1, 100 << 10, maxMemory, 3 * maxMemory} {
			s := New(NewSpace(t.TempDir(), nil, 1<<40))
			want := append(bytes.Repeat([]byte("k"), kept), "the end"...)
			s.Write(want[:kept])
			s.Write(make([]byte, taken))
			must.Succeed(t, s.Truncate(int64(kept)))
			if idle := cap(s.mem) + cap(s.tail); idle > 4*kept+64 {
				t.Errorf("%d bytes kept, %d taken back: %d bytes of memory", kept, taken, idle)
			}
			s.Write(want[kept:])
			if got, err := io.ReadAll(s.Section(0, s.Size())); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes kept, %d taken back: read %d bytes, %v", kept, taken, len(got), err)
			}
			must.Succeed(t, s.Close())
		}
	}
}
