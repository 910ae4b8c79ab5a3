package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

const (
	sessions = 200 // detach's own limit
	// crowdMemory is for that many mails of 10 MB at once. Some of them are nearly there when others begin.
	crowdMemory = 512 << 20
	// openMemory is for that many attachments of 50 MB that are all in the middle: 1.1 MiB for each, of which 1 MiB is the block
	// that it fills, and what Go's collector leaves for a while.
	openMemory = 384 << 20
)

// Two hundred clients, each with an attachment of 10 MB, all at once: every mail is delivered with its link.
func TestTwoHundredMails(t *testing.T) {
	faults.Covers(t, 101)
	python := startDecoder(t)
	box := servers.NewMailbox(t)
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: box.Addr})
	began := time.Now()
	var all sync.WaitGroup
	for i := range sessions {
		all.Go(func() {
			m := message(nil)
			m.Data = numbered{i, 180}.reader()
			if reply := servers.Send(t, d.proxy, "", m); !strings.HasPrefix(reply, "250 ") {
				t.Errorf("mail %d got %q", i, reply)
			}
		})
	}
	all.Wait()
	took, most := time.Since(began), d.peakMemory(t)
	t.Logf("%d mails of %d bytes at once: %.1f s, at most %d MiB", sessions, numbered{pages: 180}.size(), took.Seconds(), most>>20)
	if most >= crowdMemory {
		t.Errorf("serve had %d MiB, want less than %d", most>>20, crowdMemory>>20)
	}
	mails := byNumber(t, box)
	if len(mails) != sessions {
		t.Fatalf("%d different mails were delivered, want %d", len(mails), sessions)
	}
	for number, mail := range mails {
		links := python.parse(t, mail).links()
		if len(links) != 1 {
			t.Fatalf("mail %d has %d links, want 1", number, len(links))
		}
		if number%10 == 0 && fileHash(t, links[0]) != (numbered{number, 180}).sha256() {
			t.Errorf("mail %d has another attachment now", number)
		}
	}
}

// Two hundred attachments of 50 MB, all of them in the middle at the same moment, each at another place of its block. Ten of the
// clients go on then and the others go away: ten mails are delivered whole, and nothing of the others is left.
func TestTwoHundredOpenMails(t *testing.T) {
	faults.Covers(t, 17, 101)
	python := startDecoder(t)
	box := servers.NewMailbox(t)
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: box.Addr, policy: "restore = false"})
	const pages, pause, every = 900, 36, 20
	var open, all sync.WaitGroup
	goOn := make(chan struct{})
	open.Add(sessions)
	for i := range sessions {
		all.Go(func() {
			halt := sync.OnceFunc(func() { open.Done(); <-goOn })
			defer halt()
			m := numbered{i, pages}
			c := envelope(t, d.proxy)
			defer c.Close()
			io.WriteString(c, m.head())
			for p := range pages {
				if p == pause+i%18 { // 18 pages are a block
					if halt(); i%every != 0 {
						return
					}
				}
				io.WriteString(c, pageBase64)
			}
			io.WriteString(c, m.tail()+".\r\n")
			if reply, err := c.Reply(); err != nil || !strings.HasPrefix(reply, "250 ") {
				t.Errorf("mail %d got %q, %v", i, reply, err)
			}
		})
	}
	open.Wait()
	servers.Eventually(t, servers.Patience, "every attachment to be on its way", func() bool { return len(d.objects(t)) == sessions })
	most := d.peakMemory(t)
	close(goOn)
	all.Wait()
	t.Logf("%d attachments of %d bytes open at once: at most %d MiB, and %d at the end", sessions, numbered{pages: pages}.size(), most>>20, d.peakMemory(t)>>20)
	if most >= openMemory {
		t.Errorf("serve had %d MiB, want less than %d", most>>20, openMemory>>20)
	}
	servers.Eventually(t, servers.Patience, "the other clients' objects to go", func() bool { return len(d.objects(t)) == sessions/every })
	mails := byNumber(t, box)
	if len(mails) != sessions/every {
		t.Errorf("%d mails were delivered, want %d", len(mails), sessions/every)
	}
	for number, mail := range mails {
		links := python.parse(t, mail).links()
		if len(links) != 1 || number == 0 && fileHash(t, links[0]) != (numbered{number, pages}).sha256() {
			t.Errorf("mail %d has %d links, or another attachment now", number, len(links))
		}
	}
}

// envelope is a client that may send its message now.
func envelope(t *testing.T, addr string) *servers.Client {
	t.Helper()
	c, err := servers.Dial(addr, "")
	must(t, err)
	for _, line := range []string{"EHLO client.example", "MAIL FROM:<" + sender + ">", "RCPT TO:<" + recipient + ">", "DATA"} {
		if reply, err := c.Cmd("%s", line); err != nil || reply[0] > '3' {
			t.Errorf("%s: %q, %v", line, reply, err)
		}
	}
	return c
}

// byNumber is what was delivered, by the number in the text.
func byNumber(t *testing.T, box *servers.Mailbox) map[int][]byte {
	t.Helper()
	mails := make(map[int][]byte)
	for _, mail := range box.Mails() {
		m := numberInMail.FindSubmatch(mail.Data)
		if m == nil {
			t.Fatalf("a mail without a number: %.300s", mail.Data)
		}
		number, err := strconv.Atoi(string(m[1]))
		must(t, err)
		if mails[number] != nil {
			t.Errorf("mail %d was delivered twice", number)
		}
		mails[number] = mail.Data
	}
	return mails
}

// A store that takes 1 MB a second gets its way: the sender can be ahead of it by what a few buffers hold, and no more.
func TestSlowStore(t *testing.T) {
	faults.Covers(t, 52, 101)
	k := startKubo(t)
	slow := throttle(t, strings.TrimPrefix(k.kubo.URL(), "http://"), 1_000_000)
	box := servers.NewMailbox(t)
	host, port, _ := net.SplitHostPort(slow.addr)
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: box.Addr, kubo: "/ip4/" + host + "/tcp/" + port, policy: "restore = false"})
	const pages = 340 // 20 MB
	before, taken := d.memory(t), slow.taken.Load()
	var most, ahead int64
	c := envelope(t, d.proxy)
	defer c.Close()
	must(t, c.Conn.(*net.TCPConn).SetWriteBuffer(64<<10))
	began := time.Now()
	m := numbered{0, pages}
	io.WriteString(c, m.head())
	for p := range pages {
		if _, err := io.WriteString(c, pageBase64); err != nil {
			t.Fatal(err)
		}
		ahead = max(ahead, int64(p+1)*int64(len(page))-(slow.taken.Load()-taken))
		most = max(most, d.memory(t)-before)
	}
	sent := time.Since(began)
	io.WriteString(c, m.tail()+".\r\n")
	if reply, err := c.Reply(); err != nil || !strings.HasPrefix(reply, "250 ") {
		t.Fatalf("got %q, %v", reply, err)
	}
	t.Logf("%d bytes at 1 MB/s: sent in %.1f s, answered after %.1f s; the sender was ahead by %d KiB at most, and detach grew by %d KiB",
		m.size(), sent.Seconds(), time.Since(began).Seconds(), ahead>>10, most>>10)
	if ahead > 8<<20 {
		t.Errorf("the sender was %d KiB ahead of the store", ahead>>10)
	}
	if most > 8<<20 {
		t.Errorf("detach grew by %d KiB", most>>10)
	}
}

// throttled is a way to a server that takes so many bytes a second and no more; back they come as they are.
type throttled struct {
	addr  string
	taken atomic.Int64
}

func throttle(t *testing.T, to string, perSecond int) *throttled {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	th := &throttled{addr: l.Addr().String()}
	var conns sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		conns.Wait()
	})
	conns.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { th.carry(from, to, perSecond) })
		}
	})
	return th
}

func (th *throttled) carry(from net.Conn, to string, perSecond int) {
	defer from.Close()
	back, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer back.Close()
	from.(*net.TCPConn).SetReadBuffer(64 << 10)
	go func() {
		io.Copy(from, back)
		from.Close()
	}()
	buf := make([]byte, perSecond/50)
	for {
		n, err := from.Read(buf)
		th.taken.Add(int64(n))
		time.Sleep(time.Duration(n) * time.Second / time.Duration(perSecond))
		if _, werr := back.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

var residentMemory = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// memory is what the running detach has now.
func (d *detach) memory(t *testing.T) int64 { return d.status(t, residentMemory) << 10 }

// status is a figure of /proc/PID/status.
func (d *detach) status(t *testing.T, figure *regexp.Regexp) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if os.IsNotExist(err) {
		t.Skip("no /proc here to ask for a process's memory")
	}
	must(t, err)
	m := figure.FindSubmatch(status)
	if m == nil {
		t.Fatalf("no %s in /proc/PID/status", figure)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	must(t, err)
	return n
}
