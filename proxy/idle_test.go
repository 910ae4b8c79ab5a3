package proxy

import (
	"bufio"
	"log/slog"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/race"
	"github.com/nkirchhoffer/detach-mta/internal/transaction/transactiontest"
)

// idleLimit bounds the memory of an idle session: a buffer for a line each way, and a goroutine.
const idleLimit = 24 << 10

// A thousand idle clients cost little, and keep no other client waiting. Half of them have sent a
// mail, whose memory is given back. The baseline is as many clients of the next hop itself, because
// clients and next hop are in this process too.
func TestAThousandIdleClientsCostLittle(t *testing.T) {
	faults.Covers(t, 23, 101)
	const many = 1000
	hop := newHop()
	behind := hop.listen(t)
	server := New(Config{NextHop: behind, MaxSessions: many + 1, Mail: detach(&transactiontest.Store{}, 1, "")}, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	go server.Serve(l)
	defer server.Shutdown(t.Context())
	idle := func(addr string) (c *client) {
		conn, err := net.Dial("tcp", addr)
		must.Succeed(t, err)
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
	direct, directGoroutines := crowd(behind)
	through, goroutines := crowd(l.Addr().String())
	per := (through - direct) / many
	t.Logf("%d bytes and %d goroutine for each idle connection", per, (goroutines-directGoroutines)/many)
	if per > idleLimit && !race.Enabled { // the race detector's memory counts too
		t.Errorf("an idle connection has %d bytes, want at most %d", per, idleLimit)
	}
	if goroutines-directGoroutines > many+10 {
		t.Errorf("%d idle connections have %d goroutines", many, goroutines-directGoroutines)
	}
	other := idle(l.Addr().String())
	other.SetDeadline(time.Now().Add(patience)) // the idle clients stay for five minutes
	other.mail()
	other.data(attachmentMail(10_000), "250")
}

// inUse returns how much memory objects and stacks use.
func inUse() int {
	runtime.GC()
	runtime.GC() // a pool keeps its contents for one collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}
