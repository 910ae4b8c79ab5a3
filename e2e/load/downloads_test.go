package load

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

const (
	downloads      = 500
	downloadMemory = 256 << 20
)

// Five hundred clients begin to download 10 MB and then hardly read, so the gateway holds for each
// as much as it ever holds for a slow client. Meanwhile another client downloads 5 GB without
// waiting for them. Then all go on, and get their files.
func TestFiveHundredDownloads(t *testing.T) {
	stage.OnEachStore(t, func(t *testing.T, s stage.Store) {
		d := stage.Serve(t, stage.Setup{Kubo: s.API(), Policy: `restore = false`})
		var files []stage.Attachment
		for i := range 20 {
			files = append(files, stage.FileOf(fmt.Sprintf("file %d.bin", i), stage.Noise(uint64(500+i), 10<<20)))
		}
		links := d.Put(t, files...)
		size := int64(5 << 30)
		if s.Kubo != nil {
			size = 1 << 30 // which takes twice the space on the test's disk
		}
		big, bigSum := d.PutBig(t, size)

		var begun, all sync.WaitGroup
		goOn := make(chan struct{})
		begun.Add(downloads)
		for i := range downloads {
			all.Go(func() {
				first := sync.OnceFunc(begun.Done)
				defer first()
				sum := sha256.New()
				if err := links[i%len(links)].DownloadBy(t.Context(), slowClient(t), &hesitant{Writer: sum, first: first, goOn: goOn}); err != nil {
					t.Errorf("download %d: %v", i, err)
				} else if got := hex.EncodeToString(sum.Sum(nil)); got != files[i%len(files)].SHA256() {
					t.Errorf("download %d has another SHA-256", i)
				}
			})
		}
		begun.Wait()
		open := d.PeakMemory(t)
		began := time.Now()
		if got := stage.FileHash(t, big); got != bigSum {
			t.Errorf("the 5 GB have SHA-256 %s, want %s", got, bigSum)
		}
		took := time.Since(began)
		close(goOn)
		all.Wait()
		most := d.PeakMemory(t)
		t.Logf("%d downloads of 10 MiB begun: at most %d MiB; %d GiB beside them at %.0f MB/s; in all at most %d MiB", downloads, open>>20, size>>30, float64(size)/1e6/took.Seconds(), most>>20)
		if most >= downloadMemory {
			t.Errorf("serve had %d MiB, want less than %d", most>>20, downloadMemory>>20)
		}
	})
}

// slowClient has a small receive buffer, and segments of the Internet's size: a segment of
// loopback's size would fill the buffer.
func slowClient(t *testing.T) *http.Client {
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) {
			err = errors.Join(syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400),
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10))
		})
		return errors.Join(err, controlErr)
	}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: stage.NoRedirects.CheckRedirect}
}

// hesitant reads 6 KB a second until it may go on.
type hesitant struct {
	io.Writer
	first func()
	goOn  chan struct{}
	taken int
}

func (h *hesitant) Write(p []byte) (int, error) {
	h.first()
	if h.taken += len(p); h.taken >= 32<<10 {
		h.taken = 0
		select {
		case <-h.goOn:
		case <-time.After(5 * time.Second):
		}
	}
	return h.Writer.Write(p)
}

// soon is less than any timeout, and long enough to notice on a busy machine that a client has
// left.
const soon = 20 * time.Second

// The store is no longer read for a client that leaves in the middle of a download.
func TestCancelledDownloadsStopReading(t *testing.T) {
	faults.Covers(t, 89)
	const clients = 20
	stage.OnEachStore(t, func(t *testing.T, s stage.Store) {
		d := stage.Serve(t, stage.Setup{Kubo: s.API(), Policy: `restore = false`})
		l, _ := d.PutBig(t, 200<<20)
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				if err := l.DownloadBy(t.Context(), slowClient(t), &cancelling{left: 3 << 20}); !errors.Is(err, errEnough) {
					t.Errorf("got %v, want %v", err, errEnough)
				}
			})
		}
		all.Wait() // every connection is closed
		left := time.Now()
		before := reads(t, d)
		servers.Eventually(t, servers.Patience, "detach to be idle", func() bool { idle, _ := d.Idle(t); return idle })
		took, after := time.Since(left), reads(t, d)
		t.Logf("%d clients went away: at rest after %d ms, %d KiB of the store were read meanwhile", clients, took.Milliseconds(), (after-before)>>10)
		// Each client's leaf may be under way, and with kubo the leaves that were read ahead.
		if most := int64(clients * 4 << 20); after-before > most {
			t.Errorf("%d MiB were read for clients that had gone, want at most %d", (after-before)>>20, most>>20)
		}
		if took > soon {
			t.Errorf("reading went on for %v", took)
		}
	})
}

var errEnough = errors.New("had enough")

// cancelling makes a client leave after so many bytes.
type cancelling struct{ left int }

func (c *cancelling) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		return 0, errEnough
	}
	return len(p), nil
}

// reads returns how many bytes detach has read so far, from files and connections.
func reads(t *testing.T, d *stage.Detach) int64 { return d.Figure(t, "io", `rchar: (\d+)`) }
