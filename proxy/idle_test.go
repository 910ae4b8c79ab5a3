package proxy

import (
	"bufio"
	"net"
	"runtime"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// idleLimit is the memory of one idle connection and its connection to the next hop: a buffer for a
// line each way, and a goroutine.
const idleLimit = 24 << 10

// A thousand idle clients cost little, and keep no other client waiting. Half of them have sent a
// mail before, whose memory is given back. The baseline is the same clients connected to the next
// hop itself, because clients and next hop are in this process too.
func TestAThousandIdleClientsCostLittle(t *testing.T) {
	faults.Covers(t, 23, 101)
	const many = 1000
	r := newRig(t, func(cfg *Config) { cfg.MaxSessions = many + 1 })
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
		r.hop.forget()
		return inUse() - before, runtime.NumGoroutine() - running
	}
	direct, directGoroutines := crowd(r.server.cfg.NextHop)
	through, goroutines := crowd(r.addr)
	per := (through - direct) / many
	t.Logf("%d bytes and %d goroutine for each idle connection", per, (goroutines-directGoroutines)/many)
	if per > idleLimit {
		t.Errorf("an idle connection has %d bytes, want at most %d", per, idleLimit)
	}
	if goroutines-directGoroutines > many+10 {
		t.Errorf("%d idle connections have %d goroutines", many, goroutines-directGoroutines)
	}
	r.envelope().data(attachmentMail(10_000), "250") // while the idle clients stay
}

// inUse returns how much memory objects and stacks use.
func inUse() int {
	runtime.GC()
	runtime.GC() // a pool keeps its contents for one collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}
