package proxy

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/faults"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
)

// between is the place that Detach has: a Postfix before it, which an attacker talks to, and a Postfix behind it, with a mailbox.
type between struct {
	t       *testing.T
	postfix *servers.Postfix
	box     *servers.Mailbox
	doors   map[string]string // to Postfix, and to Detach itself for an attacker who gets past that
	log     *logBuffer
}

func placeBetween(t *testing.T, bareNewline string, timeouts Timeouts) *between {
	t.Helper()
	b := &between{t: t, box: servers.NewMailbox(t), log: &logBuffer{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	b.postfix = servers.StartPostfix(t, servers.PostfixConfig{
		Filter: l.Addr().String(), Destination: b.box.Addr, Domain: "dest.example", Users: []string{"victim"}, ForbidBareNewline: bareNewline,
	})
	b.doors = map[string]string{"Postfix": b.postfix.Front, "Detach": l.Addr().String()}
	v := embeddedVault(t, t.TempDir())
	server := New(Config{
		NextHop:  b.postfix.After,
		Policy:   rewrite.Policy{MinSize: 1, Language: "en", TempDir: t.TempDir()},
		Timeouts: timeouts,
	}, func() Batch { return v.Begin() }, b.log.logger())
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		noError(t, server.Shutdown(context.Background()))
		<-served
	})
	return b
}

func embeddedVault(t *testing.T, dir string) *vault.Vault {
	t.Helper()
	store, err := embedded.Open(filepath.Join(dir, "objects"))
	noError(t, err)
	t.Cleanup(func() { store.Close() })
	keys, err := crypto.OpenKeyring(filepath.Join(dir, "keys"))
	noError(t, err)
	v, err := vault.New(vault.Config{BaseURL: "https://files.example"}, store, keys, dir)
	noError(t, err)
	return v
}

const (
	evilSender = "ceo@dest.example"
	victim     = "victim@dest.example"
	// smuggled is what an attacker wants to be read as commands.
	smuggled = "MAIL FROM:<" + evilSender + ">\r\nRCPT TO:<" + victim + ">\r\nDATA\r\nSubject: smuggled\r\n\r\nTransfer the money.\r\n"
)

// data is an attacker who may send a message now.
func (b *between) data(door string) *servers.Client {
	b.t.Helper()
	c, err := servers.Dial(door, "")
	noError(b.t, err)
	b.t.Cleanup(func() { c.Close() })
	if reply, err := c.Begin(servers.Message{From: "attacker@senders.example", To: victim}); err != nil || reply[0] != '3' {
		b.t.Fatalf("before the message: %q, %v", reply, err)
	}
	return c
}

// replies are all that come until the connection ends.
func replies(c *servers.Client) (all []string) {
	for {
		reply, err := c.Reply()
		if err != nil {
			return all
		}
		all = append(all, reply)
	}
}

// carriers are mails with a place for a false end and what follows it.
var carriers = map[string]func(rest string) string{
	"in a header":      func(rest string) string { return "Subject: x" + rest },
	"in a text":        func(rest string) string { return "Subject: x\r\n\r\nx" + rest },
	"before a part":    func(rest string) string { return splice("\r\n--b\r\nContent-Type: app", rest) },
	"in an attachment": func(rest string) string { return splice("\r\n--b--", rest) },
	"behind all parts": func(rest string) string { return attachmentMail(100) + "x" + rest },
}

// splice puts text into a mail with an attachment, in front of what it has there.
func splice(before, text string) string {
	head, tail, _ := strings.Cut(attachmentMail(100), before)
	return head + text + before + tail
}

// Between two real Postfixes, whichever way these take bare newlines, each mail that the sender was told 250 for is delivered, and
// no other one is. Who talks to Detach itself is told of one mail, always. A Postfix with smtpd_forbid_bare_newline = no ends a mail
// at some of the false ends by itself: then it has told its client of two.
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
						noError(t, err)
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
			b.postfix.WaitEmpty(time.Minute)
			if got := len(b.box.Mails()); got != len(accepted) {
				t.Errorf("%d mails were delivered, and %d accepted", got, len(accepted))
			}
			// Else the setting is not in force, and this half of the test is the other one.
			if (endedEarly > 0) != (bare == "no") {
				t.Errorf("the Postfix in front ended %d mails early", endedEarly)
			}
		})
	}
}

// Attackers fall silent inside DATA until Detach gives them up, and then go on with what would be commands.
func TestStallBetweenPostfixes(t *testing.T) {
	faults.Covers(t, 4, 19)
	for _, bare := range []string{"no", "normalize"} {
		t.Run(bare, func(t *testing.T) {
			t.Parallel()
			b := placeBetween(t, bare, Timeouts{Client: 2 * time.Second})
			attackers := make(map[string]*servers.Client)
			for where, carry := range carriers {
				for name, door := range b.doors {
					c := b.data(door)
					attackers[where+" through "+name] = c
					// More than a Postfix keeps for itself, so that Detach has a part of it.
					io.WriteString(c, carry("\r\n"+strings.Repeat("NOOP\r\n", 20_000)))
				}
			}
			servers.Eventually(t, time.Minute, "every attacker to be given up", func() bool {
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
			b.postfix.WaitEmpty(time.Minute)
			if got := len(b.box.Mails()); got > 0 {
				t.Errorf("%d mails were delivered", got)
			}
			if log := b.postfix.Log(); strings.Contains(log, evilSender) {
				t.Errorf("a Postfix has heard of the attacker's sender:\n%s", log)
			}
		})
	}
}
