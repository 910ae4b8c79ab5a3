package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

const (
	// flatGrowth is what ten thousand mails may leave. Counters and the ledger's index are some kilobytes.
	flatGrowth = 2 << 20
	// idleMemory is for a client that says nothing, and its next hop: buffers of a line, and a goroutine. Resident memory comes in pages.
	idleMemory = 32 << 10
)

// Ten thousand mails, one in thirty with an attachment, leave memory where the first thousand of them left it.
func TestTenThousandMails(t *testing.T) {
	faults.Covers(t, 102)
	box := servers.NewMailbox(t)
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: box.Addr, policy: `min_size = "1KB"`})
	plain := []byte(untouchable["plain text"])
	attached := []byte(strings.Replace(textAndPDF, base64Lines(report.content), base64Lines(report.content[:5000]), 1))
	began := time.Now()
	send := func(mails int) {
		var all sync.WaitGroup
		var sent atomic.Int64
		for range 8 {
			all.Go(func() {
				c, err := servers.Dial(d.proxy, "")
				must(t, err)
				defer c.Close()
				for n := sent.Add(1); n <= int64(mails); n = sent.Add(1) {
					mail := plain
					if n%30 == 0 {
						mail = attached
					}
					if reply, err := c.Send(message(mail)); err != nil || !strings.HasPrefix(reply, "250 ") {
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
	first := d.heap(t)
	send(9000)
	last := d.heap(t)
	t.Logf("10,000 mails in %.1f s; heap after 1,000: %d KiB, after 10,000: %d KiB", time.Since(began).Seconds(), first>>10, last>>10)
	if last-first > flatGrowth {
		t.Errorf("9,000 mails left %d KiB", (last-first)>>10)
	}
	if got := len(box.Mails()); got != 10_000 {
		t.Errorf("%d mails were delivered, want all", got)
	}
}

var heapInUse = regexp.MustCompile(`(?m)^# (?:HeapInuse|Stack) = (\d+)`)

// heap is the memory of objects and stacks, after the collector has run.
func (d *detach) heap(t *testing.T) int64 {
	t.Helper()
	d.ask(t, "/debug/pprof/heap?gc=1") // what lies in a pool survives one run
	var sum int64
	for _, m := range heapInUse.FindAllStringSubmatch(d.ask(t, "/debug/pprof/heap?gc=1&debug=1"), -1) {
		n, err := strconv.ParseInt(m[1], 10, 64)
		must(t, err)
		sum += n
	}
	if sum == 0 {
		t.Fatal("no figures in the profile of the heap")
	}
	return sum
}

// As many idle clients as there may be, half of which have sent a mail, hold little. The next one is told 421 until one of them leaves.
func TestAllSessionsIdle(t *testing.T) {
	faults.Covers(t, 23, 101)
	box := servers.NewMailbox(t)
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: box.Addr, policy: `min_size = "1KB"`})
	servers.Send(t, d.proxy, "", message([]byte(textAndPDF))) // what is made once is no client's
	before, memory := d.heap(t), d.memory(t)
	var clients []*servers.Client
	for i := range sessions {
		c, err := servers.Dial(d.proxy, "")
		must(t, err)
		defer c.Close()
		mail := untouchable["plain text"]
		if i%4 == 0 {
			mail = textAndPDF
		}
		if i%2 == 0 {
			reply, err := c.Send(message([]byte(mail)))
			if err != nil || !strings.HasPrefix(reply, "250 ") {
				t.Fatalf("mail %d got %q, %v", i, reply, err)
			}
		} else if _, err := c.Cmd("EHLO client.example"); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	heap := (d.heap(t) - before) / sessions
	t.Logf("an idle client holds %d bytes of heap and stack, and %d of resident memory", heap, (d.memory(t)-memory)/sessions)
	if heap > idleMemory {
		t.Errorf("an idle client holds %d bytes, want at most %d", heap, idleMemory)
	}
	if _, err := servers.Dial(d.proxy, ""); err == nil || !strings.Contains(err.Error(), "421 4.3.2 ") {
		t.Errorf("one client more got %v, want 421", err)
	}
	clients[0].Cmd("QUIT")
	servers.Eventually(t, servers.Patience, "room for another client", d.takesMail)
}

// SIGTERM while mails are under way: each is finished or refused, none is lost or delivered in part, and the next detach takes the
// address at once.
func TestTermAndRestart(t *testing.T) {
	faults.Covers(t, 24)
	box := servers.NewMailbox(t)
	d := configure(t, setup{proxy: servers.FreeAddr(t), reinject: box.Addr})
	died := d.start(t)
	idle, err := servers.Dial(d.proxy, "")
	must(t, err)
	defer idle.Close()
	const mails = 20
	var all, half sync.WaitGroup
	half.Add(mails)
	goOn := make(chan struct{})
	for i := range mails {
		all.Go(func() {
			m := numbered{i, 40}
			c := envelope(t, d.proxy)
			defer c.Close()
			fmt.Fprint(c, m.head(), strings.Repeat(pageBase64, i*2))
			half.Done()
			<-goOn
			fmt.Fprint(c, strings.Repeat(pageBase64, m.pages-i*2), m.tail(), ".\r\n")
			if reply, err := c.Reply(); err != nil || !strings.HasPrefix(reply, "250 ") {
				t.Errorf("mail %d got %q, %v", i, reply, err)
			}
			if reply, err := c.Cmd("NOOP"); err == nil && !strings.HasPrefix(reply, "421 ") {
				t.Errorf("after its mail client %d got %q, want 421", i, reply)
			}
		})
	}
	half.Wait()
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	if reply, err := idle.Reply(); err != nil || !strings.HasPrefix(reply, "421 4.3.2 ") {
		t.Errorf("an idle client got %q, %v, want 421", reply, err)
	}
	if c, err := servers.Dial(d.proxy, ""); err == nil {
		c.Close()
		t.Error("a new client is served after SIGTERM")
	}
	close(goOn)
	all.Wait()
	if err := <-died; err != nil {
		t.Errorf("detach serve ended with %v", err)
	}
	died <- nil
	if got := len(byNumber(t, box)); got != mails {
		t.Errorf("%d mails were delivered, want %d", got, mails)
	}
	d.start(t)
	if reply := servers.Send(t, d.proxy, "", message([]byte(textAndPDF))); !strings.HasPrefix(reply, "250 ") {
		t.Errorf("after the restart a mail got %q", reply)
	}
}

// A mail that passes a second time has nothing left to detach, and is the same byte for byte.
func TestTwiceIsOnce(t *testing.T) {
	faults.Covers(t, 72)
	box := servers.NewMailbox(t)
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: box.Addr, policy: `min_size = "1"`})
	for _, mail := range []string{textAndPDF, alternativeAndTwo, scannersPDF} {
		for range 2 {
			if reply := servers.Send(t, d.proxy, "", message([]byte(mail))); !strings.HasPrefix(reply, "250 ") {
				t.Fatalf("got %q", reply)
			}
			mails := box.Mails()
			before := mail
			mail = string(mails[len(mails)-1].Data)
			if len(mails)%2 == 0 && mail != before {
				t.Errorf("the second time changed it:\n%s\n\nit was\n\n%s", mail, before)
			}
		}
	}
}

// Two that lead to each other: neither takes mail, and both live. Each new connection makes another one at the other, until they
// have no more sessions.
func TestTwoThatLeadToEachOther(t *testing.T) {
	faults.Covers(t, 36)
	one, other := servers.FreeAddr(t), servers.FreeAddr(t)
	pair := []*detach{
		configure(t, setup{proxy: one, reinject: other}),
		configure(t, setup{proxy: other, reinject: one}),
	}
	for _, d := range pair {
		d.hopless = true
		d.start(t)
	}
	began := time.Now()
	for _, d := range pair {
		if _, err := servers.Dial(d.proxy, ""); err == nil || !strings.Contains(err.Error(), "421 4.3.2 ") {
			t.Errorf("a client got %v, want 421", err)
		}
	}
	if took := time.Since(began); took > servers.Patience {
		t.Errorf("two clients were refused in %v", took)
	}
	for _, d := range pair {
		text := d.ask(t, "/metrics")
		if m := sessionsTotal.FindStringSubmatch(text); m == nil || len(m[1]) > 4 {
			t.Errorf("two clients made this many sessions: %q", m)
		}
	}
}

var sessionsTotal = regexp.MustCompile(`(?m)^detach_smtp_sessions_total (\S+)$`)
