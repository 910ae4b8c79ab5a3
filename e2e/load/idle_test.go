package load

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

const (
	// flatGrowth is for nine thousand mails. Counters and the ledger's index are some kilobytes.
	flatGrowth = 2 << 20
	// idleMemory is for an idle client and its connection to the next hop: line buffers and
	// goroutines.
	idleMemory = 32 << 10
)

// After ten thousand mails, one in thirty with an attachment, detach has as much memory as after
// the first thousand.
func TestMemoryStaysAfterTenThousandMails(t *testing.T) {
	faults.Covers(t, 102)
	d := stage.Serve(t, stage.Setup{Policy: `min_size = "1KB"`})
	plain := stage.Untouchable["plain text"]
	attached := strings.Replace(stage.TextAndPDF, stage.Base64Lines(stage.Report.Content), stage.Base64Lines(stage.Report.Content[:5000]), 1)
	began := time.Now()
	send := func(mails int) {
		var all sync.WaitGroup
		var sent atomic.Int64
		for range 8 {
			all.Go(func() {
				c := servers.Connect(t, d.Proxy)
				for n := sent.Add(1); n <= int64(mails); n = sent.Add(1) {
					mail := plain
					if n%30 == 0 {
						mail = attached
					}
					if reply, err := c.Send(stage.Message(mail)); err != nil || !strings.HasPrefix(reply, "250 ") {
						t.Errorf("got %q, %v", reply, err)
						return
					}
				}
				c.Cmd("QUIT")
			})
		}
		all.Wait()
	}
	send(1000)
	first := heap(t, d)
	send(9000)
	last := heap(t, d)
	t.Logf("10,000 mails in %.1f s; heap after 1,000: %d KiB, after 10,000: %d KiB", time.Since(began).Seconds(), first>>10, last>>10)
	if last-first > flatGrowth {
		t.Errorf("9,000 mails left %d KiB", (last-first)>>10)
	}
	d.Box.Want(t, 10_000)
}

var heapInUse = regexp.MustCompile(`(?m)^# (?:HeapInuse|Stack) = (\d+)`)

// heap returns the memory of objects and stacks, after the collector has run.
func heap(t *testing.T, d *stage.Detach) int64 {
	t.Helper()
	d.Ask(t, "/debug/pprof/heap?gc=1") // objects in a pool survive one run
	var sum int64
	for _, m := range heapInUse.FindAllStringSubmatch(d.Ask(t, "/debug/pprof/heap?gc=1&debug=1"), -1) {
		n, err := strconv.ParseInt(m[1], 10, 64)
		stage.Must(t, err)
		sum += n
	}
	if sum == 0 {
		t.Fatal("no figures in the profile of the heap")
	}
	return sum
}

// The largest allowed number of idle clients, half of which have sent a mail, takes little memory.
// The next client gets 421 until one of them leaves.
func TestIdleSessionsTakeLittleMemory(t *testing.T) {
	faults.Covers(t, 23, 101)
	d := stage.Serve(t, stage.Setup{Policy: `min_size = "1KB"`})
	servers.Send(t, d.Proxy, "", stage.Message(stage.TextAndPDF)) // some memory is taken once for all clients
	before, memory := heap(t, d), d.Memory(t)
	var clients []*servers.Client
	for i := range sessions {
		c := servers.Connect(t, d.Proxy)
		mail := stage.Untouchable["plain text"]
		if i%4 == 0 {
			mail = stage.TextAndPDF
		}
		if i%2 == 0 {
			reply, err := c.Send(stage.Message(mail))
			if err != nil || !strings.HasPrefix(reply, "250 ") {
				t.Fatalf("mail %d got %q, %v", i, reply, err)
			}
		} else if _, err := c.Cmd("EHLO client.example"); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	heap := (heap(t, d) - before) / sessions
	t.Logf("an idle client holds %d bytes of heap and stack, and %d of resident memory", heap, (d.Memory(t)-memory)/sessions)
	if heap > idleMemory {
		t.Errorf("an idle client holds %d bytes, want at most %d", heap, idleMemory)
	}
	if _, err := servers.Dial(d.Proxy, ""); err == nil || !strings.Contains(err.Error(), "421 4.3.2 ") {
		t.Errorf("one client more got %v, want 421", err)
	}
	clients[0].Cmd("QUIT")
	servers.Eventually(t, servers.Patience, "room for another client", d.TakesMail)
}
