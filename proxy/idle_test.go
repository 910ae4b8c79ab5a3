package proxy

import (
	"bufio"
	"log/slog"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
)

// idleLimit is for one connection that says nothing, with its connection to the next hop: a line each way and a goroutine.
const idleLimit = 24 << 10

// A thousand clients that say nothing more cost little, and keep nobody else waiting. Half of them have sent a mail before: what
// that took is given back. The same clients straight at the next hop are the measure, for both are in this process too.
func TestAThousandIdle(t *testing.T) {
	faults.Covers(t, 23, 101)
	const many = 1000
	hop := newHop()
	addr := hop.listen(t)
	store := &store{}
	server := New(Config{NextHop: addr, MaxSessions: many + 1, Policy: rewrite.Policy{MinSize: 1, Language: "en"}}, store.begin, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	defer server.Shutdown(t.Context())

	idle := func(addr string) (c *client) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		c = &client{t: t, Conn: conn, r: bufio.NewReader(conn)}
		c.expect("220")
		c.want("EHLO client.example", "250")
		return c
	}
	crowd := func(addr string) (bytes, goroutines int) {
		before, running := inUse(), runtime.NumGoroutine()
		for i := range many {
			if c := idle(addr); i%2 == 1 {
				c.mail()
				c.data([]string{plainMail, attachmentMail(10_000)}[i/2%2], "250")
			}
		}
		hop.forget()
		return inUse() - before, runtime.NumGoroutine() - running
	}
	direct, directGoroutines := crowd(addr)
	through, goroutines := crowd(l.Addr().String())
	per := (through - direct) / many
	t.Logf("%d bytes and %d goroutine for each idle connection", per, (goroutines-directGoroutines)/many)
	if per > idleLimit {
		t.Errorf("an idle connection has %d bytes, want at most %d", per, idleLimit)
	}
	if goroutines-directGoroutines > many+10 {
		t.Errorf("%d idle connections have %d goroutines", many, goroutines-directGoroutines)
	}
	began := time.Now()
	other := idle(l.Addr().String())
	other.mail()
	other.data(attachmentMail(10_000), "250")
	if d := time.Since(began); d > patience { // the idle ones stay for five minutes
		t.Errorf("another client waited %v", d)
	}
}

// inUse is the memory of objects and of stacks that is not free.
func inUse() int {
	runtime.GC()
	runtime.GC() // pools keep what was put back for one more round
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}
