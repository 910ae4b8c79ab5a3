package check

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/freespace"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// Temporary files on a tmpfs take memory that no budget counts.
func TestTemporaryFilesInMemoryAreAFailure(t *testing.T) {
	const shm = "/dev/shm" // a tmpfs (POSIX shared memory in glibc)
	if runtime.GOOS != "linux" || !freespace.InMemory(shm) {
		t.Skip("no tmpfs here")
	}
	memory, err := os.MkdirTemp(shm, "detach-test-*")
	must.Succeed(t, err)
	defer os.RemoveAll(memory)
	for dir, want := range map[string]Level{memory: Fail, "/proc/self": OK} {
		var found []Finding
		c := checker{ctx: t.Context(), report: func(f Finding) { found = append(found, f) }}
		c.temporary(dir)
		if want == OK && len(found) > 0 || want == Fail && (len(found) != 1 || found[0].Level != Fail ||
			!strings.Contains(found[0].Text, filepath.Join(dir, "tmp")) || !strings.Contains(found[0].Text, "disk")) {
			t.Errorf("%s: %v", dir, found)
		}
	}
}
