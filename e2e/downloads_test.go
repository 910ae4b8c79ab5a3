package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

const (
	downloads      = 500
	downloadMemory = 256 << 20
)

// putBig stores a file without a mail server, and returns its link and its SHA-256.
func (d *detach) putBig(t *testing.T, size int64) (l link, sum string) {
	t.Helper()
	mail := newBigMail(size)
	cmd := exec.Command(binary, "filter", "--config", d.config)
	cmd.Stdin = mail
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("detach filter: %v\n%s", err, lastLines(stderr.String(), 10))
	}
	keepLog("detach", stderr.String())
	links := startDecoder(t).parse(t, out.Bytes()).links()
	if len(links) != 1 {
		t.Fatalf("%d links in the rewritten mail, want 1", len(links))
	}
	return links[0], mail.sha256()
}

// Five hundred downloads of 10 MB, all of them begun and then hardly read: all that a gateway can hold for a slow client it holds.
// Meanwhile somebody downloads 5 GB, and is not kept waiting by them. Then all go on, and have their files.
func TestFiveHundredDownloads(t *testing.T) {
	onEachStore(t, func(t *testing.T, s store) {
		d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, kubo: s.api(), policy: `restore = false`})
		var files []attachment
		for i := range 20 {
			files = append(files, fileOf(fmt.Sprintf("file %d.bin", i), noise(uint64(500+i), 10<<20)))
		}
		links := d.put(t, files...)
		size := int64(5 << 30)
		if s.api() != "" {
			size = 1 << 30 // the node's disk is a test's too
		}
		big, bigSum := d.putBig(t, size)

		var begun, all sync.WaitGroup
		goOn := make(chan struct{})
		begun.Add(downloads)
		for i := range downloads {
			all.Go(func() {
				first := sync.OnceFunc(begun.Done)
				defer first()
				sum := sha256.New()
				if err := downloadBy(slowClient(t), links[i%len(links)], &hesitant{Writer: sum, first: first, goOn: goOn}); err != nil {
					t.Errorf("download %d: %v", i, err)
				} else if got := hex.EncodeToString(sum.Sum(nil)); got != files[i%len(files)].sha256() {
					t.Errorf("download %d has another SHA-256", i)
				}
			})
		}
		begun.Wait()
		open := d.peakMemory(t)
		began := time.Now()
		if got := fileHash(t, big); got != bigSum {
			t.Errorf("the 5 GB have SHA-256 %s, want %s", got, bigSum)
		}
		took := time.Since(began)
		close(goOn)
		all.Wait()
		most := d.peakMemory(t)
		t.Logf("%d downloads of 10 MiB begun: at most %d MiB; %d GiB beside them at %.0f MB/s; in all at most %d MiB", downloads, open>>20, size>>30, float64(size)/1e6/took.Seconds(), most>>20)
		if most >= downloadMemory {
			t.Errorf("serve had %d MiB, want less than %d", most>>20, downloadMemory>>20)
		}
	})
}

// slowClient has little room for what it does not read, and the segments of the Internet: those of loopback would fill it at once.
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
	return &http.Client{Transport: transport, CheckRedirect: noRedirects.CheckRedirect}
}

// hesitant takes 6 KB a second until it may go on.
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

// Who goes away in the middle of a download costs no more: the store is not read for them any longer.
func TestCancelledDownloadsStopReading(t *testing.T) {
	faults.Covers(t, 89)
	const clients = 20
	onEachStore(t, func(t *testing.T, s store) {
		d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, kubo: s.api(), policy: `restore = false`})
		l, _ := d.putBig(t, 200<<20)
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				if err := downloadBy(slowClient(t), l, &cancelling{left: 3 << 20}); !errors.Is(err, errEnough) {
					t.Errorf("got %v, want %v", err, errEnough)
				}
			})
		}
		all.Wait() // every connection is closed
		left := time.Now()
		before := d.reads(t)
		servers.Eventually(t, servers.Patience, "the connections to go", func() bool {
			return !strings.Contains(d.ask(t, "/debug/pprof/goroutine?debug=1"), "gateway.(*gateway).file")
		})
		took, after := time.Since(left), d.reads(t)
		t.Logf("%d clients went away: at rest after %d ms, %d KiB of the store were read meanwhile", clients, took.Milliseconds(), (after-before)>>10)
		// What was on its way to each: its leaf, and with kubo those asked for ahead.
		if most := int64(clients * 4 << 20); after-before > most {
			t.Errorf("%d MiB were read for clients who had gone, want at most %d", (after-before)>>20, most>>20)
		}
		if took > 2*time.Second {
			t.Errorf("reading went on for %.1f s", took.Seconds())
		}
	})
}

var errEnough = errors.New("had enough")

// cancelling is a client who goes away.
type cancelling struct{ left int }

func (c *cancelling) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		return 0, errEnough
	}
	return len(p), nil
}

var bytesRead = regexp.MustCompile(`rchar: (\d+)`)

// reads is how many bytes detach has read so far, from files and connections.
func (d *detach) reads(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", d.cmd.Process.Pid))
	must(t, err)
	var n int64
	if _, err := fmt.Sscan(bytesRead.FindStringSubmatch(string(text))[1], &n); err != nil {
		t.Fatal(err)
	}
	return n
}
