package proxy

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/transaction/transactiontest"
)

// between is Detach with a Postfix in front, and one behind that delivers to a mailbox.
type between struct {
	t       *testing.T
	postfix *servers.Postfix
	box     *servers.Mailbox
	doors   map[string]string // addresses that attackers talk to: the Postfix in front, and Detach
	log     *logBuffer
}

func placeBetween(t *testing.T, bareNewline string, timeouts Timeouts) *between {
	t.Helper()
	b := &between{t: t, box: servers.NewMailbox(t), log: &logBuffer{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	b.postfix = servers.StartPostfix(t, servers.PostfixConfig{
		Filter: l.Addr().String(), Destination: b.box.Addr, Domain: "dest.example", Users: []string{"victim"}, ForbidBareNewline: bareNewline,
	})
	b.doors = map[string]string{"Postfix": b.postfix.Front, "Detach": l.Addr().String()}
	server := New(Config{
		NextHop:  b.postfix.After,
		Mail:     detach(&transactiontest.Store{}, 1, t.TempDir()),
		Timeouts: timeouts,
	}, b.log.logger())
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		must.Succeed(t, server.Shutdown(context.Background()))
		<-served
	})
	return b
}

const (
	evilSender = "ceo@dest.example"
	victim     = "victim@dest.example"
	// smuggled is text that an attacker wants to be read as commands.
	smuggled = "MAIL FROM:<" + evilSender + ">\r\nRCPT TO:<" + victim + ">\r\nDATA\r\nSubject: smuggled\r\n\r\nTransfer the money.\r\n"
)

// data returns an attacker's connection that expects a message.
func (b *between) data(door string) *servers.Client {
	b.t.Helper()
	c, err := servers.Dial(door, "")
	must.Succeed(b.t, err)
	b.t.Cleanup(func() { c.Close() })
	if reply, err := c.Begin(servers.Message{From: "attacker@senders.example", To: victim}); err != nil || reply[0] != '3' {
		b.t.Fatalf("before the message: %q, %v", reply, err)
	}
	return c
}

// replies reads all replies until the connection ends.
func replies(c *servers.Client) (all []string) {
	for {
		reply, err := c.Reply()
		if err != nil {
			return all
		}
		all = append(all, reply)
	}
}

// carriers are mails with a place for a false end and the text that follows it.
var carriers = map[string]func(rest string) string{
	"in a header":      func(rest string) string { return "Subject: x" + rest },
	"in a text":        func(rest string) string { return "Subject: x\r\n\r\nx" + rest },
	"before a part":    func(rest string) string { return splice("\r\n--b\r\nContent-Type: app", rest) },
	"in an attachment": func(rest string) string { return splice("\r\n--b--", rest) },
	"after all parts":  func(rest string) string { return attachmentMail(100) + "x" + rest },
}

// splice puts text into a mail with an attachment, in front of before.
func splice(before, text string) string {
	head, tail, _ := strings.Cut(attachmentMail(100), before)
	return head + text + before + tail
}

// Between two real Postfixes, with either setting for bare newlines, every mail that the sender got
// a 250 for is delivered, and no other mail. A client of Detach always gets one 250. A client of a
// Postfix with smtpd_forbid_bare_newline = no gets two where Postfix ends a mail at a false end.
func TestSmugglingBetweenPostfixes(t *testing.T) {
	faults.Covers(t, 2, 3, 37)
	for _, bare := range []string{"no", "normalize"} {
		t.Run(bare, func(t *testing.T) {
			t.Parallel()
			b := placeBetween(t, bare, Timeouts{})
			accepted := make(map[string]bool)
			endedEarly := 0
			for where, carry := range carriers {
				for _, end := range falseEnds {
					for name, door := range b.doors {
						c := b.data(door)
						_, err := io.WriteString(c, carry(end+smuggled)+".\r\nQUIT\r\n")
						must.Succeed(t, err)
						n := 0
						for _, reply := range replies(c) {
							if id := servers.QueueID(reply); id != "" {
								accepted[id] = true
								n++
							}
						}
						if n == 2 && name == "Postfix" && bare == "no" {
							endedEarly++
						} else if n != 1 {
							t.Errorf("%s, %q through %s: %d mails were accepted, want one", where, end, name, n)
						}
					}
				}
			}
			for id := range accepted {
				b.box.Wait(t, id)
			}
			b.postfix.WaitEmpty(servers.Patience)
			if got := len(b.box.Mails()); got != len(accepted) {
				t.Errorf("%d mails were delivered, and %d accepted", got, len(accepted))
			}
			// Otherwise the setting has no effect, and both halves of the test do the same.
			if (endedEarly > 0) != (bare == "no") {
				t.Errorf("the Postfix in front ended %d mails early", endedEarly)
			}
		})
	}
}

// Attackers fall silent in DATA until Detach gives them up, and then send text like commands.
func TestStallBetweenPostfixes(t *testing.T) {
	faults.Covers(t, 4, 19)
	for _, bare := range []string{"no", "normalize"} {
		t.Run(bare, func(t *testing.T) {
			t.Parallel()
			b := placeBetween(t, bare, Timeouts{Client: 10 * time.Second})
			attackers := make(map[string]*servers.Client)
			for where, carry := range carriers {
				for name, door := range b.doors {
					c := b.data(door)
					attackers[where+" through "+name] = c
					// More than Postfix buffers, so that Detach gets a part of it.
					io.WriteString(c, carry("\r\n"+strings.Repeat("NOOP\r\n", 20_000)))
				}
			}
			servers.Eventually(t, servers.Patience, "Detach to give up every attacker", func() bool {
				return strings.Count(b.log.String(), " reply=421 ") == len(attackers)
			})
			var wg sync.WaitGroup
			for what, c := range attackers {
				wg.Go(func() {
					io.WriteString(c, smuggled+".\r\nQUIT\r\n")
					for _, reply := range replies(c) {
						if reply[0] != '4' && !strings.HasPrefix(reply, "221 ") {
							t.Errorf("%s: got %q", what, reply)
						}
					}
				})
			}
			wg.Wait()
			b.postfix.WaitEmpty(servers.Patience)
			if got := len(b.box.Mails()); got > 0 {
				t.Errorf("%d mails were delivered", got)
			}
			if log := b.postfix.Log(); strings.Contains(log, evilSender) {
				t.Errorf("a Postfix has heard of the attacker's sender:\n%s", log)
			}
		})
	}
}
