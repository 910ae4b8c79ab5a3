package e2e

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// tap stands between a browser and the gateway.
type tap struct {
	url     string       // to come in by
	brought atomic.Int64 // bytes, to the browser
}

// startTap asks over, when a connection has brought so many bytes to the browser, whether it goes on; if not, it is reset.
func startTap(t *testing.T, gateway string, limit int64, over func() bool) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &tap{url: "http://" + l.Addr().String()}
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
				counted := io.TeeReader(to, p)
				if _, err := io.CopyN(c, counted, limit); err != nil {
					return
				}
				if !over() {
					c.(*net.TCPConn).SetLinger(0)
					return
				}
				io.Copy(c, counted)
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
	return p
}

func (p *tap) Write(b []byte) (int, error) {
	p.brought.Add(int64(len(b)))
	return len(b), nil
}

// through is a link by way of the tap.
func (p *tap) through(l link) string { return p.url + l.url[strings.Index(l.url, "/baf"):] }
