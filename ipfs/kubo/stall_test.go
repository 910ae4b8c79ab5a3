package kubo_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// drips begins an answer and then sends s once a second, until the connection is closed.
func drips(begin, s string) http.HandlerFunc {
	return raw(func(w *bufio.ReadWriter) {
		w.WriteString(begin)
		for s != "" && w.Flush() == nil {
			time.Sleep(time.Second)
			w.WriteString(s)
		}
		_ = w.Flush()
		_, _ = io.Copy(io.Discard, w)
	})
}

const okHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"

var stalls = map[string]map[string]http.HandlerFunc{
	"before the body":             {"dag/import": hang},
	"after a byte of it":          {"dag/import": after(1, hang)},
	"in the body":                 {"dag/import": after(1<<20+5, hang)},
	"late in the body":            {"dag/import": after(3<<20, hang)},
	"after the body":              {"dag/import": after(1<<30, hang)},
	"after the head":              {"dag/import": func(w http.ResponseWriter, r *http.Request) { flush(w); after(1<<30, hang)(w, r) }},
	"in the result":               {"dag/import": drips(okHead+goodStats[:20], "")},
	"after the result":            {"dag/import": drips(okHead+goodStats, "")},
	"dripping blanks":             {"dag/import": drips(okHead, " ")},
	"dripping values":             {"dag/import": drips(okHead+goodStats, "\n")},
	"dripping a header":           {"dag/import": drips("HTTP/1.1 200 OK\r\nX-Long: ", "x")},
	"before the status line":      {"dag/import": drips("", "")},
	"in the pin":                  {"pin/add": hang},
	"in a pin with old progress":  {"pin/add": drips(okHead, `{"Progress":7}`+"\n")},
	"in a pin with empty lines":   {"pin/add": drips(okHead, "{}\n")},
	"after the pin":               {"pin/add": drips(okHead+`{"Pins":["`+pinOf3MiB+`"]}`, "")},
	"in the pin and in the unpin": {"pin/add": hang, "pin/rm": hang},
}

// pinOf3MiB is the root of the object that the tests store.
var pinOf3MiB = storetest.CIDOf(io.LimitReader(storetest.Chacha(1), 3<<20)).String()

// A node that hangs at any point costs the idle time, and UndoTimeout more if it may have pinned
// and does not unpin: less than the 100 s that Postfix waits for a reply.
func TestNodeHangs(t *testing.T) {
	faults.Covers(t, 40)
	for name, script := range stalls {
		t.Run(name, func(t *testing.T) {
			inBubble(t, script, func(t *testing.T, b *bubbled) {
				want := kubo.DefaultIdle
				switch name {
				case "in the pin and in the unpin":
					want += kubo.UndoTimeout
				case "in a pin with old progress":
					want += time.Second // the first line is progress
				}
				a := b.put(t.Context(), 3<<20)
				b.unavailable(a, want)
				if !strings.Contains(a.err.Error(), "no progress") {
					t.Errorf(`got %v, want the reason "no progress"`, a.err)
				}
				if want >= 100*time.Second {
					t.Errorf("%v is too long for a mail", want)
				}
			})
		})
	}
}

// The end of the caller's context ends the wait sooner. By itself it does not end http.Client.Do
// while that reads a body that is a pipe (golang.org/issue/78555).
func TestCancelledWhileNodeHangs(t *testing.T) {
	faults.Covers(t, 40)
	gone := errors.New("client gone")
	for name, script := range stalls {
		t.Run(name, func(t *testing.T) {
			inBubble(t, script, func(t *testing.T, b *bubbled) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(7*time.Second, func() { cancel(gone) })
				a := b.put(ctx, 3<<20)
				want := 7 * time.Second
				if name == "in the pin and in the unpin" {
					want += kubo.UndoTimeout
				}
				if !errors.Is(a.err, gone) || errors.Is(a.err, ipfs.ErrUnavailable) || a.took != want {
					t.Errorf("got %v after %v, want the context's error after %v", a.err, a.took, want)
				}
				if b.pinned() != 0 {
					t.Error("something is pinned")
				}
			})
		})
	}
}

// Over a socket, a node that hangs costs the same, although the socket's buffers take some of the
// object.
func TestNodeStopsReadingItsSocket(t *testing.T) {
	faults.Covers(t, 40)
	n := newFakeNode(map[string]http.HandlerFunc{"dag/import": hang})
	ctx, cancel := context.WithCancel(context.Background())
	srv := httptest.NewUnstartedServer(n)
	srv.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	srv.Start()
	defer srv.Close()
	defer cancel()
	for what, idle := range map[string]time.Duration{"idle": 200 * time.Millisecond, "context": time.Hour} {
		s := openStore(t, kubo.Config{API: srv.URL, Idle: idle})
		caller, stop := context.WithCancel(t.Context())
		time.AfterFunc(200*time.Millisecond, func() {
			if what == "context" {
				stop()
			}
		})
		_, err := storetest.TryPutFile(caller, s, io.LimitReader(storetest.Chacha(1), 1<<30))
		stop()
		if want := map[string]error{"idle": ipfs.ErrUnavailable, "context": context.Canceled}[what]; !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
}

// A slow node makes the source wait, and with it the mail's sender: only a bounded number of bytes
// is between them.
func TestSlowNodeHoldsTheSourceBack(t *testing.T) {
	faults.Covers(t, 52)
	const size = 100 << 20
	script := map[string]http.HandlerFunc{"dag/import": func(w http.ResponseWriter, r *http.Request) {
		r.Body = &slow{r.Body} // 1 MB/s
		good(w, r)
	}}
	inBubble(t, script, func(t *testing.T, b *bubbled) {
		var ahead, read atomic.Int64
		src := readerFunc(func(p []byte) (int, error) {
			ahead.Store(max(ahead.Load(), read.Load()+int64(len(p))-b.took.Load()))
			return len(p), nil
		})
		start := time.Now()
		root, err := storetest.TryPutFile(t.Context(), b.store, counting{io.NopCloser(io.LimitReader(src, size)), &read})
		must.Succeed(t, err)
		if took := time.Since(start); took < 100*time.Second {
			t.Errorf("100 MiB at 1 MB/s took %v", took)
		}
		if ahead.Load() > maxAhead {
			t.Errorf("the source was %d bytes ahead of the node, want at most %d", ahead.Load(), maxAhead)
		}
		t.Logf("at most %d bytes ahead", ahead.Load())
		must.Succeed(t, b.store.Delete(t.Context(), root))
	})
}

// slow reads 100 kB ten times a second.
type slow struct{ io.ReadCloser }

func (s *slow) Read(p []byte) (int, error) {
	n, err := io.ReadFull(s.ReadCloser, p[:min(len(p), 100_000)])
	time.Sleep(time.Duration(n) * time.Microsecond)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A wait for DNS or for a connection is bounded more tightly than one for a node at work: Put has
// not read the source yet, and the sender tries again.
func TestHangingDNSAndConnectAreBounded(t *testing.T) {
	faults.Covers(t, 54)
	unanswered := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	// The resolver reads its configuration once: it must do so outside the bubbles.
	_, _ = (&net.Resolver{PreferGo: true}).LookupHost(t.Context(), "localhost")
	for _, api := range []string{"/dns4/node.example/tcp/5001", "/dns/node.example/tcp/5001", "http://node.example:5001", "https://node.example"} {
		t.Run(api, func(t *testing.T) {
			old := net.DefaultResolver
			defer func() { net.DefaultResolver = old }()
			synctest.Test(t, func(t *testing.T) {
				net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: unanswered}
				s, err := kubo.New(kubo.Config{API: api})
				must.Succeed(t, err)
				start := time.Now()
				wantNotRead(t, s)
				if took := time.Since(start); took != kubo.DialTimeout {
					t.Errorf("took %v, want %v", took, kubo.DialTimeout)
				}
				must.Succeed(t, s.Close())
			})
		})
	}
	t.Run("connect", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, b *bubbled) {
			b.store.DialWith(unanswered)
			start := time.Now()
			wantNotRead(t, b.store)
			if took := time.Since(start); took != kubo.DefaultIdle {
				t.Errorf("took %v, want %v", took, kubo.DefaultIdle)
			}
		})
	})
}

// wantNotRead calls Put without a node: Put must not call build.
func wantNotRead(t *testing.T, s ipfs.Store) {
	t.Helper()
	_, err := s.Put(t.Context(), "n", func(ipfs.AddFunc) (cid.Cid, error) {
		t.Error("Put calls build without a node")
		return cid.Undef, errors.New("read")
	})
	if !errors.Is(err, ipfs.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

// Uploads that wait for their sources do not keep a connection from the next upload.
func TestPoolIsNotExhausted(t *testing.T) {
	faults.Covers(t, 54)
	inBubble(t, nil, func(t *testing.T, b *bubbled) {
		release := make(chan struct{})
		var waiting sync.WaitGroup
		for i := range 100 {
			waiting.Go(func() {
				src := io.MultiReader(strings.NewReader(fmt.Sprint(i)), readerFunc(func([]byte) (int, error) {
					<-release
					return 0, io.EOF
				}))
				if _, err := storetest.TryPutFile(t.Context(), b.store, src); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		time.Sleep(10 * kubo.DefaultIdle) // slow sources are not the node's fault
		if a := b.put(t.Context(), 3<<20); a.err != nil || a.took != 0 {
			t.Errorf("got %v after %v", a.err, a.took)
		}
		close(release)
		waiting.Wait()
		if b.pinned() != 101 {
			t.Errorf("%d objects are pinned, want 101", b.pinned())
		}
	})
	// A process with too many open files fails immediately.
	inBubble(t, nil, func(t *testing.T, b *bubbled) {
		b.store.DialWith(func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("too many open files")
		})
		start := time.Now()
		wantNotRead(t, b.store)
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}
