package proxy

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/transaction/transactiontest"
)

// filtering is a mail server that, like Postfix with smtpd_proxy_filter, passes each command from
// MAIL or RCPT on to the filter at addr before it replies. opens is the command at which it
// connects.
type filtering struct {
	addr     string
	opens    string
	xforward bool
	sessions atomic.Int64
}

func (f *filtering) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		f.sessions.Add(1)
		go f.session(c)
	}
}

func (f *filtering) session(c net.Conn) {
	defer c.Close()
	in := newLines(c)
	var filter *lineConn
	var said []string // to repeat to the filter
	fmt.Fprint(c, "220 x ESMTP\r\n")
	for {
		line, err := in.next()
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch verb {
		case "EHLO":
			if said = append(said, line); f.xforward {
				fmt.Fprint(c, "250-x\r\n250 XFORWARD NAME ADDR PORT\r\n")
			} else {
				fmt.Fprint(c, "250 x\r\n")
			}
		case "QUIT":
			fmt.Fprint(c, "221 bye\r\n")
			return
		default:
			said = append(said, line)
			if filter == nil && verb == f.opens {
				conn, err := net.Dial("tcp", f.addr)
				if err != nil {
					fmt.Fprint(c, "451 no filter\r\n")
					continue
				}
				defer conn.Close()
				filter = newLines(conn)
				filter.next()
				for _, line := range said[:len(said)-1] {
					fmt.Fprint(conn, line+"\r\n")
					filter.reply()
				}
			}
			reply := "250 ok"
			if filter != nil {
				fmt.Fprint(filter.Conn, line+"\r\n")
				reply = filter.reply()
			}
			fmt.Fprint(c, reply+"\r\n")
		}
	}
}

// A next hop that is ourselves costs at most three sessions, and the client keeps its mail.
func TestNextHopThatIsOurselvesCostsFewSessions(t *testing.T) {
	faults.Covers(t, 36)
	for _, opens := range []string{"MAIL", "RCPT"} {
		for _, xforward := range []bool{true, false} {
			behind, err := net.Listen("tcp", "127.0.0.1:0")
			must.Succeed(t, err)
			defer behind.Close()
			ours, err := net.Listen("tcp", "127.0.0.1:0")
			must.Succeed(t, err)
			cfg := Config{NextHop: behind.Addr().String(), Mail: detach(&transactiontest.Store{}, 1, t.TempDir())}
			server := New(cfg, slog.New(slog.DiscardHandler))
			server.claims.wait = time.Millisecond
			go server.Serve(ours)
			f := &filtering{addr: ours.Addr().String(), opens: opens, xforward: xforward}
			go f.serve(behind)

			c, err := net.Dial("tcp", ours.Addr().String())
			must.Succeed(t, err)
			client := newLines(c)
			client.reply()
			var last string
			for _, line := range []string{"EHLO front.example", "XFORWARD NAME=a ADDR=192.0.2.1", "XFORWARD PORT=4711", "MAIL FROM:<a@x> SIZE=100", "RCPT TO:<b@y>"} {
				if !xforward && strings.HasPrefix(line, "XFORWARD") {
					continue
				}
				fmt.Fprint(c, line+"\r\n")
				if last = client.reply(); last[0] != '2' {
					break
				}
			}
			want := int64(2) // ours to the next hop, and the one that found the loop
			if !xforward {
				want = 3
			}
			if n := f.sessions.Load(); !strings.HasPrefix(last, "451 4.4.6 ") || n > want {
				t.Errorf("connects at %s, XFORWARD %v: %q after %d sessions, want 451 4.4.6 after %d", opens, xforward, last, n, want)
			}
			c.Close()
			must.Succeed(t, server.Shutdown(t.Context()))
		}
	}
}

// Honest mails of one sender to one recipient wait together for a slow next hop.
func TestParallelMailsAreNoLoop(t *testing.T) {
	at := func(began, since int64, origin string) *claim {
		return &claim{began: epoch(began), since: epoch(since), origin: origin, command: "a RCPT TO:<b>"}
	}
	for name, c := range map[string]struct {
		waiting []*claim
		next    *claim
		loop    bool
	}{
		"together":                 {[]*claim{at(1, 10, ""), at(2, 11, ""), at(3, 12, "")}, at(4, 13, ""), false},
		"one within another":       {[]*claim{at(1, 2, "")}, at(3, 4, ""), false},
		"a nest of three":          {[]*claim{at(1, 2, ""), at(3, 4, "")}, at(5, 6, ""), true},
		"clients of other ports":   {[]*claim{at(1, 2, "x 1"), at(3, 4, "x 2")}, at(5, 6, "x 3"), false},
		"the same connection":      {[]*claim{at(1, 2, "x 1")}, at(3, 4, "x 1"), true},
		"the same one, not inside": {[]*claim{at(1, 4, "x 1")}, at(3, 5, "x 1"), false},
		"with and without":         {[]*claim{at(1, 2, ""), at(3, 4, "x 1")}, at(5, 6, ""), false},
	} {
		var s claims
		for _, w := range c.waiting {
			if s.add(w) {
				t.Errorf("%s: a waiting one is taken for a loop", name)
			}
		}
		if got := s.add(c.next); got != c.loop {
			t.Errorf("%s: loop %v, want %v", name, got, c.loop)
		}
		for _, w := range append(c.waiting, c.next) {
			s.remove(w)
		}
		if len(s.all) > 0 {
			t.Errorf("%s: %d claims are left", name, len(s.all))
		}
	}
}

// A session that looks like a loop goes on when the mail before it has its reply: in a loop it never
// has.
func TestAlikeMailsWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, origin := range []string{"", "192.0.2.1 4711"} { // after the queue, mails of one connection come together
			s := claims{wait: loopWait}
			var wg sync.WaitGroup
			start := time.Now()
			for range 60 {
				time.Sleep(30 * time.Millisecond)
				c := &claim{began: time.Now(), origin: origin, command: "a RCPT TO:<b>"}
				wg.Go(func() {
					time.Sleep(time.Millisecond)
					if s.add(c) {
						t.Errorf("origin %q: taken for a loop", origin)
					}
					time.Sleep(time.Second) // the next hop replies
					s.remove(c)
				})
			}
			wg.Wait()
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("origin %q: took %v", origin, took)
			}
		}
		s := claims{wait: loopWait}
		s.add(&claim{began: epoch(1), since: epoch(2), origin: "x 1"})
		start := time.Now()
		if !s.add(&claim{began: epoch(3), origin: "x 1"}) || time.Since(start) != loopWait {
			t.Errorf("a loop is not found after %v", loopWait)
		}
	})
}

// epoch is a moment of a test.
func epoch(seconds int64) time.Time { return time.Unix(seconds, 0) }

// lineConn is a connection that is read line by line.
type lineConn struct {
	net.Conn
	r *bufio.Reader
}

func newLines(c net.Conn) *lineConn { return &lineConn{c, bufio.NewReader(c)} }

func (l *lineConn) next() (string, error) {
	line, err := l.r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// reply returns the last line of a reply.
func (l *lineConn) reply() string {
	for {
		line, err := l.next()
		if err != nil {
			return "421 closed"
		}
		if len(line) < 4 || line[3] != '-' {
			return line
		}
	}
}

// A client cannot make the envelope grow without end.
func TestRecipientsAreBounded(t *testing.T) {
	faults.Covers(t, 101)
	r := newRig(t)
	c := r.greeted()
	c.want("MAIL FROM:<a@example.org>", "250")
	n := 0
	for ; n < 1000; n++ {
		c.send(fmt.Sprintf("RCPT TO:<%0500d@example.org>\r\n", n))
		if c.reply()[0] != '2' {
			break
		}
	}
	if n < 100 || n > maxRecipientBytes/500 {
		t.Errorf("%d recipients of 500 bytes were accepted", n)
	}
	c.want("RCPT TO:<b@example.org>", "452 4.5.3 ")
	c.data(plainMail, "250")
	r.wantDelivered(1)
}
