package load

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

const (
	gigabyte    = 1 << 30
	memoryLimit = 64 << 20
)

// peak is a program that runs a command and reports the most memory it ever had. This process could
// not do that: Linux also counts the parent's memory at the fork, and whole mails are in it.
const peak = `import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)`

// filter runs detach filter on a mail, and checks that it had little memory.
func filter(t *testing.T, d *stage.Detach, mail io.Reader) []byte {
	t.Helper()
	servers.Need(t, "python3")
	report := filepath.Join(t.TempDir(), "peak")
	out := d.Pipe(t, "filter", mail, "python3", "-c", peak, report)
	kib, err := strconv.ParseInt(stage.ReadFile(t, report), 10, 64)
	stage.Must(t, err)
	t.Logf("filter had at most %d MiB", kib>>10)
	if kib<<10 >= memoryLimit {
		t.Errorf("filter had %d MiB, want less than %d", kib>>10, memoryLimit>>20)
	}
	return out
}

func TestFilterOfAGigabyteInLittleMemory(t *testing.T) {
	out := filter(t, stage.Configure(t, stage.Setup{}), stage.NewBigMail(gigabyte))
	stage.StartDecoder(t).Parse(t, out).Link(t)
}

// After 50 MB the base64 goes wrong. The stored part is read back in little memory, and deleted.
func TestBase64GoesWrongAfterFiftyMegabytes(t *testing.T) {
	good := stage.Base64Lines(stage.Noise(61, 50<<20))
	mail := strings.Replace(stage.TextAndPDF, stage.Base64Lines(stage.Report.Content), good+"?!\r\n"+good[:1<<20], 1)
	stage.OnEachStore(t, func(t *testing.T, s stage.Store) {
		d := stage.Configure(t, stage.Setup{Kubo: s.API()})
		pins := s.Pins()
		if out := filter(t, d, strings.NewReader(mail)); string(out) != mail {
			t.Errorf("%d bytes came out, want the %d that came in", len(out), len(mail))
		}
		if left := d.Objects(t); len(left) > 0 {
			t.Errorf("left in the store: %q", left)
		}
		if !slices.Equal(s.Pins(), pins) {
			t.Errorf("pinned: %q, want %q", s.Pins(), pins)
		}
		if left, err := os.ReadDir(filepath.Join(d.DataDir, "tmp")); err != nil || len(left) > 0 {
			t.Errorf("left in tmp: %v, %v", left, err)
		}
	})
}

func TestServeOfAGigabyteInLittleMemory(t *testing.T) {
	stage.OnEachStore(t, func(t *testing.T, s stage.Store) {
		python := stage.StartDecoder(t)
		d := stage.Serve(t, stage.Setup{Kubo: s.API(), Policy: `max_size = "4GiB"`})
		mail := stage.NewBigMail(gigabyte)
		began := time.Now()
		if reply := servers.Send(t, d.Proxy, "", stage.Stream(mail)); !strings.HasPrefix(reply, "250 ") {
			t.Fatalf("1 GiB got %q", reply)
		}
		took := time.Since(began)
		l := python.Parse(t, d.Box.Mails()[0].Data).Link(t)
		began = time.Now()
		if got := stage.FileHash(t, l); got != mail.SHA256() {
			t.Errorf("downloaded SHA-256 %s, want %s", got, mail.SHA256())
		}
		most := d.PeakMemory(t)
		t.Logf("serve: 1 GiB in %.1f s, out in %.1f s, at most %d MiB", took.Seconds(), time.Since(began).Seconds(), most>>20)
		if most >= memoryLimit {
			t.Errorf("serve had %d MiB, want less than %d", most>>20, memoryLimit>>20)
		}
	})
}
