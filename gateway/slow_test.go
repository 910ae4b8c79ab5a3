package gateway

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/pipes"
)

// These tests run in synctest bubbles, over pipes, with the timeouts of production.

// A store that stalls before the first byte causes a 503. Later it breaks the download off.
func TestStalledStoreEndsTheRequest(t *testing.T) {
	faults.Covers(t, 87)
	f := newFixture(t, 0)
	file := f.ticket(f.put("report.pdf", noise(5<<20)))
	for _, c := range []struct {
		name string
		get  func(context.Context, int, []byte) ([]byte, error)
		want int
	}{
		{"at the directory", atBlock(1, 0, hang), http.StatusServiceUnavailable},
		{"at the first leaf", atLeaf(1, hang), http.StatusServiceUnavailable},
		{"at the second leaf", atLeaf(2, hang), http.StatusOK},
	} {
		f.store.fail(nil, c.get)
		synctest.Test(t, func(t *testing.T) {
			conn, end := f.onPipe(&http.Server{})
			defer end()
			began := time.Now()
			resp := ask(t, conn, file)
			wantStatus(t, resp, c.want)
			_, err := io.ReadAll(resp.Body)
			if took := time.Since(began); took != 20*time.Second {
				t.Errorf("%s: after %v", c.name, took)
			}
			if c.want == http.StatusOK && err == nil {
				t.Errorf("%s: the download ended as if it were whole", c.name)
			}
			if c.want != http.StatusOK {
				wantHeader(t, resp, "Retry-After", retryAfter)
			}
		})
	}
}

// A client that does not read its answer is disconnected, and only a few blocks are read for it.
func TestStalledReaderIsSentAway(t *testing.T) {
	faults.Covers(t, 89)
	f := newFixture(t, 0)
	file := f.ticket(f.put("report.pdf", noise(24<<20)))
	blocks := 0
	f.store.fail(nil, func(_ context.Context, _ int, data []byte) ([]byte, error) {
		blocks++
		return data, nil
	})
	synctest.Test(t, func(t *testing.T) {
		conn, end := f.onPipe(&http.Server{})
		defer end()
		io.WriteString(conn, "GET "+prefix+file+" HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err := conn.Read(make([]byte, 1))
		check(t, err)
		time.Sleep(60*time.Second - time.Millisecond)
		synctest.Wait()
		wantNoText(t, "the log before the timeout", f.logs.String(), "client gone")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		wantText(t, "the log", f.logs.String(), "client gone")
	})
	if blocks > 5 {
		t.Errorf("%d blocks were read for a client that does not read", blocks)
	}
}

// A client gets the whole file if it takes each MiB within four minutes, and is disconnected if it
// takes each buffer just in time.
func TestSlowReaderMustKeepAPace(t *testing.T) {
	faults.Covers(t, 89)
	f := newFixture(t, 0)
	content := noise(3 << 20)
	file := f.ticket(f.put("report.pdf", content))
	for pause, want := range map[time.Duration]string{
		29 * time.Second: "served",
		55 * time.Second: "client gone",
	} {
		synctest.Test(t, func(t *testing.T) {
			conn, end := f.onPipe(&http.Server{})
			defer end()
			resp := ask(t, conn, file)
			began, got := time.Now(), 0
			for {
				n, err := io.ReadFull(resp.Body, make([]byte, bufferSize))
				if got += n; err != nil {
					break
				}
				time.Sleep(pause)
			}
			took := time.Since(began)
			if whole := got == len(content); whole != (want == "served") || !whole && took > 5*time.Minute {
				t.Errorf("a buffer in %v: %d bytes of %d in %v, want it %s", pause, got, len(content), took, want)
			}
		})
		wantText(t, "the log", f.logs.String(), "gateway: "+want)
	}
}

// The server's own timeouts, which do not move with progress, must not end a download.
func TestServerTimeoutsDoNotEndADownload(t *testing.T) {
	f := newFixture(t, 0)
	content := noise(4 << 20)
	file := f.ticket(f.put("report.pdf", content))
	f.store.fail(nil, atLeaf(1, func(ctx context.Context, data []byte) ([]byte, error) {
		select {
		case <-time.After(10 * time.Second):
			return data, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}))
	synctest.Test(t, func(t *testing.T) {
		conn, end := f.onPipe(&http.Server{ReadTimeout: 15 * time.Second, WriteTimeout: 15 * time.Second})
		defer end()
		if got := readAll(t, ask(t, conn, file)); !bytes.Equal(got, content) {
			t.Error("got other bytes")
		}
	})
}

// ask sends one request and reads the beginning of its answer.
func ask(t *testing.T, conn net.Conn, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, prefix+path, nil)
	check(t, err)
	go req.Write(conn)
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	check(t, err)
	return resp
}

// A request whose body does not end in time is cut off, also if bytes still arrive.
func TestEndlessRequestIsCutOff(t *testing.T) {
	faults.Covers(t, 89)
	f := newFixture(t, 0)
	const host = " HTTP/1.1\r\nHost: files.example.org\r\n"
	for _, head := range []string{
		"GET /mail/" + host + "Content-Length: 1000\r\n\r\n",
		"GET /mail/robots.txt" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\n",
		"HEAD /mail/robots.txt" + host + "Content-Length: 1\r\n\r\n",
		"POST /mail/" + host + "Content-Length: 1000\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\nkey=",
		"POST /nowhere" + host + "Content-Length: 1000\r\n\r\n",
		"PUT /mail/" + host + "Content-Length: 200000\r\n\r\n",
		"PUT /mail/" + host + "Content-Length: 1000000000000\r\n\r\n",
	} {
		for _, drip := range []string{"", "x"} {
			synctest.Test(t, func(t *testing.T) {
				c, end := f.onPipe(&http.Server{ReadHeaderTimeout: 10 * time.Second})
				defer end()
				go func() {
					_, err := io.WriteString(c, head)
					for err == nil && drip != "" {
						time.Sleep(time.Second)
						_, err = io.WriteString(c, drip)
					}
				}()
				c.SetReadDeadline(time.Now().Add(time.Hour))
				began := time.Now()
				answer, _ := io.ReadAll(c)
				if took := time.Since(began); took > formTimeout+time.Second {
					t.Errorf("%.40q, dripping %q: cut off after %v, with %.40q", head, drip, took, answer)
				}
			})
		}
	}
}

// A request may have a body that its handler does not read.
func TestUselessBodyDoesNoHarm(t *testing.T) {
	f := newFixture(t, 0)
	synctest.Test(t, func(t *testing.T) {
		c, end := f.onPipe(&http.Server{})
		defer end()
		const one = "GET /mail/robots.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
		const last = "GET /mail/robots.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		go io.WriteString(c, one+one+last)
		answer, err := io.ReadAll(c)
		if n := strings.Count(string(answer), "HTTP/1.1 200 OK\r\n"); err != nil || n != 3 {
			t.Errorf("%d answers, %v, want 3: %q", n, err, answer)
		}
	})
}

// onPipe serves one connection, and returns its client's end.
func (f *fixture) onPipe(srv *http.Server) (c net.Conn, end func()) {
	srv.Handler = f.handler(f.vault, Config{})
	l := pipes.Listen()
	go srv.Serve(l)
	c, _ = l.Dial(context.Background()) // succeeds: the listener is open
	return c, func() {
		c.Close()
		srv.Close()
		time.Sleep(time.Second) // in the bubble; the server itself lingers for less
	}
}
