package load

import (
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// moreMemory is for garbage that is not yet collected: 60 to 200 MiB, by how busy the machine is. A
// file in memory would take 1,536 MiB more.
const moreMemory = 512 << 20

// A browser decrypts 2 GiB and a byte in little more memory than 512 MiB, so no file stays in
// memory.
func TestBrowserDecryptsTwoGigabytesInLittleMemory(t *testing.T) {
	d := stage.Serve(t, stage.Setup{Policy: "min_size = \"1\"\nrestore = false"})
	sizes := []int64{512 << 20, 2*gigabyte + 1} // the first lasts for some samples on a fast machine too
	var want []string
	var visits []map[string]string
	for _, size := range sizes {
		l, sum := d.PutBig(t, size)
		want = append(want, sum)
		visits = append(visits, map[string]string{"link": l.URL})
	}
	var saw []struct {
		Says, SHA256, Error string
		Size, Before, Peak  int64
		Samples             int
		Seconds             float64
		Complaints          []string
	}
	stage.Node(t, "memory.mjs", visits, &saw)
	for i, s := range saw {
		if s.Error != "" || len(s.Complaints) > 0 || !strings.Contains(s.Says, "Every part of the file was checked") {
			t.Fatalf("in the browser: %s, complaints %q, the page says %q", s.Error, s.Complaints, s.Says)
		}
		if s.Size != sizes[i] || s.SHA256 != want[i] {
			t.Errorf("saved %d bytes with SHA-256 %s, want %d with %s", s.Size, s.SHA256, sizes[i], want[i])
		}
		t.Logf("%d MiB decrypted in %.1f s: the browser had %d MiB before and at most %d MiB, in %d samples", s.Size>>20, s.Seconds, s.Before>>20, s.Peak>>20, s.Samples)
		if s.Before == 0 || s.Samples < 5 || s.Peak-saw[0].Peak > moreMemory {
			t.Errorf("%d MiB took up to %d MiB of memory in %d samples, %d MiB took %d", s.Size>>20, s.Peak>>20, s.Samples, saw[0].Size>>20, saw[0].Peak>>20)
		}
	}
}
