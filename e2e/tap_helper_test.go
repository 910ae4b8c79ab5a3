package e2e

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// startTap stands between a browser and the gateway, and returns the URL to come in by. When a connection has brought so many bytes
// to the browser, over is asked whether it goes on; if not, it is reset.
func startTap(t *testing.T, gateway string, limit int64, over func() bool) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", strings.TrimPrefix(gateway, "http://"))
			if err != nil {
				c.Close()
				continue
			}
			mu.Lock()
			open = append(open, c, to)
			mu.Unlock()
			running.Go(func() {
				io.Copy(to, c)
				to.Close()
			})
			running.Go(func() {
				defer c.Close()
				defer to.Close()
				if _, err := io.CopyN(c, to, limit); err != nil {
					return
				}
				if !over() {
					c.(*net.TCPConn).SetLinger(0)
					return
				}
				io.Copy(c, to)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return "http://" + l.Addr().String()
}
