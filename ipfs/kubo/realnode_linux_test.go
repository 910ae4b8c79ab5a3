//go:build linux

package kubo_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// A real node fails in the middle of an object of 64 MiB.
func TestNodeFailsDuringUpload(t *testing.T) {
	faults.Covers(t, 39, 40, 43)
	node := servers.Kubo(t)
	for _, c := range []struct {
		name   string
		happen func()
		mend   func()
		reason string
		idle   time.Duration // 0: that of production, since a busy node is only slow
	}{
		{"killed", node.Kill, node.Start, "", 0},
		{"killed and started again", func() { node.Kill(); node.Start() }, func() {}, "", 0},
		{
			"stopped", // the kernel still takes some bytes for a process that SIGSTOP has stopped
			func() { must.Succeed(t, syscall.Kill(daemon(t, node), syscall.SIGSTOP)) },
			func() { must.Succeed(t, syscall.Kill(daemon(t, node), syscall.SIGCONT)) },
			"no progress", 10 * time.Second, // a busy node takes seconds for a block, too
		},
		{
			"disk full",
			func() { limitFiles(t, daemon(t, node), 512<<10) },
			func() { limitFiles(t, daemon(t, node), unix.RLIM_INFINITY) },
			"file too large", 0,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, kubo.Config{API: node.API(), Idle: c.idle})
			before := node.Pins()
			blocks := 0
			var since time.Time
			_, err := s.Put(t.Context(), "n", func(add ipfs.AddFunc) (cid.Cid, error) {
				n, err := ipfs.AddFile(func(b ipfs.Block) error {
					if blocks++; blocks == 3 {
						c.happen()
						since = time.Now()
					}
					return add(b)
				}, io.LimitReader(storetest.Chacha(30), 64<<20))
				return n.CID, err
			})
			if !errors.Is(err, ipfs.ErrUnavailable) || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("got %v, want ErrUnavailable and %q", err, c.reason)
			}
			if took := time.Since(since); took > kubo.DefaultIdle {
				t.Errorf("noticed after %v", took)
			}
			// Kubo notices a full disk only when it writes, 100 MB at a time.
			if blocks >= 64 && c.name != "disk full" {
				t.Error("Put read the source to its end")
			}
			c.mend()
			if got := node.Pins(); !slices.Equal(got, before) {
				t.Errorf("pins: got %v, want %v", got, before)
			}
			s = openStore(t, kubo.Config{API: node.API()})
			root := storetest.PutFile(t, s, strings.NewReader("works again after: "+c.name))
			must.Succeed(t, s.Delete(t.Context(), root))
		})
	}
}

// daemon finds the node's process.
func daemon(t *testing.T, node *servers.KuboNode) int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	must.Succeed(t, err)
	for _, dir := range dirs {
		args, _ := os.ReadFile(dir + "/cmdline")
		env, _ := os.ReadFile(dir + "/environ")
		if bytes.Contains(args, []byte("\x00daemon\x00")) && bytes.Contains(env, []byte("IPFS_PATH="+node.Repo+"\x00")) {
			pid, err := strconv.Atoi(filepath.Base(dir))
			must.Succeed(t, err)
			return pid
		}
	}
	t.Fatal("the node's process is not found")
	return 0
}

// limitFiles bounds the files that a process may write to size bytes, as if the disk were full.
func limitFiles(t *testing.T, pid int, size uint64) {
	t.Helper()
	var old unix.Rlimit
	must.Succeed(t, unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &old))
	must.Succeed(t, unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: old.Max}, nil))
}

// A garbage collection keeps only pinned objects. Put pins an object once it is whole, so a
// collection may remove its blocks before: then the pin fails, and so does Put. An object for which
// Put returned nil has all its blocks.
func TestGarbageCollectionDuringUpload(t *testing.T) {
	faults.Covers(t, 49)
	node := servers.Kubo(t)
	s := openStore(t, kubo.Config{API: node.API()})
	before := node.Pins()

	t.Run("in the middle", func(t *testing.T) { testCollectInTheMiddle(t, node, s, before) })
	t.Run("all the time", func(t *testing.T) { testCollectAllTheTime(t, node, s, before) })
}

func testCollectInTheMiddle(t *testing.T, node *servers.KuboNode, s *kubo.Store, before []string) {
	const files, collectAt = 300, 250 // kubo writes 128 blocks at a time
	root, err := s.Put(t.Context(), "n", func(add ipfs.AddFunc) (cid.Cid, error) {
		var entries []ipfs.Entry
		for i := range files {
			if i == collectAt {
				node.Run("repo", "gc", "-q")
			}
			n, err := ipfs.AddFile(add, strings.NewReader(fmt.Sprint("file ", i)))
			if err != nil {
				return cid.Undef, err
			}
			entries = append(entries, ipfs.Entry{Name: fmt.Sprint(i), Node: n})
		}
		dir, err := ipfs.AddDirectory(add, entries...)
		return dir.CID, err
	})
	t.Logf("Put: %v", err)
	switch {
	case err == nil: // the node had not written a block before the collection
		for i := range files {
			if got := node.Run("cat", fmt.Sprintf("%s/%d", root, i)); got != fmt.Sprint("file ", i) {
				t.Errorf("Put succeeded, but file %d is %q", i, got)
			}
		}
		must.Succeed(t, s.Delete(t.Context(), root))
	case !errors.Is(err, ipfs.ErrUnavailable):
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if got := node.Pins(); !slices.Equal(got, before) {
		t.Errorf("pins: got %v, want %v", got, before)
	}
}

func testCollectAllTheTime(t *testing.T, node *servers.KuboNode, s *kubo.Store, before []string) {
	stop, stopped := make(chan struct{}), make(chan int)
	go collect(t, node, stop, stopped)
	stored := map[cid.Cid]uint64{}
	var pins []string
	for i := range uint64(20) {
		root, err := storetest.TryPutFile(t.Context(), s, io.LimitReader(storetest.Chacha(50+i), 3<<20+7))
		if err == nil {
			stored[root] = 50 + i
			pins = append(pins, fmt.Sprintf("%s detach test", root))
		} else if !errors.Is(err, ipfs.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
	close(stop)
	t.Logf("%d of 20 stored, beside %d collections", len(stored), <-stopped)
	node.Run("repo", "gc", "-q")
	for root, seed := range stored {
		if got, err := storetest.ReadFile(t, s, root); err != nil || !bytes.Equal(got, storetest.Content(seed, 3<<20+7)) {
			t.Errorf("%s: %d bytes, %v", root, len(got), err)
		}
	}
	got := slices.DeleteFunc(node.Pins(), func(pin string) bool { return slices.Contains(before, pin) })
	slices.Sort(got)
	slices.Sort(pins)
	if !slices.Equal(got, pins) {
		t.Errorf("pins: got %v, want %v", got, pins)
	}
}

// collect collects garbage until stop is closed, and then sends the number of collections.
func collect(t *testing.T, node *servers.KuboNode, stop <-chan struct{}, stopped chan<- int) {
	n := 0
	defer func() { stopped <- n }()
	for {
		select {
		case <-stop:
			return
		default:
		}
		if _, err := node.RPC("repo/gc?quiet=true"); err != nil {
			t.Errorf("repo gc: %v", err)
			return
		}
		n++
	}
}

// Stored objects lessen the space below the node's own limit, and a node that does not show its
// limit is an error.
func TestSpaceIsWhatStorageMaxLeaves(t *testing.T) {
	node := servers.Kubo(t)
	node.Run("config", "Datastore.StorageMax", "1GiB")
	node.Stop()
	node.Start()
	s := openStore(t, kubo.Config{API: node.API()})
	before, total, err := s.Space(t.Context())
	must.Succeed(t, err)
	storetest.PutFile(t, s, io.LimitReader(storetest.Chacha(61), 8<<20))
	after, _, err := s.Space(t.Context())
	must.Succeed(t, err)
	if total != 1<<30 || before > total || before-after < 8<<20 || before-after > 16<<20 {
		t.Errorf("of %d bytes %d were free, and after 8 MiB %d", total, before, after)
	}

	node.Run("config", "--json", "API.Authorizations", `{"a": {"AuthSecret": "bearer:s3cret", "AllowedPaths": ["/api/v0/pin"]}}`)
	node.Stop()
	node.Start()
	_, _, err = openStore(t, kubo.Config{API: node.API(), Token: secret("s3cret")}).Space(t.Context())
	if !errors.Is(err, ipfs.ErrUnavailable) || !strings.Contains(err.Error(), "403") {
		t.Errorf("not allowed: got %v, want the node's 403", err)
	}
}

// A node gets the configured secret. With a wrong secret Put fails; the error has the node's 403,
// and not the secret.
func TestAuthorization(t *testing.T) {
	faults.Covers(t, 50)
	node := servers.Kubo(t)
	node.Run("config", "--json", "API.Authorizations", `{
		"a": {"AuthSecret": "bearer:s3cret", "AllowedPaths": ["/api/v0/dag/import", "/api/v0/pin/add", "/api/v0/pin/rm", "/api/v0/block/get", "/api/v0/cat"]},
		"b": {"AuthSecret": "basic:me:pass:word", "AllowedPaths": ["/api/v0"]},
		"c": {"AuthSecret": "bearer:n0pins", "AllowedPaths": ["/api/v0/dag/import"]}}`)
	node.Stop()
	node.Start()
	for token, want := range map[string]error{
		"s3cret":             nil,
		"bearer:s3cret":      nil,
		"basic:me:pass:word": nil,
		"":                   ipfs.ErrUnavailable,
		"wrong":              ipfs.ErrUnavailable,
		"basic:me:wrong":     ipfs.ErrUnavailable,
		"bearer:n0pins":      ipfs.ErrUnavailable,
	} {
		s := openStore(t, kubo.Config{API: node.API(), Token: secret(token)})
		root, err := storetest.TryPutFile(t.Context(), s, io.LimitReader(storetest.Chacha(60), 3<<20))
		if err == nil {
			blocks, err := s.Open(t.Context(), root)
			must.Succeed(t, err)
			must.Succeed(t, blocks.GetPart(t.Context(), root, 0, make([]byte, 1)))
			must.Succeed(t, blocks.Close())
		}
		for what, err := range map[string]error{"check": s.Check(t.Context()), "put": err} {
			if !errors.Is(err, want) {
				t.Errorf("token %q, %s: got %v, want %v", token, what, err, want)
			}
			if err == nil {
				continue
			}
			if !strings.Contains(err.Error(), "403") {
				t.Errorf("token %q, %s: got %v, want the node's 403", token, what, err)
			}
			if _, secret, _ := strings.Cut(token, ":"); token != "" && (strings.Contains(err.Error(), token) || secret != "" && strings.Contains(err.Error(), secret)) {
				t.Errorf("the error contains the token: %v", err)
			}
		}
	}
}
