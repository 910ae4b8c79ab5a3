package load

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

const (
	sessions = 200 // detach's own limit
	// crowdMemory is for that many mails of 10 MB together, and for that many attachments of 50 MB
	// that are all half received.
	crowdMemory = 256 << 20
)

// Two hundred clients send 10 MB each, all together: every mail is delivered with its link.
func TestTwoHundredMailsTogether(t *testing.T) {
	faults.Covers(t, 101)
	python := stage.StartDecoder(t)
	d := stage.Serve(t, stage.Setup{})
	began := time.Now()
	var all sync.WaitGroup
	for i := range sessions {
		all.Go(func() {
			if reply := servers.Send(t, d.Proxy, "", stage.Stream(stage.Numbered{Number: i, Pages: 180}.Reader())); !strings.HasPrefix(reply, "250 ") {
				t.Errorf("mail %d got %q", i, reply)
			}
		})
	}
	all.Wait()
	took, most := time.Since(began), d.PeakMemory(t)
	t.Logf("%d mails of %d bytes together: %.1f s, at most %d MiB", sessions, stage.Numbered{Pages: 180}.Size(), took.Seconds(), most>>20)
	if most >= crowdMemory {
		t.Errorf("serve had %d MiB, want less than %d", most>>20, crowdMemory>>20)
	}
	mails := stage.ByNumber(t, d.Box)
	if len(mails) != sessions {
		t.Fatalf("%d different mails were delivered, want %d", len(mails), sessions)
	}
	for number, mail := range mails {
		if l := python.Parse(t, mail).Link(t); number%10 == 0 && stage.FileHash(t, l) != (stage.Numbered{Number: number, Pages: 180}).SHA256() {
			t.Errorf("mail %d has another attachment now", number)
		}
	}
}

// Two hundred attachments of 50 MB are half received at the same moment, each up to another place
// in a block. Then ten clients go on and the others leave: ten mails are delivered whole, and
// nothing is left of the others.
func TestTwoHundredHalfReceivedMails(t *testing.T) {
	faults.Covers(t, 17, 101)
	python := stage.StartDecoder(t)
	d := stage.Serve(t, stage.Setup{Policy: "restore = false"})
	const pages, pause, every = 900, 36, 20
	var open, all sync.WaitGroup
	goOn := make(chan struct{})
	open.Add(sessions)
	for i := range sessions {
		all.Go(func() {
			halt := sync.OnceFunc(func() { open.Done(); <-goOn })
			defer halt()
			m := stage.Numbered{Number: i, Pages: pages}
			c := stage.Begin(t, d.Proxy)
			defer c.Close()
			io.WriteString(c, m.Head())
			for p := range pages {
				if p == pause+i%18 { // 18 pages are a block
					if halt(); i%every != 0 {
						return
					}
				}
				io.WriteString(c, stage.PageBase64)
			}
			io.WriteString(c, m.Tail()+".\r\n")
			c.Want(t, "250")
		})
	}
	open.Wait()
	servers.Eventually(t, servers.Patience, "every attachment to be on its way", func() bool { return len(d.Objects(t)) == sessions })
	most := d.PeakMemory(t)
	close(goOn)
	all.Wait()
	t.Logf("%d attachments of %d bytes half received: at most %d MiB, and %d at the end", sessions, stage.Numbered{Pages: pages}.Size(), most>>20, d.PeakMemory(t)>>20)
	if most >= crowdMemory {
		t.Errorf("serve had %d MiB, want less than %d", most>>20, crowdMemory>>20)
	}
	servers.Eventually(t, servers.Patience, "the other clients' objects to go", func() bool { return len(d.Objects(t)) == sessions/every })
	mails := stage.ByNumber(t, d.Box)
	if len(mails) != sessions/every {
		t.Errorf("%d mails were delivered, want %d", len(mails), sessions/every)
	}
	for number, mail := range mails {
		if l := python.Parse(t, mail).Link(t); number == 0 && stage.FileHash(t, l) != (stage.Numbered{Pages: pages}).SHA256() {
			t.Error("mail 0 has another attachment now")
		}
	}
}

// A store that takes 1 MB a second holds the sender back: the sender is ahead of the store by a few
// buffers at most.
func TestSlowStoreHoldsTheSenderBack(t *testing.T) {
	faults.Covers(t, 52, 101)
	slow := stage.NewWire(t, strings.TrimPrefix(servers.Kubo(t).URL(), "http://"))
	slow.Slow(1_000_000)
	d := stage.Serve(t, stage.Setup{Kubo: servers.Multiaddr(slow.Addr), Policy: "restore = false"})
	const pages = 340 // 20 MB
	before, taken := d.Memory(t), slow.Came(stage.There)
	var most, ahead int64
	c := stage.Begin(t, d.Proxy)
	defer c.Close()
	stage.Must(t, c.Conn.(*net.TCPConn).SetWriteBuffer(64<<10))
	began := time.Now()
	m := stage.Numbered{Pages: pages}
	io.WriteString(c, m.Head())
	for p := range pages {
		_, err := io.WriteString(c, stage.PageBase64)
		stage.Must(t, err)
		ahead = max(ahead, int64(p+1)*int64(len(stage.Page))-(slow.Came(stage.There)-taken))
		most = max(most, d.Memory(t)-before)
	}
	sent := time.Since(began)
	io.WriteString(c, m.Tail()+".\r\n")
	c.Want(t, "250")
	t.Logf("%d bytes at 1 MB/s: sent in %.1f s, answered after %.1f s; the sender was ahead by %d KiB at most, and detach grew by %d KiB",
		m.Size(), sent.Seconds(), time.Since(began).Seconds(), ahead>>10, most>>10)
	if ahead > 8<<20 || most > 8<<20 {
		t.Errorf("the sender was %d KiB ahead of the store, and detach grew by %d KiB: want at most 8192", ahead>>10, most>>10)
	}
}
