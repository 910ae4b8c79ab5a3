package kubo_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/pipes"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// fakeNode is a node that fails in ways that a test cannot make a real node fail. Its script maps
// commands of the RPC to answers; it answers the other commands as a healthy node does.
type fakeNode struct {
	script map[string]http.HandlerFunc
	took   atomic.Int64 // bytes of request bodies that the node has read
	gave   atomic.Int64 // bytes of answers that the node has sent

	mu    sync.Mutex
	calls []string
	pins  map[string]bool
}

func newFakeNode(script map[string]http.HandlerFunc) *fakeNode {
	return &fakeNode{script: script, pins: map[string]bool{}}
}

// good answers as a healthy node does. A script can use it in a handler of its own.
func good(w http.ResponseWriter, r *http.Request) {
	r.Context().Value(http.ServerContextKey).(*http.Server).Handler.(*fakeNode).good(w, r)
}

func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	command := strings.TrimPrefix(r.URL.Path, "/api/v0/")
	n.mu.Lock()
	n.calls = append(n.calls, command)
	n.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Trailer", "X-Stream-Error")
	r.Body = counting{r.Body, &n.took}
	h := n.script[command]
	if h == nil {
		h = n.good
	}
	h(countingWriter{w, &n.gave}, r)
}

func (n *fakeNode) good(w http.ResponseWriter, r *http.Request) {
	arg := r.URL.Query().Get("arg")
	n.mu.Lock()
	defer n.mu.Unlock()
	switch strings.TrimPrefix(r.URL.Path, "/api/v0/") {
	case "dag/import":
		n.mu.Unlock()
		blocks, size, err := countCAR(r)
		n.mu.Lock()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, `{"Stats":{"BlockCount":%d,"BlockBytesCount":%d}}`, blocks, size)
	case "pin/add":
		n.pins[arg] = true
		fmt.Fprintf(w, `{"Pins":[%q]}`, arg)
	case "pin/rm":
		if !n.pins[arg] {
			http.Error(w, `{"Message":"not pinned or pinned indirectly","Code":0,"Type":"error"}`, http.StatusInternalServerError)
			return
		}
		delete(n.pins, arg)
		fmt.Fprintf(w, `{"Pins":[%q]}`, arg)
	}
}

func (n *fakeNode) called(command string) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.calls {
		if c == command {
			count++
		}
	}
	return count
}

func (n *fakeNode) pinned() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.pins)
}

// countCAR reads a dag/import as a node does: block after block, up to the last boundary.
func countCAR(r *http.Request) (blocks, size int, err error) {
	mr, err := r.MultipartReader()
	if err != nil {
		return 0, 0, err
	}
	part, err := mr.NextPart()
	if err != nil {
		return 0, 0, err
	}
	car := bufio.NewReader(part)
	if _, err := car.Discard(ipfs.CARHeaderSize); err != nil {
		return 0, 0, err
	}
	for {
		n, err := binary.ReadUvarint(car)
		if err == io.EOF {
			break
		} else if err != nil {
			return 0, 0, err
		}
		if _, err := car.Discard(int(n)); err != nil {
			return 0, 0, err
		}
		blocks++
		size += int(n) - 36
	}
	if _, err := mr.NextPart(); err != io.EOF {
		return 0, 0, fmt.Errorf("body not ended: %v", err)
	}
	return blocks, size, nil
}

type counting struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c countingWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

func (c countingWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// bubbled is a fake node behind pipes and its Store, in a synctest bubble: the timeouts of
// production take no time there, and a goroutine that does not end fails the test.
type bubbled struct {
	*fakeNode
	t      *testing.T
	store  *kubo.Store
	budget *memory.Budget

	mu   sync.Mutex
	open int // connections that the store has not closed
	all  int // connections that the store has opened
}

func inBubble(t *testing.T, script map[string]http.HandlerFunc, f func(t *testing.T, b *bubbled)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubbled{fakeNode: newFakeNode(script), t: t, budget: memory.New(16 << 20)}
		t.Cleanup(func() { // after the files of the test are closed
			if n := b.budget.Used(); n != 0 {
				t.Errorf("%d bytes of memory were not given back", n)
			}
		})
		store, err := kubo.New(kubo.Config{API: "http://node.example:5001", Memory: b.budget})
		must.Succeed(t, err)
		b.store = store
		l := pipes.Listen()
		ctx, cancel := context.WithCancel(context.Background())
		store.DialWith(func(dialing context.Context, _, addr string) (net.Conn, error) {
			if addr != "node.example:5001" {
				t.Errorf("the store dialled %s", addr)
			}
			c, err := l.Dial(dialing)
			if err != nil {
				return nil, err
			}
			b.count(1)
			return &countedConn{Conn: c, b: b}, nil
		})
		srv := &http.Server{Handler: b.fakeNode, BaseContext: func(net.Listener) context.Context { return ctx }}
		go srv.Serve(l)
		defer func() {
			b.checkIdle()
			cancel() // ends the handlers that hang
			srv.Close()
			time.Sleep(time.Second) // in the bubble; the server ends sooner
		}()
		f(t, b)
	})
}

// checkIdle fails the test if the store has a goroutine or a connection in use.
func (b *bubbled) checkIdle() {
	b.t.Helper()
	synctest.Wait()
	b.store.Close()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open != 0 {
		b.t.Errorf("%d of %d connections are still in use", b.open, b.all)
	}
	buf := make([]byte, 1<<20)
	if stacks := string(buf[:runtime.Stack(buf, true)]); strings.Contains(stacks, "kubo.(*imported)") || strings.Contains(stacks, "kubo.(*Store)") {
		b.t.Errorf("goroutines left:\n%s", stacks)
	}
}

func (b *bubbled) count(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open += n
	b.all += max(n, 0)
}

type countedConn struct {
	net.Conn
	b    *bubbled
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.b.count(-1) })
	return c.Conn.Close()
}

// attempt is the outcome of a Put.
type attempt struct {
	err  error
	took time.Duration // in the bubble
	read int64         // bytes of the source
}

// put stores a file of size bytes.
func (b *bubbled) put(ctx context.Context, size int64) attempt {
	var read atomic.Int64
	start := time.Now()
	_, err := storetest.TryPutFile(ctx, b.store, counting{io.NopCloser(io.LimitReader(storetest.Chacha(1), size)), &read})
	return attempt{err, time.Since(start), read.Load()}
}

// unavailable checks an attempt that failed at the node: the error wraps ErrUnavailable and came
// exactly after the given time, and the source was not read far ahead of the node.
func (b *bubbled) unavailable(a attempt, after time.Duration) {
	b.t.Helper()
	if !errors.Is(a.err, ipfs.ErrUnavailable) {
		b.t.Errorf("got %v, want ErrUnavailable", a.err)
	}
	if a.took != after {
		b.t.Errorf("after %v, want %v", a.took, after)
	}
	if took := b.took.Load(); a.read > took+maxAhead {
		b.t.Errorf("%d bytes of the source were read, and the node took %d", a.read, took)
	}
	if b.pinned() != 0 {
		b.t.Error("something is pinned")
	}
}

// maxAhead bounds the bytes that Put has read from its source and the node has not: a leaf, and the
// buffers of the connection. A socket would add its own.
const maxAhead = 1<<20 + 256<<10

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// after reads n bytes of the request and then calls h.
func after(n int64, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, n)
		h(w, r)
	}
}

// early answers without reading the request.
func early(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// answer reads the whole request and then answers.
func answer(status int, body string) http.HandlerFunc { return after(1<<40, early(status, body)) }

// typed is answer with a content type.
func typed(kind string, status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = []string{kind}
		if kind == "" {
			w.Header()["Content-Type"] = nil
		}
		answer(status, body)(w, r)
	}
}

// flush sends the answer so far.
func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }
