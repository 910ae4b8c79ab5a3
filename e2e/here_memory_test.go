package e2e

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// moreMemory is what garbage collected a little later may take. A file that stayed would take two thousand MiB.
const moreMemory = 128 << 20

// A browser decrypts 2 GiB, and a byte, in the memory that 200 MiB take: nothing of a file stays in it.
func TestDecryptTwoGigabytesInBrowser(t *testing.T) {
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, policy: "min_size = \"1\"\nrestore = false"})
	python := startDecoder(t)
	sizes := []int64{200 << 20, 2*gigabyte + 1}
	var want []string
	var visits []map[string]string
	for _, size := range sizes {
		mail := newBigMail(size)
		cmd := exec.Command(binary, "filter", "--config", d.config)
		cmd.Stdin = mail
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		began := time.Now()
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("detach filter: %v\n%s", err, lastLines(stderr.String(), 10))
		}
		keepLog("detach", stderr.String())
		t.Logf("%d MiB stored in %.1f s", size>>20, time.Since(began).Seconds())
		links := python.parse(t, out).links()
		if len(links) != 1 {
			t.Fatalf("%d links, want 1", len(links))
		}
		want = append(want, mail.sha256())
		visits = append(visits, map[string]string{"link": links[0].url})
	}
	var saw []struct {
		Says, SHA256, Error string
		Size, Before, Peak  int64
		Samples             int
		Seconds             float64
		Complaints          []string
	}
	node(t, "memory.mjs", visits, &saw)
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
