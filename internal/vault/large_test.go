package vault

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/race"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
)

// blackHole is a node that counts what it receives and keeps nothing.
func blackHole(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if !strings.HasSuffix(r.URL.Path, "/dag/import") {
		fmt.Fprintf(w, `{"Pins":[%q]}`, r.URL.Query().Get("arg"))
		return
	}
	abort := func(err error) {
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	mr, err := r.MultipartReader()
	abort(err)
	part, err := mr.NextPart()
	abort(err)
	car := bufio.NewReaderSize(part, 64<<10)
	abort(errOf(car.Discard(carHead)))
	blocks, size := 0, 0
	for {
		n, err := binary.ReadUvarint(car)
		if err == io.EOF {
			break
		}
		abort(errOf(car.Discard(int(n))))
		blocks++
		size += int(n) - cidSize
	}
	fmt.Fprintf(w, `{"Stats":{"BlockCount":%d,"BlockBytesCount":%d}}`, blocks, size)
}

// A gibibyte is streamed to a node: memory does not grow with it, and no temporary file holds it.
func TestLargeToNode(t *testing.T) {
	faults.Covers(t, 51)
	srv := httptest.NewServer(http.HandlerFunc(blackHole))
	defer srv.Close()
	s := newSite(t)
	store, err := kubo.New(kubo.Config{API: srv.URL})
	must.Succeed(t, err)
	defer store.Close()
	s.store = store
	large(t, s, 1<<30)
	if n := s.objects(t); n != 0 {
		t.Errorf("%d files in the embedded store", n)
	}
}

func TestLargeEmbedded(t *testing.T) {
	faults.Covers(t, 51)
	s := newSite(t)
	large(t, s, 512<<20)
	if n := s.objects(t); n != 1 {
		t.Errorf("%d files, want 1", n)
	}
}

func large(t *testing.T, s *site, size int64) {
	t.Helper()
	if testing.Short() || race.Enabled {
		size /= 8
	}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	src := &generator{t: t, left: size, temp: temp}
	b := s.vault(t, nil).Begin(0)
	start := time.Now()
	_, err := b.Detach(t.Context(), "n", "t", src)
	must.Succeed(t, err)
	took := time.Since(start)
	must.Succeed(t, b.Commit(t.Context()))
	if got := b.objects[0].entry.Size; got != size {
		t.Errorf("%d bytes are stored, want %d", got, size)
	}
	t.Logf("%d MB/s; heap at most %d KiB, and %d KiB taken from the system on the way",
		size/1_000_000*int64(time.Second)/int64(took), src.heap>>10, (src.sys-src.sysBefore)>>10)
	// A few buffers of 1 MiB are in use, and Go lets garbage grow to the same size.
	if src.heap > 48<<20 || src.sys-src.sysBefore > 64<<20 {
		t.Error("memory grows with the attachment")
	}
}

// generator is a source that measures memory and temporary files every 16 MiB.
type generator struct {
	t              *testing.T
	left, read     int64
	temp           string
	heap           uint64 // the maximum
	sys, sysBefore uint64
}

func (g *generator) Read(p []byte) (int, error) {
	if g.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), g.left))
	if n >= 8 {
		binary.LittleEndian.PutUint64(p, uint64(g.left)) // no two blocks are alike
	}
	if g.read/(16<<20) != (g.read+int64(n))/(16<<20) || g.read == 0 {
		g.look()
	}
	g.left -= int64(n)
	g.read += int64(n)
	return n, nil
}

func (g *generator) look() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if g.sysBefore == 0 {
		g.sysBefore = m.Sys
	}
	g.heap, g.sys = max(g.heap, m.HeapAlloc), max(g.sys, m.Sys)
	if files, _ := os.ReadDir(g.temp); len(files) > 0 {
		g.t.Errorf("a temporary file: %s", files[0].Name())
	}
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds { // includes unlinked files
		if at, _ := os.Readlink(fd); strings.HasPrefix(at, g.temp) {
			g.t.Errorf("a temporary file: %s", at)
		}
	}
}
