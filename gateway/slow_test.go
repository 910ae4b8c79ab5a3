package gateway

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Who begins a request and does not end it is cut off, whatever is asked for and however slowly it goes on. The time is that of a
// bubble, with the timeouts of production.
func TestFault89_RequestWithoutEnd(t *testing.T) {
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
				c, end := onPipe(New(Config{BaseURL: "https://files.example.org" + prefix}, nil, slog.New(slog.DiscardHandler)))
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

// A body that is of no use is no harm, if it ends.
func TestBodyOfNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, end := onPipe(New(Config{BaseURL: "https://files.example.org" + prefix}, nil, slog.New(slog.DiscardHandler)))
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

// onPipe serves one connection as the command does, and returns the client's end of it.
func onPipe(handler http.Handler) (c net.Conn, end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ours, theirs := net.Pipe()
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	conns := make(chan net.Conn, 1)
	conns <- theirs
	go srv.Serve(&pipeListener{conns, ctx})
	return ours, func() {
		ours.Close()
		cancel()
		srv.Close()
		time.Sleep(time.Second) // in the bubble; the server itself lingers for less
	}
}

type pipeListener struct {
	conns chan net.Conn
	ctx   context.Context
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }
