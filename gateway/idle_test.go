package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// If more connections idle than may, those that have idled longest are closed. A connection with a
// request stays open.
func TestIdleConnectionsAreBounded(t *testing.T) {
	faults.Covers(t, 89)
	const more = 50
	begun, end := make(chan bool), make(chan bool)
	settled := make(chan bool, 2*(maxIdle+more)+10) // a connection has no request: it is new, or idle
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			begun <- true
			<-end
		}
	}))
	note := ConnState()
	srv.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if note(c, s); s == http.StateNew || s == http.StateIdle {
			settled <- true
		}
	}
	srv.Start()
	defer srv.Close()
	finish := sync.OnceFunc(func() { close(end) })
	defer finish() // the server waits for the request
	dial := func() net.Conn {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		check(t, err)
		t.Cleanup(func() { c.Close() })
		<-settled
		return c
	}
	ask := func(c net.Conn, path string) {
		_, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		check(t, err)
	}
	answered := func(c net.Conn) error {
		c.SetReadDeadline(time.Now().Add(time.Minute))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	busy := dial()
	ask(busy, "/slow")
	<-begun
	var idle []net.Conn
	for i := range maxIdle + more {
		c := dial()
		if idle = append(idle, c); i%2 == 0 { // the others never ask
			ask(c, "/")
			check(t, answered(c))
			<-settled // a client has the answer before its connection is idle
		}
	}
	for _, c := range idle[:more] {
		c.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := c.Read(make([]byte, 1)); err == nil || n > 0 {
			t.Fatalf("an old connection is open: %d, %v", n, err)
		} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Fatal("an old connection is open")
		}
	}
	newest := idle[len(idle)-1]
	ask(newest, "/")
	check(t, answered(newest))
	finish()
	check(t, answered(busy))
}
