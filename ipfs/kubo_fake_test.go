package ipfs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// fakeNode does what a real node cannot be made to do. Its script maps a command of the RPC to an
// answer; a command without one is answered as a good node would.
type fakeNode struct {
	script map[string]http.HandlerFunc

	mu    sync.Mutex
	calls []string
}

func startFake(t *testing.T, script map[string]http.HandlerFunc) (*fakeNode, string) {
	t.Helper()
	n := &fakeNode{script: script}
	srv := httptest.NewUnstartedServer(n)
	ctx, cancel := context.WithCancel(context.Background())
	srv.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	srv.Start()
	t.Cleanup(func() {
		cancel() // handlers that hang return
		srv.CloseClientConnections()
		srv.Close()
	})
	return n, srv.URL
}

func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	command := strings.TrimPrefix(r.URL.Path, "/api/v0/")
	n.mu.Lock()
	n.calls = append(n.calls, command)
	n.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Trailer", "X-Stream-Error")
	if h := n.script[command]; h != nil {
		h(w, r)
		return
	}
	switch command {
	case "dag/import":
		blocks, size, err := countCAR(r)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, `{"Stats":{"BlockCount":%d,"BlockBytesCount":%d}}`, blocks, size)
	case "pin/add":
		fmt.Fprintf(w, `{"Pins":[%q]}`, r.FormValue("arg"))
	case "pin/rm":
		http.Error(w, `{"Message":"not pinned or pinned indirectly","Code":0,"Type":"error"}`, http.StatusInternalServerError)
	}
}

func (n *fakeNode) called(command string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Contains(strings.Join(n.calls, "\n")+"\n", command+"\n")
}

func countCAR(r *http.Request) (blocks, size int, err error) {
	mr, err := r.MultipartReader()
	if err != nil {
		return 0, 0, err
	}
	part, err := mr.NextPart()
	if err != nil {
		return 0, 0, err
	}
	car, err := io.ReadAll(part)
	if err != nil {
		return 0, 0, err
	}
	if _, err := mr.NextPart(); err != io.EOF {
		return 0, 0, fmt.Errorf("body not ended: %v", err)
	}
	for rest := car[carHeaderLen:]; len(rest) > 0; blocks++ {
		n, k := uvarint(rest)
		rest = rest[k+n:]
		size += n - 36
	}
	return blocks, size, nil
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// putFake stores 3 MiB in a node of its own.
func putFake(ctx context.Context, t *testing.T, url string, idle time.Duration) error {
	t.Helper()
	s := openKubo(t, ipfs.KuboConfig{API: url, Idle: idle})
	_, err := s.Put(ctx, "n", func(add ipfs.AddFunc) (cid.Cid, error) {
		n, err := ipfs.AddFile(add, io.LimitReader(chacha(1), 3<<20))
		return n.CID, err
	})
	return err
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// lateError is how a node fails after it has said 200.
func lateError(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		io.WriteString(w, body)
		w.(http.Flusher).Flush()
		w.Header().Set("X-Stream-Error", "multipart: NextPart: EOF")
	}
}

// endless repeats a line for as long as somebody reads.
func endless(line string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for lines := strings.Repeat(line, 1000); ; {
			if _, err := io.WriteString(w, lines); err != nil {
				return
			}
		}
	}
}

func html(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	answer(http.StatusOK, "<html>Please log in</html>")(w, r)
}

// early answers before it has read the object.
func early(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, `{"Message":"no space left on device","Code":0,"Type":"error"}`)
	}
}

func forbidden(w http.ResponseWriter, r *http.Request) {
	http.Error(w, "403 - Forbidden", http.StatusForbidden)
}

func redirect(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "/api/v0/elsewhere", http.StatusTemporaryRedirect)
}

func reset(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }

const goodStats = `{"Stats":{"BlockCount":4,"BlockBytesCount":3145909}}`

// An import that does not end well is an error, and nothing is pinned.
func TestKuboImportFails(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"error in the trailer": lateError(goodStats),
		"no result":            answer(http.StatusOK, ""),
		"two results":          answer(http.StatusOK, goodStats+goodStats),
		"fewer blocks":         answer(http.StatusOK, `{"Stats":{"BlockCount":3,"BlockBytesCount":3145909}}`),
		"a root":               answer(http.StatusOK, `{"Root":{"Cid":{"/":"bafy"}}}`+goodStats),
		"not JSON":             answer(http.StatusOK, "Imported 4 blocks"),
		"HTML":                 html,
		"no type": func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = nil
			answer(200, goodStats)(w, r)
		},
		"redirect":      redirect,
		"500":           answer(http.StatusInternalServerError, `{"Message":"x","Code":0,"Type":"error"}`),
		"403":           forbidden,
		"500 at once":   early(http.StatusInternalServerError),
		"200 at once":   early(http.StatusOK),
		"reset":         reset,
		"endless":       endless("{}\n"),
		"endless value": endless("["),
	} {
		t.Run(name, func(t *testing.T) {
			n, url := startFake(t, map[string]http.HandlerFunc{"dag/import": h})
			if err := putFake(t.Context(), t, url, 0); !errors.Is(err, ipfs.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
			if n.called("pin/add") || n.called("elsewhere") {
				t.Errorf("calls: %v", n.calls)
			}
		})
	}
}

// A pin that does not end well is taken back, for it may be there.
func TestKuboPinFails(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"500":                  answer(http.StatusInternalServerError, `{"Message":"merkledag: not found","Code":0,"Type":"error"}`),
		"error in the trailer": func(w http.ResponseWriter, r *http.Request) { lateError(`{"Pins":["`+r.FormValue("arg")+`"]}`)(w, r) },
		"other CID":            answer(http.StatusOK, `{"Pins":["bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"]}`),
		"twice": func(w http.ResponseWriter, r *http.Request) {
			c := r.FormValue("arg")
			answer(200, `{"Pins":["`+c+`","`+c+`"]}`)(w, r)
		},
		"no result": answer(http.StatusOK, `{"Progress":4}`),
		"endless":   endless(`{"Progress":4}` + "\n"),
		"reset":     reset,
	} {
		t.Run(name, func(t *testing.T) {
			n, url := startFake(t, map[string]http.HandlerFunc{"pin/add": h})
			if err := putFake(t.Context(), t, url, 0); !errors.Is(err, ipfs.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
			if !n.called("pin/rm") {
				t.Errorf("calls: %v", n.calls)
			}
		})
	}
}

// A node that hangs costs the idle time, wherever it does.
func TestKuboHangs(t *testing.T) {
	for name, script := range map[string]map[string]http.HandlerFunc{
		"before the body": {"dag/import": hang},
		"in the body": {"dag/import": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
			hang(w, r)
		}},
		"after the body": {"dag/import": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			hang(w, r)
		}},
		"in the answer": {"dag/import": func(w http.ResponseWriter, r *http.Request) {
			answer(http.StatusOK, goodStats)(w, r)
			w.(http.Flusher).Flush()
			hang(w, r)
		}},
		"in the pin": {"pin/add": hang},
		"in a pin that says so": {"pin/add": func(w http.ResponseWriter, r *http.Request) {
			for tick := time.Tick(10 * time.Millisecond); ; <-tick {
				if _, err := io.WriteString(w, `{"Progress":7}`+"\n"); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				if r.Context().Err() != nil {
					return
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, url := startFake(t, script)
			if err := putFake(t.Context(), t, url, 300*time.Millisecond); !errors.Is(err, ipfs.ErrUnavailable) || !strings.Contains(err.Error(), "no progress") {
				t.Errorf("got %v, want ErrUnavailable for no progress", err)
			}
			// And where it may take long, the caller's context ends it.
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if err := putFake(ctx, t, url, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the context's error", err)
			}
		})
	}
}

// A source may be slower than the node is allowed to be.
func TestKuboSlowSource(t *testing.T) {
	_, url := startFake(t, nil)
	s := openKubo(t, ipfs.KuboConfig{API: url, Idle: 100 * time.Millisecond})
	_, err := s.Put(t.Context(), "n", func(add ipfs.AddFunc) (cid.Cid, error) {
		<-time.After(300 * time.Millisecond)
		n, err := ipfs.AddFile(add, strings.NewReader("slow"))
		<-time.After(300 * time.Millisecond)
		return n.CID, err
	})
	if err != nil {
		t.Error(err)
	}
}

// When the source fails, the request breaks off: its body must not come to an end.
func TestKuboAbortsRequest(t *testing.T) {
	for _, failure := range []error{errors.New("client gone"), io.EOF, io.ErrUnexpectedEOF} {
		ended := make(chan error, 1)
		_, url := startFake(t, map[string]http.HandlerFunc{"dag/import": func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			ended <- err
		}})
		s := openKubo(t, ipfs.KuboConfig{API: url})
		_, err := s.Put(t.Context(), "n", func(add ipfs.AddFunc) (cid.Cid, error) {
			_, err := ipfs.AddFile(add, strings.NewReader("half"))
			return cid.Undef, errors.Join(err, failure)
		})
		if !errors.Is(err, failure) {
			t.Errorf("got %v, want %v", err, failure)
		}
		if err := <-ended; err == nil {
			t.Errorf("%v: the node saw a whole body", failure)
		}
	}
}

// What a node gives for a block is bounded, and is what it says it is or an error.
func TestKuboGetFails(t *testing.T) {
	c := putFile(t, openEmbedded(t, t.TempDir()), strings.NewReader("x"))
	for name, test := range map[string]struct {
		h    http.HandlerFunc
		want error
	}{
		"endless":              {endless("0123456789"), ipfs.ErrCorrupt},
		"HTML":                 {html, ipfs.ErrUnavailable},
		"redirect":             {redirect, ipfs.ErrUnavailable},
		"hangs":                {hang, ipfs.ErrUnavailable},
		"error in the trailer": {lateError("x"), ipfs.ErrUnavailable},
		"other block":          {answer(http.StatusOK, "y"), ipfs.ErrCorrupt},
		"no block":             {answer(http.StatusOK, ""), ipfs.ErrCorrupt},
		"500":                  {answer(http.StatusInternalServerError, `{"Message":"x","Code":0,"Type":"error"}`), ipfs.ErrUnavailable},
		"endless 500":          {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500); endless(" ")(w, r) }, ipfs.ErrUnavailable},
		"not found": {answer(http.StatusInternalServerError,
			`{"Message":"block was not found locally (offline): ipld: could not find `+c.String()+`","Code":0,"Type":"error"}`), ipfs.ErrNotFound},
		"hash on read": {answer(http.StatusInternalServerError,
			`{"Message":"block in storage has different hash than requested","Code":0,"Type":"error"}`), ipfs.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			_, url := startFake(t, map[string]http.HandlerFunc{"block/get": test.h})
			s := openKubo(t, ipfs.KuboConfig{API: url, Idle: 300 * time.Millisecond})
			if got, err := readFile(t, s, c); !errors.Is(err, test.want) || len(got) > 0 {
				t.Errorf("got %q %v, want %v", got, err, test.want)
			}
		})
	}
}
